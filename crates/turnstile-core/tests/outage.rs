//! Servers that fail: retry-safe grants, limits that are kept, and everybody in line told.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{Flaw, MS, Op, SECOND, Server, Step, Thing, pass, ttl, yield_all};
use tokio::time::Instant;
use turnstile_core::{AcquireError, ErrorKind, LeaseOptions, Lock, ReleaseOutcome};

const TTL: Duration = Duration::from_secs(30);

fn options() -> LeaseOptions {
    ttl(TTL).max_outage(2 * SECOND)
}

fn kind(error: &AcquireError) -> Option<ErrorKind> {
    match error {
        AcquireError::Backend { source, .. } => Some(source.kind()),
        _ => None,
    }
}

/// How many grants and tokens an acquire takes whose first replies are lost.
async fn lost_replies(server: Server) -> (u64, u64) {
    server.script(Op::Grant, [Step::lose_reply(), Step::fail(ErrorKind::Unreachable), Step::lose_reply()]);
    let lease = server.lock("x", options()).acquire().await.unwrap();
    let calls = server.calls(Op::Grant);
    assert!(calls.len() == 4 && calls.iter().all(|call| call.owner == lease.owner()), "{calls:?}");
    assert_eq!(server.holders("x"), [lease.owner()]);
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    assert!(server.holders("x").is_empty());
    (server.grants("x"), server.tokens("x"))
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_reply_was_lost_is_one_grant() {
    assert_eq!(lost_replies(Server::new()).await, (1, 1));
    // Control: a server that does not know its own grant again makes three of it.
    assert_eq!(lost_replies(Server::with_flaw(Flaw::ForgetsOwner)).await, (3, 3));
}

#[tokio::test(start_paused = true)]
async fn attempts_after_a_lost_reply_reserve_what_the_first_one_did() {
    let server = Server::new();
    let lock = server.lock("x", options().handover(8, TTL));
    // Nobody waits at the first attempt; somebody does at the second, which finds the grant of the first; or is
    // refused, while the first is still on its way.
    server.script(Op::Grant, [Step::lose_reply(), Step::refuse()]);
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await.unwrap().fencing_token().get() })
        })
        .collect();
    let tokens: Vec<u64> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(tokens, [1, 2, 3]);
    assert_eq!(server.tokens("x"), 1 + 9, "one token at first, a range for the next");
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_borne_for_its_limit_and_then_told_as_what_it_is() {
    for failure in [ErrorKind::Unreachable, ErrorKind::TimedOut, ErrorKind::NotReady] {
        let server = Server::new();
        server.always(Op::Grant, Step::fail(failure));
        let since = Instant::now();
        let error = server.lock("x", options()).acquire().await.unwrap_err();
        assert_eq!(kind(&error), Some(failure));
        let took = since.elapsed();
        assert!(took >= 2 * SECOND && took <= 2 * SECOND + 16 * MS, "{took:?}");
        let asked = server.calls(Op::Grant).len();
        assert!((100..1000).contains(&asked), "{asked}");

        let since = Instant::now();
        let once = server.lock("x", options().max_outage(Duration::ZERO));
        assert_eq!(kind(&once.acquire().await.unwrap_err()), Some(failure));
        assert_eq!((since.elapsed(), server.calls(Op::Grant).len()), (Duration::ZERO, asked + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_in_time_is_not_told_and_the_next_one_counts_anew() {
    let server = Server::new();
    let other = server.lock("x", options()).acquire().await.unwrap();
    let waiter = tokio::spawn({
        let lock = server.lock("x", options());
        async move { lock.acquire().await }
    });
    for _ in 0..3 {
        server.always(Op::Grant, Step::fail(ErrorKind::Unreachable));
        pass(1900 * MS).await;
        server.always(Op::Grant, Step::serve());
        pass(100 * MS).await;
    }
    drop(other);
    assert!(waiter.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stays_is_told_at_once() {
    use ErrorKind::{Denied, Invalid, Other, OutOfMemory, Unsupported, WrongType};
    for failure in [Denied, OutOfMemory, WrongType, Unsupported, Invalid, Other] {
        let server = Server::new();
        server.always(Op::Grant, Step::fail(failure));
        let since = Instant::now();
        let lock = server.lock("x", options());
        assert_eq!(kind(&lock.acquire().await.unwrap_err()), Some(failure));
        assert_eq!(kind(&lock.try_acquire().await.unwrap_err()), Some(failure));
        assert_eq!(kind(&lock.acquire_timeout(SECOND).await.unwrap_err()), Some(failure));
        assert_eq!((since.elapsed(), server.calls(Op::Grant).len()), (Duration::ZERO, 3));
        yield_all().await;
        assert!(server.calls(Op::Release).is_empty(), "nothing was done, nothing is undone");
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_behind_an_outage_are_told_with_the_first() {
    let server = Server::new();
    let lock = server.lock("x", options());
    server.always(Op::Grant, Step::fail(ErrorKind::Unreachable));
    let since = Instant::now();
    let errors = join_all((0..100).map(|_| lock.acquire())).await;
    assert!(errors.iter().all(|result| kind(result.as_ref().unwrap_err()) == Some(ErrorKind::Unreachable)));
    assert!(since.elapsed() <= 2 * SECOND + 16 * MS);
    // And the queue is free again.
    server.always(Op::Grant, Step::serve());
    assert!(lock.try_acquire().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_is_kept_and_says_what_was_in_the_way() {
    let limit = SECOND;
    let never = Step::serve().takes(1000 * SECOND);

    // Held by another process; and by another task of this one.
    let server = Server::new();
    let other = server.lock("x", options()).acquire().await.unwrap();
    let lock = server.lock("x", options());
    let since = Instant::now();
    let (front, behind) = tokio::join!(lock.acquire_timeout(limit), lock.acquire_timeout(limit));
    for error in [front.unwrap_err(), behind.unwrap_err()] {
        assert!(matches!(error, AcquireError::TimedOut { waited, .. } if waited == limit), "{error}");
    }
    assert_eq!(since.elapsed(), limit);
    drop(other);
    let held = lock.acquire().await.unwrap();
    assert!(matches!(lock.acquire_timeout(limit).await, Err(AcquireError::TimedOut { .. })));
    drop(held);

    // Servers that fail, or never answer: in front and behind.
    for (step, expected) in [(Step::fail(ErrorKind::NotReady), ErrorKind::NotReady), (never, ErrorKind::TimedOut)] {
        let server = Server::new();
        server.always(Op::Grant, step);
        let lock = server.lock("x", options());
        let since = Instant::now();
        let (front, behind) = tokio::join!(lock.acquire_timeout(limit), lock.acquire_timeout(limit));
        assert_eq!(kind(&front.unwrap_err()), Some(expected));
        assert_eq!(kind(&behind.unwrap_err()), Some(expected));
        assert_eq!(since.elapsed(), limit);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_after_its_caller_left_is_given_back() {
    let server = Server::new();
    server.script(Op::Grant, [Step::serve().takes(10 * SECOND).reply_takes(SECOND)]);
    let lock = server.lock("x", options());
    assert!(lock.acquire_timeout(SECOND).await.is_err());
    pass(9500 * MS).await;
    assert_eq!(server.holders("x").len(), 1, "carried out, and on its way back");
    pass(SECOND).await;
    assert!(server.holders("x").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_grant_of_unknown_outcome_is_undone_as_soon_as_the_servers_are_back() {
    let server = Server::new();
    server.script(Op::Grant, [Step::lose_reply()]);
    server.always(Op::Grant, Step::fail(ErrorKind::Unreachable));
    server.always(Op::Release, Step::fail(ErrorKind::Unreachable));
    assert!(server.lock("x", options()).acquire().await.is_err());
    pass(5 * SECOND).await;
    assert_eq!(server.holders("x").len(), 1);
    server.always(Op::Release, Step::serve());
    pass(SECOND).await;
    assert!(server.holders("x").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_told_and_goes_on_until_the_end_of_the_lease() {
    let server = Server::new();
    let lock = server.lock("x", options());
    let lease = lock.acquire().await.unwrap();
    server.always(Op::Release, Step::fail(ErrorKind::Unreachable));
    pass(5 * SECOND).await;
    let error = lease.release().await.unwrap_err();
    assert!(error.ends_within <= TTL && error.ends_within >= TTL - 6 * SECOND, "{error}");
    pass(2 * TTL).await;
    let last = server.calls(Op::Release).last().unwrap().at;
    assert!(last <= TTL, "no longer than it can matter: {last:?}");
    assert!(last >= TTL - SECOND);

    // One that is denied is not sent again.
    let lease = lock.acquire().await.unwrap();
    let sent = server.calls(Op::Release).len();
    server.always(Op::Release, Step::fail(ErrorKind::Denied));
    assert_eq!(lease.release().await.unwrap_err().source.kind(), ErrorKind::Denied);
    pass(TTL).await;
    assert_eq!(server.calls(Op::Release).len(), sent + 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_in_line_does_not_wait_for_a_release_that_fails() {
    let server = Server::new();
    let manager = server.manager();
    let lock = manager.lock(Thing::exclusive("x"), options().auto_renew(false).handover(0, Duration::ZERO));
    let lease = lock.acquire().await.unwrap();
    let waiter = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire_timeout(SECOND).await }
    });
    yield_all().await;
    server.all(&Step::fail(ErrorKind::Unreachable));
    drop(lease);
    let error = waiter.await.unwrap().unwrap_err();
    assert_eq!(kind(&error), Some(ErrorKind::Unreachable));
}
