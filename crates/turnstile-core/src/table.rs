//! The state that all tasks of a manager share: the local queues, the leases held, and when each wants attention.
//!
//! Everything here is a short step under one mutex and never waits. The futures around it are in `manager` (callers)
//! and `keeper` (time and clean-up).
//!
//! A **queue** exists while somebody is at its front: asking the servers, or holding an exclusive lease. Whoever
//! leaves the front passes it to the next in line, or removes the queue. A **tenure** is what the servers granted; with
//! hand-overs in memory it serves several **holds** one after the other, each with a token and a latch of its own.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hashbrown::HashMap;
use hashbrown::hash_map::{Entry, EntryRef};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::latch::Latch;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::{BackendError, FencingToken, LeaseOptions, LostReason, Owner, RenewReply, Renewal, Resource};

/// A moment of the manager's clock, in nanoseconds.
pub(crate) type Nanos = u64;

/// Clean-up that goes on in the background.
pub(crate) type Chore = BoxFuture<'static, ()>;

/// What one holder has: its token, its latch, and its deadline as the keeper last moved it.
pub(crate) struct Hold {
    pub(crate) tenure: u64,
    pub(crate) name: Arc<str>,
    pub(crate) owner: Owner,
    pub(crate) token: FencingToken,
    pub(crate) latch: Latch,
    deadline: AtomicU64,
}

impl Hold {
    fn new(tenure: u64, name: Arc<str>, owner: Owner, token: u64, deadline: Nanos) -> Arc<Self> {
        let token = FencingToken::new(token);
        Arc::new(Self { tenure, name, owner, token, latch: Latch::new(), deadline: AtomicU64::new(deadline) })
    }

    pub(crate) fn deadline(&self) -> Nanos {
        self.deadline.load(Ordering::Acquire)
    }
}

/// What the servers granted to one owner.
struct Tenure<R> {
    resource: R,
    options: Arc<LeaseOptions>,
    hold: Arc<Hold>,
    granted_at: Nanos,
    /// The tokens that are left for hand-overs.
    tokens: std::ops::Range<u64>,
    /// When the keeper looks at it next: its place in the agenda.
    due: Nanos,
    /// Whether its holder stands at the front of its queue.
    at_front: bool,
}

/// A grant, as the servers and the local clock have it.
pub(crate) struct Granted<R> {
    pub(crate) resource: R,
    pub(crate) owner: Owner,
    pub(crate) options: Arc<LeaseOptions>,
    pub(crate) tokens: std::ops::Range<u64>,
    pub(crate) sent: Nanos,
    pub(crate) now: Nanos,
    pub(crate) deadline: Nanos,
    /// Whether the caller stands at the front of the queue.
    pub(crate) at_front: bool,
}

/// What a waiter in a queue is told.
pub(crate) enum Turn {
    /// Ask the servers, after a while: a waiter of another process goes first.
    Ask {
        after: Duration,
    },
    /// Here it is, from another task of this process.
    Handed(Arc<Hold>),
    /// The one before found the servers failing.
    Failed(BackendError),
    ShutDown,
}

struct Waiter<R> {
    ticket: u64,
    resource: R,
    options: Arc<LeaseOptions>,
    turn: oneshot::Sender<Turn>,
}

struct Queue<R> {
    waiting: VecDeque<Waiter<R>>,
    /// Wakes the one at the front early, when a lease of this queue was released in this process. Made when needed.
    poke: Option<Arc<Notify>>,
    /// What the servers said last: held by another, or a failure. `None` as long as they said nothing.
    heard: Option<Result<(), BackendError>>,
}

/// How one enters a queue.
pub(crate) enum Entered {
    /// At the front: ask the servers.
    Front,
    /// Behind others.
    Behind {
        ticket: u64,
        turn: oneshot::Receiver<Turn>,
    },
    /// Not in the queue: the caller does not wait and its lease excludes no other, or the servers keep the queue.
    Beside,
    /// Behind others, which was not wanted.
    Busy,
    ShutDown,
}

