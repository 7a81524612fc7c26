//! A server in memory that can be told to misbehave, and ways to look at what became of it.
//!
//! Every call to it follows a [`Step`]: how often it is pending, how long it takes, whether its reply is lost. A
//! [`Flaw`] breaks one promise of a backend, so that a test can show that its check would notice.

#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use turnstile_core::{
    BackendError, Backoff, Clock, ErrorKind, FencingToken, GrantReply, GrantRequest, LeaseBackend, LeaseManager,
    LeaseOptions, ManagedLock, Owner, ReleaseOutcome, ReleaseReply, RenewReply, Renewal, Resource, TokioClock,
};

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// A name, held by one or shared by many.
#[derive(Clone, Debug)]
pub struct Thing {
    name: Arc<str>,
    queue: Arc<str>,
    shared: bool,
}

impl Thing {
    pub fn exclusive(name: &str) -> Self {
        Self { name: name.into(), queue: name.into(), shared: false }
    }

    pub fn shared(name: &str) -> Self {
        Self { shared: true, ..Self::exclusive(name) }
    }

    pub fn in_queue(self, queue: &str) -> Self {
        Self { queue: queue.into(), ..self }
    }
}

impl Resource for Thing {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn queue(&self) -> &Arc<str> {
        &self.queue
    }

    fn is_exclusive(&self) -> bool {
        !self.shared
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Grant,
    Renew,
    Release,
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub struct Step {
    pends: usize,
    takes: Duration,
    act: Act,
    reply_pends: usize,
    reply_takes: Duration,
}

#[derive(Clone, Debug)]
enum Act {
    Serve,
    LoseReply,
    Refuse,
    Fail(ErrorKind),
    Panic,
}

impl Step {
    const fn of(act: Act) -> Self {
        Self { pends: 0, takes: Duration::ZERO, act, reply_pends: 0, reply_takes: Duration::ZERO }
    }

    /// Carried out and answered.
    pub const fn serve() -> Self {
        Self::of(Act::Serve)
    }

    /// Carried out, but the answer is lost.
    pub const fn lose_reply() -> Self {
        Self::of(Act::LoseReply)
    }

    /// A grant that is refused.
    pub const fn refuse() -> Self {
        Self::of(Act::Refuse)
    }

    /// Not carried out.
    pub const fn fail(kind: ErrorKind) -> Self {
        Self::of(Act::Fail(kind))
    }

    /// A bug of the strategy.
    pub const fn panic() -> Self {
        Self::of(Act::Panic)
    }

    /// Pending for that many polls on the way there.
    pub const fn pends(mut self, times: usize) -> Self {
        self.pends = times;
        self
    }

    /// Pending for that many polls on the way back.
    pub const fn reply_pends(mut self, times: usize) -> Self {
        self.reply_pends = times;
        self
    }

    /// That long on the way there.
    pub const fn takes(mut self, time: Duration) -> Self {
        self.takes = time;
        self
    }

    /// That long on the way back.
    pub const fn reply_takes(mut self, time: Duration) -> Self {
        self.reply_takes = time;
        self
    }
}

/// A promise of [`LeaseBackend`] that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A renewal brings back what is gone.
    RenewRecreates,
    /// A grant that is asked for again is a new one.
    ForgetsOwner,
    /// The local deadline leaves no room for drift.
    NoDrift,
    /// A release never says that others want it.
    NeverWanted,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub at: Duration,
    pub op: Op,
    pub owner: Owner,
    /// In one round trip with others.
    pub batch: usize,
}

struct Held {
    owner: Owner,
    shared: bool,
    first_token: u64,
    until: Duration,
}

#[derive(Default)]
struct Key {
    held: Vec<Held>,
    tokens: u64,
    grants: u64,
    wanted: Option<(Owner, Duration)>,
}

struct State {
    clock: TokioClock,
    keys: HashMap<Arc<str>, Key>,
    calls: Vec<Call>,
    batches: usize,
    script: HashMap<Op, VecDeque<Step>>,
    always: HashMap<Op, Step>,
    flaws: Vec<Flaw>,
}

impl State {
    fn key(&mut self, thing: &Thing) -> (&mut Key, Duration) {
        let now = self.clock.now();
        let key = self.keys.entry(thing.queue.clone()).or_default();
        key.held.retain(|held| held.until > now);
        (key, now)
    }

