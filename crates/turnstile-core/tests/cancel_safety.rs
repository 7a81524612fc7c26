//! A future that is dropped at any of its await points leaves nothing behind: no lease, no place in the queue, no task.
//!
//! Each future is polled by hand `k` times and dropped, for every `k` from never polled to done, over every course that
//! its requests may take.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use support::{MS, Op, SECOND, Server, Step, Thing, pass, pends, poll_once, ttl, yield_all};
use tokio::time::advance;
use turnstile_core::{ErrorKind, LeaseBackend, LeaseManager, LeaseOptions, Lock, ReleaseOutcome};

/// So long that nothing here ends by itself: what is gone was given back.
const TTL: Duration = Duration::from_secs(3600);
/// More polls than any future here takes.
const MANY: usize = 60;

fn options() -> LeaseOptions {
    ttl(TTL)
}

/// The courses that a request may take.
fn courses() -> Vec<Step> {
    vec![
        Step::serve(),
        Step::serve().pends(1).reply_pends(1),
        Step::serve().takes(2 * MS).reply_takes(2 * MS),
        Step::lose_reply().reply_pends(1),
        Step::fail(ErrorKind::Unreachable).pends(1),
    ]
}

/// Those, a refusal, and an error that is for good.
fn grants() -> Vec<Step> {
    let mut steps = courses();
    steps.extend([Step::refuse().pends(1), Step::fail(ErrorKind::Denied).pends(1)]);
    steps
}

/// Polls up to `times`, a millisecond apart; whether it ended.
async fn polled<F: Future + ?Sized>(mut future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    for _ in 0..times {
        if let Some(output) = poll_once(future.as_mut()) {
            return Some(output);
        }
        advance(MS).await;
        yield_all().await;
    }
    None
}

/// Nothing is held, and nobody stands in the way. Then, with all handles gone, no task is left either.
async fn nothing_left(server: &Server, manager: LeaseManager<Server>, case: &str) {
    server.all(&Step::serve());
    pass(SECOND).await;
    assert!(server.holders("x").is_empty(), "held for ever: {case}");
    let lock = manager.lock(Thing::exclusive("x"), options());
    let lease = lock.try_acquire().await.unwrap();
    assert!(lease.is_some(), "somebody still stands in the queue: {case}");
    drop((lease, lock, manager));
    pass(3 * SECOND).await;
    assert_eq!(server.users(), 0, "a task goes on: {case}");
}

#[tokio::test(start_paused = true)]
async fn an_acquire_at_the_front_dropped_at_any_point_leaves_nothing() {
    let mut points = 0;
    for first in grants() {
        for second in grants() {
            for undo in courses() {
                for behind in [0, 2] {
                    for k in 0..MANY {
                        let case = format!("{first:?}, {second:?}, undone by {undo:?}, {behind} behind, {k} polls");
                        let server = Server::new();
                        let manager = server.manager();
                        server.script(Op::Grant, [first.clone(), second.clone()]);
                        server.script(Op::Release, [undo.clone()]);
                        let lock = manager.lock(Thing::exclusive("x"), options());
                        let mut acquire = lock.acquire();
                        let early = poll_once(acquire.as_mut()).filter(|_| k > 0);
                        let others: Vec<_> = (0..behind).map(|_| tokio::spawn(next(manager.clone()))).collect();
                        yield_all().await;
                        let ended = match early {
                            Some(result) => Some(result),
                            None if k > 1 => polled(acquire.as_mut(), k - 1).await,
                            None => None,
                        };
                        drop(acquire);
                        // What it got is dropped too, in the same place.
                        let done = ended.is_some();
                        drop((ended, lock));
                        for other in others {
                            // Told of a failure is fine; waiting for ever is not.
                            tokio::time::timeout(10 * SECOND, other).await.expect(&case).unwrap();
                        }
                        nothing_left(&server, manager, &case).await;
                        points += 1;
                        if done {
                            break;
                        }
                    }
                }
            }
        }
    }
    assert!(points > 1500, "{points}");
}

async fn next(manager: LeaseManager<Server>) -> bool {
    let lease = manager.lock(Thing::exclusive("x"), options()).acquire().await;
    pends(2).await;
    match lease {
        Ok(lease) => lease.release().await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test(start_paused = true)]
async fn control_a_grant_that_is_merely_dropped_stays_behind() {
    let mut left = 0;
    for k in 0..4 {
        let server = Server::new();
        server.script(Op::Grant, [Step::serve().pends(1).reply_pends(1)]);
        let thing = Thing::exclusive("x");
        let request = turnstile_core::GrantRequest::new(&thing, turnstile_core::Owner::random(), TTL);
        let mut grant = server.grant(request);
        polled(grant.as_mut(), k).await;
        drop(grant);
        pass(SECOND).await;
        left += server.holders("x").len();
    }
    assert_eq!(left, 2, "dropped between the grant and its reply, and after it");
}

/// What happens around one who waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// It is polled.
    Poll,
    /// The holder in front of it releases.
    Release,
    /// The holder in front of it drops its lease.
    Drop,
    /// Time goes on.
    Time,
}

