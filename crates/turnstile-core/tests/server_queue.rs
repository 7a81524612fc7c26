//! Where the servers keep the queue, each waiter asks for itself, once and when it is told; and whoever goes away gives
//! its place up.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use support::{SECOND, ttl, yield_all};
use tokio::sync::Notify;
use tokio::time::timeout;
use turnstile_core::{
    AcquireError, BackendError, ErrorKind, FencingToken, GrantReply, GrantRequest, LeaseBackend, LeaseManager, Lock,
    ManagedLock, Owner, ReleaseOutcome, ReleaseReply, RenewReply, Renewal, Resource, TokioClock,
};

const TTL: Duration = Duration::from_secs(30);
/// When a waiter asks again that nobody told anything.
const CHECK: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Queued(Arc<str>);

impl Resource for Queued {
    fn name(&self) -> &Arc<str> {
        &self.0
    }

    fn has_local_queue(&self) -> bool {
        false
    }
}

/// A server that grants in order of arrival, and tells the next. Clones are the same server.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The first is the holder.
    line: Vec<Owner>,
    tokens: u64,
    asked: usize,
    bells: HashMap<Owner, Arc<Notify>>,
    down: bool,
}

impl Line {
    fn process(&self) -> LeaseManager<Self> {
        LeaseManager::with_clock(self.clone(), TokioClock::new())
    }

    fn lock(&self) -> ManagedLock<Self> {
        self.process().lock(Queued("x".into()), ttl(TTL))
    }

    fn line(&self) -> usize {
        self.0.lock().unwrap().line.len()
    }
}

#[async_trait]
impl LeaseBackend for Line {
    type Resource = Queued;
    const STRATEGY: &'static str = "test";

    async fn grant(&self, request: GrantRequest<'_, Queued>) -> Result<GrantReply, BackendError> {
        let mut state = self.0.lock().unwrap();
        if state.down {
            return Err(BackendError::new(ErrorKind::Unreachable, "down"));
        }
        state.asked += 1;
        assert_eq!(request.tokens.get(), 1, "nothing is handed over in memory");
        let known = state.line.iter().position(|&owner| owner == request.owner);
        let ahead = known.unwrap_or(state.line.len());
        let waits = request.asks_again_within.is_some();
        if known.is_none() && (ahead == 0 || waits) {
            state.line.push(request.owner);
            state.bells.entry(request.owner).or_default();
        }
        if ahead == 0 {
            state.tokens += 1;
            return Ok(GrantReply::Granted { first_token: FencingToken::new(state.tokens) });
        }
        Ok(GrantReply::Refused { ends_within: Some(CHECK), ahead: waits.then_some(ahead as u64 - 1) })
    }

    async fn renew(&self, leases: &[Renewal<Queued>]) -> Vec<Result<RenewReply, BackendError>> {
        leases.iter().map(|_| Ok(RenewReply::Renewed)).collect()
    }

    async fn release(&self, _: &Queued, owner: Owner) -> Result<ReleaseReply, BackendError> {
        let mut state = self.0.lock().unwrap();
        state.line.retain(|&other| other != owner);
        if let Some(bell) = state.line.first().and_then(|next| state.bells.get(next)) {
            bell.notify_one();
        }
        Ok(ReleaseReply::new(ReleaseOutcome::Released, None))
    }

    async fn wait(&self, _: &Queued, owner: Owner, at_most: Duration) {
        let bell = self.0.lock().unwrap().bells.entry(owner).or_default().clone();
        let _ = timeout(at_most, bell.notified()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_of_one_process_each_have_a_place_and_are_served_in_the_order_of_all() {
    let server = Line::default();
    let processes = [server.lock(), server.lock()];
    let held = processes[0].acquire().await.unwrap();
    let (order, mut tasks) = (Arc::new(Mutex::new(Vec::new())), Vec::new());
    for place in 0..20_u64 {
        let (lock, order) = (processes[usize::from(place % 3 == 0)].clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let lease = lock.acquire().await.unwrap();
            order.lock().unwrap().push((place, lease.fencing_token().get()));
            lease.release().await.unwrap();
        }));
        yield_all().await;
    }
    assert_eq!(server.line(), 21, "one holds, and each of the others stands in line");
    held.release().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..20_u64).map(|place| (place, place + 2)).collect::<Vec<_>>());
    assert_eq!(server.0.lock().unwrap().asked, 41, "each once to stand in line, and once when told");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_leaves_no_place_and_does_not_wait() {
    let server = Line::default();
    let held = server.lock().acquire().await.unwrap();
    assert!(server.lock().try_acquire().await.unwrap().is_none());
    assert_eq!(server.line(), 1);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_gives_its_place_up_and_at_its_limit_learns_how_many_were_before_it() {
    let server = Line::default();
    let lock = server.lock();
    let held = lock.acquire().await.unwrap();
    let first = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.map(drop) }
    });
    yield_all().await;
    let error = lock.acquire_timeout(SECOND).await.unwrap_err();
    assert!(matches!(error, AcquireError::TimedOut { ahead: Some(1), .. }), "{error}");
    assert!(error.to_string().contains("in place 2 of those who wait"), "{error}");
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    lock.manager().shutdown().now_or_never();
    yield_all().await;
    assert_eq!(server.line(), 1, "only the holder");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn servers_out_of_reach_are_what_a_limit_tells() {
    let server = Line::default();
    server.0.lock().unwrap().down = true;
    let error = server.lock().acquire_timeout(SECOND).await.unwrap_err();
    assert!(
        matches!(&error, AcquireError::Backend { source, .. } if source.kind() == ErrorKind::Unreachable),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_refuses_those_who_wait_at_once() {
    let server = Line::default();
    let (holder, waiter) = (server.lock(), server.lock());
    let held = holder.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let waiter = waiter.clone();
        async move { waiter.acquire().await.map(drop) }
    });
    yield_all().await;
    let asked = server.0.lock().unwrap().asked;
    assert!(waiter.manager().shutdown().await.is_empty());
    assert!(matches!(waiting.await.unwrap(), Err(AcquireError::ShutDown { .. })));
    assert_eq!(
        (server.line(), server.0.lock().unwrap().asked),
        (1, asked),
        "its place is given up, and it did not ask"
    );
    drop(held);
}