    fn grant(&mut self, request: &GrantRequest<'_, Thing>) -> GrantReply {
        let forgets = self.flaws.contains(&Flaw::ForgetsOwner);
        let (key, now) = self.key(request.resource);
        let shared = request.resource.shared;
        let until = now + request.ttl;
        if let Some(held) = key.held.iter_mut().find(|held| held.owner == request.owner) {
            held.until = until;
            if !forgets {
                return GrantReply::Granted { first_token: FencingToken::new(held.first_token) };
            }
            key.held.retain(|held| held.owner != request.owner);
        }
        if let Some(last) = key.held.iter().filter(|held| !held.shared || !shared).map(|held| held.until).max() {
            if let Some(time) = request.asks_again_within {
                key.wanted = Some((request.owner, now + time));
            }
            return GrantReply::Refused { ends_within: Some(last - now), ahead: None };
        }
        key.wanted = key.wanted.filter(|&(owner, _)| owner != request.owner);
        let first_token = key.tokens + 1;
        key.tokens += u64::from(request.tokens.get());
        key.grants += 1;
        key.held.push(Held { owner: request.owner, shared, first_token, until });
        GrantReply::Granted { first_token: FencingToken::new(first_token) }
    }

    fn renew(&mut self, renewal: &Renewal<Thing>) -> RenewReply {
        let recreates = self.flaws.contains(&Flaw::RenewRecreates);
        let (key, now) = self.key(&renewal.resource);
        let until = now + renewal.ttl;
        match key.held.iter_mut().find(|held| held.owner == renewal.owner) {
            Some(held) => held.until = until,
            None if recreates => {
                let shared = renewal.resource.shared;
                key.held.push(Held { owner: renewal.owner, shared, first_token: key.tokens, until });
            }
            None => return RenewReply::NotHeld,
        }
        RenewReply::Renewed
    }