#[tokio::test(start_paused = true)]
async fn a_waiter_dropped_at_any_point_lets_the_next_one_through() {
    use Event::{Drop, Poll, Release, Time};
    let mut orders = Vec::new();
    for give_up in [Release, Drop] {
        for before in 0..3 {
            for after in 0..12 {
                let mut order = vec![Poll; before];
                order.push(give_up);
                order.extend([Poll, Time].repeat(after));
                orders.push(order.clone());
                // Told, and dropped with time in between.
                order.insert(before + 1, Time);
                orders.push(order);
            }
        }
    }
    for order in &orders {
        for handovers in [0, 1, 8] {
            for release in courses() {
                for in_front in [false, true] {
                    let case = format!("{order:?}, {handovers} hand-overs, {release:?}, another in front: {in_front}");
                    let server = Server::new();
                    let manager = server.manager();
                    let options = options().handover(handovers, SECOND);
                    let lock = manager.lock(Thing::exclusive("x"), options);
                    let mut ahead = lock.acquire();
                    // It is refused first, and asks again with tokens for those who are in line by then.
                    server.script(Op::Grant, [Step::refuse()]);
                    assert!(poll_once(ahead.as_mut()).is_none());
                    let fellow = in_front.then(|| tokio::spawn(hold(lock.clone())));
                    yield_all().await;
                    let mut waiter = lock.acquire();
                    let mut result = poll_once(waiter.as_mut());
                    let behind = tokio::spawn(hold(lock.clone()));
                    yield_all().await;
                    let mut holder = Some(ahead.await.unwrap());
                    server.script(Op::Release, [release.clone()]);
                    for event in order {
                        match event {
                            Poll if result.is_none() => result = poll_once(waiter.as_mut()),
                            Poll => {}
                            Release => drop(holder.take().unwrap().release().now_or_never()),
                            Drop => drop(holder.take()),
                            Time => advance(MS).await,
                        }
                    }
                    drop(waiter);
                    drop(result);
                    if let Some(fellow) = fellow {
                        tokio::time::timeout(10 * SECOND, fellow).await.expect(&case).unwrap();
                    }
                    tokio::time::timeout(10 * SECOND, behind).await.expect(&case).unwrap();
                    drop(lock);
                    nothing_left(&server, manager, &case).await;
                }
            }
        }
    }
}

async fn hold(lock: impl Lock) {
    let lease = lock.acquire().await.unwrap();
    pends(1).await;
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_release_dropped_at_any_point_goes_on_in_the_background() {
    for first in courses() {
        for second in courses() {
            for k in 0..MANY {
                let case = format!("{first:?}, {second:?}, {k} polls");
                let server = Server::new();
                let manager = server.manager();
                let lock = manager.lock(Thing::exclusive("x"), options());
                let lease = lock.acquire().await.unwrap();
                let lost = lease.lost();
                server.script(Op::Release, [first.clone(), second.clone()]);
                let mut release = Box::pin(lease.release());
                let done = polled(release.as_mut(), k).await.is_some();
                drop(release);
                assert!(lost.now_or_never().is_some(), "given up from the first poll or the drop on: {case}");
                drop(lock);
                nothing_left(&server, manager, &case).await;
                if done {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_in_flight_is_sent_once_whether_waited_for_or_not() {
    for k in 0..6 {
        let server = Server::new();
        let lease = server.lock("x", options()).acquire().await.unwrap();
        server.script(Op::Release, [Step::serve().pends(2).reply_pends(2)]);
        let mut release = Box::pin(lease.release());
        if let Some(outcome) = polled(release.as_mut(), k).await {
            assert_eq!(outcome.unwrap(), ReleaseOutcome::Released);
        }
        drop(release);
        pass(SECOND).await;
        assert_eq!(server.calls(Op::Release).len(), 1, "{k}");
        assert!(server.holders("x").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_or_an_attempt_dropped_at_any_point_leaves_nothing() {
    for step in grants() {
        for limited in [false, true] {
            for k in 0..MANY {
                let case = format!("{step:?}, limited: {limited}, {k} polls");
                let server = Server::new();
                let manager = server.manager();
                server.script(Op::Grant, [step.clone()]);
                let lock = manager.lock(Thing::exclusive("x"), options());
                let done = if limited {
                    polled(lock.acquire_timeout(3 * MS).as_mut(), k).await.is_some()
                } else {
                    polled(lock.try_acquire().as_mut(), k).await.is_some()
                };
                drop(lock);
                nothing_left(&server, manager, &case).await;
                if done {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_was_never_polled_sends_nothing_and_stands_nowhere() {
    let server = Server::new();
    let manager = server.manager();
    let lock = manager.lock(Thing::exclusive("x"), options());
    drop((lock.acquire(), lock.try_acquire(), lock.acquire_timeout(SECOND)));
    yield_all().await;
    assert!(server.calls(Op::Grant).is_empty());
    drop(lock);
    nothing_left(&server, manager, "never polled").await;
}