/// What is left to do for a hold that was given up.
pub(crate) enum GivenUp<R> {
    /// Nothing: the next task of this process has it.
    HandedOver,
    /// To release it on the servers, until `until`. `lost` says why it was not held any more, if so, and `unnoticed`
    /// that nobody was told before.
    Remote { resource: R, owner: Owner, until: Nanos, lost: Option<LostReason>, unnoticed: bool, at_front: bool },
}

/// What the keeper has to do now.
pub(crate) struct Due<R> {
    pub(crate) renewals: Vec<(u64, Renewal<R>)>,
    pub(crate) chores: Vec<Chore>,
    pub(crate) expired: Vec<Arc<Hold>>,
    /// When to look again.
    pub(crate) next: Nanos,
    /// Nothing is held, asked for or left to clean up.
    pub(crate) idle: bool,
}

struct Inner<R> {
    queues: HashMap<Arc<str>, Queue<R>>,
    tenures: HashMap<u64, Tenure<R>>,
    agenda: BTreeSet<(Nanos, u64)>,
    chores: Vec<Chore>,
    last_id: u64,
    closing: bool,
    /// When the keeper looks next by itself.
    keeper_wakes: Nanos,
}

pub(crate) struct Table<R> {
    inner: Mutex<Inner<R>>,
    keeper_alive: AtomicBool,
    /// Wakes the keeper.
    pub(crate) wake: Notify,
    /// Nobody is granted anything any more.
    pub(crate) closed: CancellationToken,
}