    fn release(&mut self, thing: &Thing, owner: Owner) -> ReleaseReply {
        let never_wanted = self.flaws.contains(&Flaw::NeverWanted);
        let (key, now) = self.key(thing);
        let before = key.held.len();
        key.held.retain(|held| held.owner != owner);
        let outcome = match (before, key.held.len()) {
            (before, after) if after < before => ReleaseOutcome::Released,
            (0, _) => ReleaseOutcome::AlreadyExpired,
            _ => ReleaseOutcome::TakenOver,
        };
        let wanted = key.wanted.filter(|_| !never_wanted).and_then(|(_, until)| until.checked_sub(now));
        ReleaseReply::new(outcome, wanted.filter(|time| !time.is_zero()))
    }
}

/// The server. Clones are the same.
#[derive(Clone)]
pub struct Server(Arc<Mutex<State>>);

impl Server {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            clock: TokioClock::new(),
            keys: HashMap::new(),
            calls: Vec::new(),
            batches: 0,
            script: HashMap::new(),
            always: HashMap::new(),
            flaws: Vec::new(),
        })))
    }

    pub fn with_flaw(flaw: Flaw) -> Self {
        let server = Self::new();
        server.0.lock().unwrap().flaws.push(flaw);
        server
    }

    pub fn manager(&self) -> LeaseManager<Self> {
        LeaseManager::with_clock(self.clone(), TokioClock::new())
    }

    pub fn lock(&self, name: &str, options: LeaseOptions) -> ManagedLock<Self> {
        self.manager().lock(Thing::exclusive(name), options)
    }

    /// The next calls of that sort go like this.
    pub fn script(&self, op: Op, steps: impl IntoIterator<Item = Step>) {
        self.0.lock().unwrap().script.entry(op).or_default().extend(steps);
    }

    /// From now on, calls of that sort for which there is no script go like this.
    pub fn always(&self, op: Op, step: Step) {
        self.0.lock().unwrap().always.insert(op, step);
    }

    /// From now on, everything goes like this.
    pub fn all(&self, step: &Step) {
        self.0.lock().unwrap().script.clear();
        for op in [Op::Grant, Op::Renew, Op::Release] {
            self.always(op, step.clone());
        }
    }

    /// Takes `name` from whoever holds it.
    pub fn revoke(&self, name: &str) {
        self.0.lock().unwrap().keys.entry(name.into()).or_default().held.clear();
    }

    /// Who holds `name` on the server.
    pub fn holders(&self, name: &str) -> Vec<Owner> {
        let mut state = self.0.lock().unwrap();
        let (key, _) = state.key(&Thing::exclusive(name));
        key.held.iter().map(|held| held.owner).collect()
    }

    /// How often `name` was granted anew.
    pub fn grants(&self, name: &str) -> u64 {
        self.0.lock().unwrap().keys.get(name).map_or(0, |key| key.grants)
    }

    /// How many tokens of `name` were reserved.
    pub fn tokens(&self, name: &str) -> u64 {
        self.0.lock().unwrap().keys.get(name).map_or(0, |key| key.tokens)
    }

    /// Every call so far, of one sort.
    pub fn calls(&self, op: Op) -> Vec<Call> {
        self.0.lock().unwrap().calls.iter().filter(|call| call.op == op).cloned().collect()
    }

    /// How many managers, leases and background tasks there are.
    pub fn users(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    fn called(&self, op: Op, owners: impl IntoIterator<Item = Owner>) -> Step {
        let mut state = self.0.lock().unwrap();
        let at = state.clock.now();
        state.batches += 1;
        let batch = state.batches;
        state.calls.extend(owners.into_iter().map(|owner| Call { at, op, owner, batch }));
        let next = state.script.get_mut(&op).and_then(VecDeque::pop_front);
        next.or_else(|| state.always.get(&op).cloned()).unwrap_or(Step::serve())
    }

    async fn perform<T>(
        &self,
        step: Step,
        refused: Option<T>,
        act: impl FnOnce(&mut State) -> T,
    ) -> Result<T, BackendError> {
        pends(step.pends).await;
        nap(step.takes).await;
        let reply = match step.act {
            Act::Serve => Ok(act(&mut self.0.lock().unwrap())),
            Act::LoseReply => {
                act(&mut self.0.lock().unwrap());
                Err(BackendError::new(ErrorKind::TimedOut, "the reply was lost"))
            }
            Act::Refuse => refused.ok_or_else(|| BackendError::new(ErrorKind::Other, "only grants are refused")),
            Act::Fail(kind) => Err(BackendError::new(kind, format!("{kind:?}"))),
            Act::Panic => panic!("a bug of the strategy"),
        };
        pends(step.reply_pends).await;
        nap(step.reply_takes).await;
        reply
    }
}

#[async_trait]
impl LeaseBackend for Server {
    type Resource = Thing;
    const STRATEGY: &'static str = "test";

    async fn grant(&self, request: GrantRequest<'_, Thing>) -> Result<GrantReply, BackendError> {
        let step = self.called(Op::Grant, [request.owner]);
        let refused = GrantReply::Refused { ends_within: None, ahead: None };
        self.perform(step, Some(refused), |state| state.grant(&request)).await
    }

    async fn renew(&self, leases: &[Renewal<Thing>]) -> Vec<Result<RenewReply, BackendError>> {
        let step = self.called(Op::Renew, leases.iter().map(|renewal| renewal.owner));
        let renew = |state: &mut State| leases.iter().map(|renewal| state.renew(renewal)).collect::<Vec<_>>();
        match self.perform(step, None, renew).await {
            Ok(replies) => replies.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); leases.len()],
        }
    }

    async fn release(&self, thing: &Thing, owner: Owner) -> Result<ReleaseReply, BackendError> {
        let step = self.called(Op::Release, [owner]);
        self.perform(step, None, |state| state.release(thing, owner)).await
    }

    fn drift(&self, ttl: Duration) -> Duration {
        if self.0.lock().unwrap().flaws.contains(&Flaw::NoDrift) { Duration::ZERO } else { ttl / 100 + 2 * MS }
    }
}

/// Pending for that many polls.
pub async fn pends(mut times: usize) {
    poll_fn(|cx| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn nap(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Options of that time to live, with short, short retries.
pub fn ttl(ttl: Duration) -> LeaseOptions {
    LeaseOptions::new(ttl).unwrap().retry(Backoff::new(MS, 8 * MS))
}

/// Polls once.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Lets other tasks go on, without moving time.
pub async fn yield_all() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// Moves the paused clock, timer by timer.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
    yield_all().await;
}
