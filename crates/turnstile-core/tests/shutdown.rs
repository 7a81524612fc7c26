//! Drops without a runtime, runtimes that end, and a shutdown that drains.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{MS, Op, SECOND, Server, Step, Thing, pass, poll_once, ttl, yield_all};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};
use turnstile_core::{AcquireError, ErrorKind, Lock, LostReason};

const TTL: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_dropped_on_a_thread_without_a_runtime_is_released() {
    let server = Server::new();
    let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    yield_all().await;
    thread::spawn(move || drop(lease)).join().unwrap();
    yield_all().await;
    assert!(server.holders("x").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lease_dropped_on_a_thread_without_a_runtime_is_handed_over() {
    let server = Server::new();
    server.script(Op::Grant, [Step::refuse()]);
    let lock = server.lock("x", ttl(TTL));
    let (first, second) = (lock.clone(), lock.clone());
    let first = tokio::spawn(async move { first.acquire().await.unwrap() });
    yield_all().await;
    let second = tokio::spawn(async move { second.acquire().await.unwrap() });
    let first = first.await.unwrap();
    thread::spawn(move || drop(first)).join().unwrap();
    assert!(second.await.unwrap().check().is_ok());
    assert_eq!(server.grants("x"), 1);
}

#[test]
fn a_lease_dropped_after_its_runtime_ended_is_released_by_the_next_one() {
    let server = Server::new();
    let manager = server.manager();
    let lock = manager.lock(Thing::exclusive("x"), ttl(TTL));
    let first = runtime();
    let lease = first.block_on(lock.acquire()).unwrap();
    drop(first);
    thread::spawn(move || drop(lease)).join().unwrap();
    assert_eq!(server.holders("x").len(), 1, "nobody is there to send it");
    let next = runtime();
    next.block_on(async {
        let since = Instant::now();
        assert!(manager.shutdown().await.is_empty());
        assert!(since.elapsed() < SECOND);
    });
    assert!(server.holders("x").is_empty());
}

#[test]
fn a_lease_of_a_runtime_that_ended_is_lost_at_its_deadline() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL));
    let first = runtime();
    let lease = first.block_on(lock.acquire()).unwrap();
    drop(first);
    runtime().block_on(async {
        let left = lease.remaining();
        assert!(lease.check().is_ok() && left <= TTL);
        tokio::time::advance(left).await;
        assert_eq!(lease.check().unwrap_err().reason, LostReason::Expired);
        assert_eq!(lease.lost().now_or_never(), Some(LostReason::Expired));
        assert!(server.calls(Op::Renew).is_empty());
    });
}

#[test]
fn the_next_runtime_goes_on_renewing_and_tripping() {
    let server = Server::new();
    let manager = server.manager();
    let first = runtime();
    let lease = first.block_on(manager.lock(Thing::exclusive("x"), ttl(TTL)).acquire()).unwrap();
    drop(first);
    runtime().block_on(async {
        let other = manager.lock(Thing::exclusive("y"), ttl(TTL)).acquire().await.unwrap();
        pass(10 * TTL).await;
        assert!(lease.check().is_ok() && other.check().is_ok(), "both are renewed again");
        server.always(Op::Renew, Step::fail(ErrorKind::Unreachable));
        assert_eq!(timeout(TTL, lease.lost()).await, Ok(LostReason::Expired));
    });
}

/// What a runtime may leave under way when it ends.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    AcquireInFlight,
    ReleaseInFlight,
    DropInFlight,
    UndoInFlight,
    HolderAndWaiters,
}