impl<R: Resource> Table<R> {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            queues: HashMap::new(),
            tenures: HashMap::new(),
            agenda: BTreeSet::new(),
            chores: Vec::new(),
            last_id: 0,
            closing: false,
            keeper_wakes: Nanos::MAX,
        };
        Self {
            inner: Mutex::new(inner),
            keeper_alive: AtomicBool::new(false),
            wake: Notify::new(),
            closed: CancellationToken::new(),
        }
    }

    // ── Queues ──────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Enters the queue of `resource`.
    pub(crate) fn enter(&self, resource: &R, options: &Arc<LeaseOptions>, wait: bool) -> Entered {
        let mut inner = self.inner.lock();
        if inner.closing {
            return Entered::ShutDown;
        }
        if !resource.has_local_queue() {
            return Entered::Beside;
        }
        inner.last_id += 1;
        let ticket = inner.last_id;
        match inner.queues.entry(resource.queue().clone()) {
            Entry::Vacant(place) => {
                place.insert(Queue { waiting: VecDeque::new(), poke: None, heard: None });
                Entered::Front
            }
            Entry::Occupied(_) if !wait && resource.is_exclusive() => Entered::Busy,
            Entry::Occupied(_) if !wait => Entered::Beside,
            Entry::Occupied(mut queue) => {
                let (tell, turn) = oneshot::channel();
                let waiter = Waiter { ticket, resource: resource.clone(), options: options.clone(), turn: tell };
                queue.get_mut().waiting.push_back(waiter);
                Entered::Behind { ticket, turn }
            }
        }
    }

    /// Leaves from the middle of a queue; false when the turn was told already.
    pub(crate) fn leave(&self, queue: &str, ticket: u64) -> bool {
        let mut inner = self.inner.lock();
        let Some(queue) = inner.queues.get_mut(queue) else { return false };
        match queue.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
            Ok(place) => queue.waiting.remove(place).is_some(),
            Err(_) => false,
        }
    }

    /// Leaves the front of a queue to the next in line.
    pub(crate) fn pass_front(&self, queue: &str, after: Duration) {
        self.inner.lock().pass_front(queue, after);
    }

    /// Leaves the front of a queue, and tells all behind that the servers fail.
    pub(crate) fn fail_queue(&self, queue: &str, error: &BackendError) {
        let Some(queue) = self.inner.lock().queues.remove(queue) else { return };
        for waiter in queue.waiting {
            let _ = waiter.turn.send(Turn::Failed(error.clone()));
        }
    }

    /// Whether others wait behind the front.
    pub(crate) fn others_wait(&self, queue: &str) -> bool {
        self.inner.lock().queues.get(queue).is_some_and(|queue| !queue.waiting.is_empty())
    }

    /// What wakes the front early.
    pub(crate) fn poke(&self, queue: &str) -> Arc<Notify> {
        let mut inner = self.inner.lock();
        let queue = inner.queues.get_mut(queue);
        queue.map(|queue| queue.poke.get_or_insert_default().clone()).unwrap_or_default()
    }

    /// Notes what the servers said to the front, for those whose time runs out.
    pub(crate) fn note(&self, queue: &str, heard: Result<(), BackendError>) {
        if let Some(queue) = self.inner.lock().queues.get_mut(queue) {
            queue.heard = Some(heard);
        }
    }

    /// What the servers said last to the front of a queue.
    pub(crate) fn heard(&self, queue: &str) -> Option<Result<(), BackendError>> {
        self.inner.lock().queues.get(queue)?.heard.clone()
    }

    // ── Leases ──────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Makes a lease of what was granted. One at the front stays there if the lease is exclusive, or else passes it on.
    pub(crate) fn granted(&self, grant: Granted<R>) -> Arc<Hold> {
        let mut inner = self.inner.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        let Granted { resource, owner, options, mut tokens, sent, now, deadline, at_front } = grant;
        let token = tokens.next().unwrap_or_default();
        let hold = Hold::new(id, resource.name().clone(), owner, token, deadline);
        let due = first_due(&options, sent, deadline);
        if let Some(queue) = inner.queues.get_mut(&**resource.queue()) {
            queue.heard = Some(Ok(()));
        }
        if at_front && !resource.is_exclusive() {
            inner.pass_front(resource.queue(), Duration::ZERO);
        }
        let at_front = at_front && resource.is_exclusive();
        inner.agenda.insert((due, id));
        let granted_at = now;
        let tenure = Tenure { resource, options, hold: hold.clone(), granted_at, tokens, due, at_front };
        inner.tenures.insert(id, tenure);
        let early = due < inner.keeper_wakes;
        inner.keeper_wakes = inner.keeper_wakes.min(due);
        drop(inner);
        if early {
            self.wake.notify_one();
        }
        hold
    }

    /// Ends a hold: to the next waiter of this process where that is right, else to be released on the servers.
    /// `None` when it had been given up before.
    pub(crate) fn give_up(&self, hold: &Hold, now: Nanos) -> Option<GivenUp<R>> {
        let mut inner = self.inner.lock();
        let until = hold.deadline();
        let unnoticed = now >= until && hold.latch.trip(LostReason::Expired);
        let lost = if hold.latch.trip(LostReason::Released) { None } else { hold.latch.reason() };
        let mut tenure = inner.tenures.remove(&hold.tenure)?;
        inner.agenda.remove(&(tenure.due, hold.tenure));

        if lost.is_none() && tenure.at_front && inner.hand_over(hold, &mut tenure, now) {
            inner.agenda.insert((tenure.due, hold.tenure));
            inner.tenures.insert(hold.tenure, tenure);
            return Some(GivenUp::HandedOver);
        }
        let Tenure { resource, at_front, .. } = tenure;
        Some(GivenUp::Remote { resource, owner: hold.owner, until, lost, unnoticed, at_front })
    }

    /// After a release on the servers: the next in line may ask, `after` a while.
    pub(crate) fn released(&self, resource: &R, at_front: bool, after: Duration) {
        let mut inner = self.inner.lock();
        if at_front {
            inner.pass_front(resource.queue(), after);
        } else if let Some(Queue { poke: Some(poke), .. }) = inner.queues.get(&**resource.queue()) {
            poke.notify_one();
        }
    }

    // ── The keeper ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// Whether a keeper has to be started: true for the first who asks while there is none. Ask after whatever it is
    /// needed for is in the table.
    pub(crate) fn needs_keeper(&self) -> bool {
        !self.has_keeper() && !self.keeper_alive.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn has_keeper(&self) -> bool {
        self.keeper_alive.load(Ordering::Acquire)
    }

    /// The keeper ends, if nothing is left to do.
    pub(crate) fn keeper_may_end(&self) -> bool {
        let inner = self.inner.lock();
        let idle = inner.is_idle();
        self.keeper_alive.store(!idle, Ordering::Release);
        idle
    }

    /// The keeper could not start, or its runtime went away.
    pub(crate) fn no_keeper(&self) {
        let mut inner = self.inner.lock();
        inner.keeper_wakes = Nanos::MAX;
        self.keeper_alive.store(false, Ordering::Release);
    }

    /// Leaves clean-up to the keeper.
    pub(crate) fn add_chore(&self, chore: Chore) {
        self.inner.lock().chores.push(chore);
        self.wake.notify_one();
    }

    /// What has to be done at `now`. Leases past their deadline are tripped here.
    pub(crate) fn due(&self, now: Nanos) -> Due<R> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let mut renewals = Vec::new();
        let mut expired = Vec::new();
        while let Some(&(due, id)) = inner.agenda.first() {
            let Some(tenure) = inner.tenures.get(&id) else {
                inner.agenda.pop_first();
                continue;
            };
            // A little early is as good, and fills a batch that goes out anyway.
            let early = if tenure.options.auto_renew { nanos(tenure.options.renew_every()) / 32 } else { 0 };
            let deadline = tenure.hold.deadline();
            let fills = renewals.len() % BATCH != 0;
            if due > now && (!fills || due >= deadline || due > now + early.min(EARLY)) {
                break;
            }
            if now >= deadline || tenure.hold.latch.reason().is_some() {
                if let Some(hold) = inner.lose(id, LostReason::Expired) {
                    expired.push(hold);
                }
            } else {
                let renewal = Renewal::new(tenure.resource.clone(), tenure.hold.owner, tenure.options.ttl);
                renewals.push((id, renewal));
                inner.put_off(id, deadline);
            }
        }
        // A wake-up that was asked for stands, even if its lease is gone: else the next lease would ask anew.
        let asked = Some(inner.keeper_wakes).filter(|&wakes| wakes > now);
        let next = inner.agenda.first().map(|&(due, _)| due).into_iter().chain(asked).min();
        let next = next.unwrap_or(Nanos::MAX).min(now + LONGEST_SLEEP);
        inner.keeper_wakes = next;
        Due { renewals, chores: std::mem::take(&mut inner.chores), expired, next, idle: inner.is_idle() }
    }

    /// What the servers said to a renewal that was sent at `sent`. A hold that is lost by it is returned, and why.
    pub(crate) fn renewed(
        &self,
        id: u64,
        sent: Nanos,
        deadline: Nanos,
        now: Nanos,
        reply: &Result<RenewReply, BackendError>,
    ) -> Option<(Arc<Hold>, LostReason)> {
        let mut inner = self.inner.lock();
        // Released or lost meanwhile: whatever the reply, it stays so.
        let tenure = inner.tenures.get(&id)?;
        if tenure.hold.latch.reason().is_some() {
            return None;
        }
        if now >= tenure.hold.deadline() {
            return Some((inner.lose(id, LostReason::Expired)?, LostReason::Expired));
        }
        let every = nanos(tenure.options.renew_every());
        match reply {
            Ok(RenewReply::Renewed) => {
                tenure.hold.deadline.fetch_max(deadline, Ordering::AcqRel);
                inner.put_off(id, sent + every);
                None
            }
            Ok(RenewReply::NotHeld) => Some((inner.lose(id, LostReason::Revoked)?, LostReason::Revoked)),
            Err(_) => {
                let retry = now + (every / 8).max(MIN_RETRY);
                let due = retry.min(tenure.hold.deadline());
                inner.put_off(id, due);
                None
            }
        }
    }

    /// Refuses all who wait, and all who come.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closing = true;
        for queue in inner.queues.values_mut() {
            for waiter in queue.waiting.drain(..) {
                let _ = waiter.turn.send(Turn::ShutDown);
            }
        }
        drop(inner);
        self.closed.cancel();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closed.is_cancelled()
    }

    #[cfg(all(test, feature = "_shuttle"))]
    pub(crate) fn is_idle(&self) -> bool {
        self.inner.lock().is_idle()
    }
}

