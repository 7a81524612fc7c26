//! Waiters of one process stand in one queue, and only its head asks the servers.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{MS, Op, SECOND, Server, Step, Thing, pass, ttl, yield_all};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use turnstile_core::{LeaseManager, LeaseOptions, Lock, LostReason};

const TTL: Duration = Duration::from_secs(30);

/// Tasks that wait in this order; each notes its number while it holds the lock.
async fn line(lock: &(impl Lock + Clone + 'static), count: usize) -> (Arc<Mutex<Vec<usize>>>, Vec<JoinHandle<()>>) {
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for i in 0..count {
        let (lock, order) = (lock.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let lease = lock.acquire().await.unwrap();
            order.lock().unwrap().push(i);
            lease.release().await.unwrap();
        }));
        yield_all().await;
    }
    (order, tasks)
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_in_which_they_came() {
    for options in [ttl(TTL), ttl(TTL).handover(0, Duration::ZERO), ttl(TTL).handover(3, SECOND)] {
        let server = Server::new();
        let lock = server.lock("x", options);
        let lease = lock.acquire().await.unwrap();
        let (order, tasks) = line(&lock, 100).await;
        drop(lease);
        join_all(tasks).await;
        assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_go_away_leave_the_order_of_the_rest() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL));
    let lease = lock.acquire().await.unwrap();
    let (order, tasks) = line(&lock, 100).await;
    for (i, task) in tasks.iter().enumerate() {
        if i % 3 != 0 {
            task.abort();
        }
    }
    yield_all().await;
    drop(lease);
    join_all(tasks).await;
    assert_eq!(*order.lock().unwrap(), (0..100).step_by(3).collect::<Vec<_>>());
}

/// How many requests for a grant `managers` × `tasks` waiters send while another holds it for a second.
async fn requests(managers: usize, tasks: usize) -> usize {
    let server = Server::new();
    let other = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    let managers: Vec<LeaseManager<Server>> = (0..managers).map(|_| server.manager()).collect();
    let lock = |i: usize| managers[i % managers.len()].lock(Thing::exclusive("x"), ttl(TTL));
    let before = server.calls(Op::Grant).len();
    let waiters: Vec<_> = (0..managers.len() * tasks)
        .map(|i| {
            let lock = lock(i);
            tokio::spawn(async move { drop(lock.acquire().await.unwrap()) })
        })
        .collect();
    pass(SECOND).await;
    let asked = server.calls(Op::Grant).len() - before;
    drop(other);
    join_all(waiters).await;
    asked
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_ask_no_more_often_than_one() {
    let bound = 1 + 1000 / 8 + 5;
    assert!(requests(1, 1).await <= bound);
    assert!(requests(1, 1000).await <= bound);
    // Control: without a common queue they ask a hundred times as often.
    assert!(requests(100, 1).await > 50 * bound);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_while_it_is_held_here_sends_nothing() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL));
    let lease = lock.acquire().await.unwrap();
    let asked = server.calls(Op::Grant).len();
    assert!(lock.try_acquire().await.unwrap().is_none());
    assert_eq!(server.calls(Op::Grant).len(), asked);
    drop(lease);
    yield_all().await;
    assert!(lock.try_acquire().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn another_name_is_another_queue() {
    let server = Server::new();
    let manager = server.manager();
    let _held = manager.lock(Thing::exclusive("x"), ttl(TTL)).acquire().await.unwrap();
    let other = manager.lock(Thing::exclusive("y"), ttl(TTL));
    assert!(other.acquire().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_lets_the_next_waiter_ask_at_once() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL).auto_renew(false));
    let since = Instant::now();
    let lease = lock.acquire().await.unwrap();
    let (order, tasks) = line(&lock, 2).await;
    assert_eq!(lease.lost().await, LostReason::Expired);
    yield_all().await;
    assert_eq!(server.calls(Op::Grant)[1].at, since.elapsed(), "at the deadline, while the holder still sleeps");
    join_all(tasks).await;
    assert_eq!(*order.lock().unwrap(), [0, 1]);
    assert!(since.elapsed() <= TTL + 2 * MS, "it is told when the server's end of it comes");

    // So with one that is revoked.
    let lock = server.lock("y", ttl(TTL));
    let lease = lock.acquire().await.unwrap();
    let (_, tasks) = line(&lock, 1).await;
    server.revoke("y");
    assert_eq!(lease.lost().await, LostReason::Revoked);
    let since = Instant::now();
    join_all(tasks).await;
    assert_eq!(since.elapsed(), Duration::ZERO);
}

// ── Shared and exclusive in one queue ───────────────────────────────────────────────────────────────────────────────

fn readers_and_writers(server: &Server) -> (impl Lock + Clone + 'static, impl Lock + Clone + 'static) {
    let manager = server.manager();
    let options: LeaseOptions = ttl(TTL);
    (manager.lock(Thing::shared("x"), options.clone()), manager.lock(Thing::exclusive("x"), options))
}

#[tokio::test(start_paused = true)]
async fn readers_hold_it_together_and_only_take_turns_at_asking() {
    let server = Server::new();
    let (read, write) = readers_and_writers(&server);
    server.always(Op::Grant, Step::serve().takes(MS));
    let since = Instant::now();
    let readers = join_all((0..10).map(|_| read.acquire())).await;
    assert!(readers.iter().all(Result::is_ok));
    assert_eq!(server.holders("x").len(), 10);
    assert_eq!(since.elapsed(), 10 * MS);

    assert!(write.try_acquire().await.unwrap().is_none());
    let writer = tokio::spawn({
        let write = write.clone();
        async move { write.acquire().await.unwrap() }
    });
    pass(SECOND).await;
    assert!(!writer.is_finished());
    let since = Instant::now();
    drop(readers);
    drop(writer.await.unwrap());
    assert!(since.elapsed() <= 3 * MS, "a release in the same process wakes the writer: {:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_to_read_goes_beside_the_queue_and_leaves_it_alone() {
    let server = Server::new();
    let (read, write) = readers_and_writers(&server);
    let reader = read.acquire().await.unwrap();
    let writer = tokio::spawn({
        let write = write.clone();
        async move { write.acquire().await.unwrap() }
    });
    yield_all().await;
    // This server lets readers in before a writer that waits.
    let beside = read.try_acquire().await.unwrap().expect("shared");
    drop(beside);
    yield_all().await;
    assert!(!writer.is_finished());
    drop(reader);
    let writer = writer.await.unwrap();
    assert!(read.try_acquire().await.unwrap().is_none());
    drop(writer);
    yield_all().await;
    assert!(read.try_acquire().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lease_on_one_resource_is_never_handed_over_as_another_of_the_same_queue() {
    let server = Server::new();
    let manager = server.manager();
    let lock = |name| manager.lock(Thing::exclusive(name).in_queue("both"), ttl(TTL).handover(8, TTL));
    server.script(Op::Grant, [Step::refuse()]);
    let (one, other) = (lock("one"), lock("other"));
    let first = tokio::spawn({
        let one = one.clone();
        async move { one.acquire().await.unwrap() }
    });
    yield_all().await;
    let second = tokio::spawn(async move { other.acquire().await.unwrap() });
    let first = first.await.unwrap();
    assert_eq!(server.tokens("both"), 9, "it reserved tokens for whoever waits");
    drop(first);
    assert_eq!(second.await.unwrap().name(), "other");
    assert_eq!(server.grants("both"), 2, "granted by the server");
}