#[test]
fn a_runtime_that_ends_in_the_middle_of_anything_leaves_the_queue_to_the_next_one() {
    use Leaves::{AcquireInFlight, DropInFlight, HolderAndWaiters, ReleaseInFlight, UndoInFlight};
    let server = Server::new();
    let manager = server.manager();
    // A short time to live: what a runtime took with it ends on the server by itself.
    let lock = manager.lock(Thing::exclusive("x"), ttl(100 * MS));
    for leaves in [AcquireInFlight, ReleaseInFlight, DropInFlight, UndoInFlight, HolderAndWaiters, DropInFlight] {
        server.all(&Step::serve());
        let rt = runtime();
        rt.block_on(async {
            let lease = timeout(SECOND, lock.acquire()).await.unwrap_or_else(|_| panic!("stuck before {leaves:?}"));
            let lease = lease.unwrap();
            let spawn_acquire = || {
                let lock = lock.clone();
                tokio::spawn(async move { drop(lock.acquire().await) })
            };
            server.all(&Step::serve().takes(1000 * SECOND));
            match leaves {
                AcquireInFlight => {
                    server.always(Op::Release, Step::serve());
                    drop(lease);
                    yield_all().await;
                    spawn_acquire();
                }
                ReleaseInFlight => drop(tokio::spawn(lease.release())),
                DropInFlight => drop(lease),
                UndoInFlight => {
                    server.always(Op::Release, Step::serve());
                    drop(lease);
                    yield_all().await;
                    assert!(poll_once(lock.acquire().as_mut()).is_none());
                }
                HolderAndWaiters => {
                    spawn_acquire();
                    spawn_acquire();
                    tokio::spawn(async move { lease.run_while_held(std::future::pending::<()>()).await });
                }
            }
            yield_all().await;
        });
        drop(rt);
    }
    server.all(&Step::serve());
    runtime().block_on(async {
        assert!(timeout(SECOND, lock.acquire()).await.unwrap().is_ok());
        assert!(timeout(SECOND, manager.shutdown()).await.unwrap().is_empty());
    });
    assert!(server.holders("x").is_empty());
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_releases_in_the_background() {
    let server = Server::new();
    let manager = server.manager();
    for i in 0..100 {
        drop(manager.lock(Thing::exclusive(&format!("x{i}")), ttl(TTL)).acquire().await.unwrap());
    }
    server.script(Op::Release, [Step::fail(ErrorKind::Unreachable), Step::lose_reply()]);
    server.always(Op::Release, Step::serve().takes(SECOND));
    assert!(manager.shutdown().await.is_empty());
    assert!((0..100).all(|i| server.holders(&format!("x{i}")).is_empty()));
    // With nothing to wait for, it ends at once; also a second time.
    assert!(manager.shutdown().now_or_never().is_some_and(|left| left.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn shutdown_refuses_who_waits_and_who_comes() {
    let server = Server::new();
    let manager = server.manager();
    let other = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    let lock = manager.lock(Thing::exclusive("x"), ttl(TTL));
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await })
        })
        .collect();
    yield_all().await;
    let since = Instant::now();
    manager.shutdown().await;
    for waiter in join_all(waiting).await {
        assert!(matches!(waiter.unwrap(), Err(AcquireError::ShutDown { .. })));
    }
    assert!(matches!(lock.acquire().await, Err(AcquireError::ShutDown { .. })));
    assert!(matches!(lock.try_acquire().await, Err(AcquireError::ShutDown { .. })));
    assert!(matches!(lock.acquire_timeout(SECOND).await, Err(AcquireError::ShutDown { .. })));
    assert_eq!(since.elapsed(), Duration::ZERO);
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_what_is_held_and_a_later_one_waits_for_it() {
    let server = Server::new();
    let manager = server.manager();
    let lease = manager.lock(Thing::exclusive("x"), ttl(TTL)).acquire().await.unwrap();
    assert!(manager.shutdown().await.is_empty());
    pass(10 * TTL).await;
    assert!(lease.check().is_ok(), "held and renewed");
    server.always(Op::Release, Step::serve().takes(SECOND));
    drop(lease);
    assert!(manager.shutdown().await.is_empty());
    assert!(server.holders("x").is_empty());
}

#[tokio::test(start_paused = true)]
async fn shutdown_hands_nothing_over() {
    let server = Server::new();
    server.script(Op::Grant, [Step::refuse()]);
    let manager = server.manager();
    let lock = manager.lock(Thing::exclusive("x"), ttl(TTL));
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await })
        })
        .collect();
    pass(10 * MS).await;
    let closing = manager.shutdown();
    let (left, tasks) = tokio::join!(closing, join_all(tasks));
    assert!(left.is_empty());
    let [first, second] = <[_; 2]>::try_from(tasks).unwrap().map(Result::unwrap);
    assert!(first.is_ok() && matches!(second, Err(AcquireError::ShutDown { .. })));
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_within_the_time_to_live_and_returns_what_was_not_confirmed() {
    let server = Server::new();
    let manager = server.manager();
    for name in ["x", "y"] {
        drop(manager.lock(Thing::exclusive(name), ttl(TTL)).acquire().await.unwrap());
    }
    server.all(&Step::fail(ErrorKind::Unreachable));
    let since = Instant::now();
    let mut left: Vec<String> = manager.shutdown().await.iter().map(|error| error.name.to_string()).collect();
    left.sort();
    assert_eq!(left, ["x", "y"]);
    assert!(since.elapsed() <= TTL, "{:?}", since.elapsed());
    assert!(manager.shutdown().await.is_empty(), "told once");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_cancelled_goes_on_and_can_be_waited_for_again() {
    let server = Server::new();
    let manager = server.manager();
    let lock = manager.lock(Thing::exclusive("x"), ttl(TTL));
    drop(lock.acquire().await.unwrap());
    server.always(Op::Release, Step::serve().takes(SECOND));
    assert!(timeout(MS, manager.shutdown()).await.is_err());
    assert!(matches!(lock.acquire().await, Err(AcquireError::ShutDown { .. })));
    assert!(manager.shutdown().await.is_empty());
    assert!(server.holders("x").is_empty());
    assert_eq!(server.calls(Op::Release).len(), 1);
}