/// Renewals in one call. A server runs such a batch in a millisecond or two, and serves nobody else meanwhile; smaller
/// ones cost the client more.
pub(crate) const BATCH: usize = 128;
/// The longest sleep of the keeper, so that a deadline that passed while the machine was suspended is noticed soon.
const LONGEST_SLEEP: Nanos = 1_000_000_000;
/// A renewal may be sent this much before it is due.
const EARLY: Nanos = 100_000_000;
/// A failed renewal is sent again no sooner.
const MIN_RETRY: Nanos = 5_000_000;

pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn first_due(options: &LeaseOptions, sent: Nanos, deadline: Nanos) -> Nanos {
    if options.auto_renew { (sent + nanos(options.renew_every())).min(deadline) } else { deadline }
}

impl<R: Resource> Inner<R> {
    fn is_idle(&self) -> bool {
        self.tenures.is_empty() && self.queues.is_empty() && self.chores.is_empty()
    }

    fn pass_front(&mut self, name: &str, after: Duration) {
        let EntryRef::Occupied(mut queue) = self.queues.entry_ref(name) else { return };
        while let Some(next) = queue.get_mut().waiting.pop_front() {
            if next.turn.send(Turn::Ask { after }).is_ok() {
                return;
            }
        }
        queue.remove();
    }

    /// Gives `tenure` to the next in line, if that one wants just such a lease and enough of it is left.
    fn hand_over(&mut self, hold: &Hold, tenure: &mut Tenure<R>, now: Nanos) -> bool {
        let options = &tenure.options;
        let left = hold.deadline().saturating_sub(now);
        let in_time = now.saturating_sub(tenure.granted_at) <= nanos(options.handover_time);
        if self.closing || !in_time || left < nanos(options.ttl) / 2 {
            return false;
        }
        let Some(queue) = self.queues.get_mut(&**tenure.resource.queue()) else { return false };
        while let Some(next) = queue.waiting.front() {
            let same = next.resource.is_exclusive() && next.resource.name() == tenure.resource.name();
            if !same || next.options != *options {
                return false;
            }
            let Some(token) = tenure.tokens.next() else { return false };
            let Some(next) = queue.waiting.pop_front() else { return false };
            let hold = Hold::new(hold.tenure, hold.name.clone(), hold.owner, token, hold.deadline());
            tenure.hold = hold.clone();
            if next.turn.send(Turn::Handed(hold)).is_ok() {
                return true;
            }
        }
        false
    }

    /// Trips a hold whose place in the agenda is gone, and lets the next in line ask. It stays in the table until its
    /// holder gives it up.
    fn lose(&mut self, id: u64, reason: LostReason) -> Option<Arc<Hold>> {
        let tenure = self.tenures.get_mut(&id)?;
        self.agenda.remove(&(tenure.due, id));
        let hold = tenure.hold.clone();
        let first = hold.latch.trip(reason);
        if std::mem::take(&mut tenure.at_front) {
            let queue = tenure.resource.queue().clone();
            self.pass_front(&queue, Duration::ZERO);
        }
        first.then_some(hold)
    }

    fn put_off(&mut self, id: u64, due: Nanos) {
        if let Some(tenure) = self.tenures.get_mut(&id) {
            self.agenda.remove(&(tenure.due, id));
            tenure.due = due;
            self.agenda.insert((due, id));
        }
    }
}
