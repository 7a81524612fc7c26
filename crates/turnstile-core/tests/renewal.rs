//! Renewals: when they are sent, what their answers mean, and that none outlives its lease.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{Flaw, MS, Op, SECOND, Server, Step, Thing, pass, poll_once, ttl, yield_all};
use tokio::time::{Instant, advance};
use turnstile_core::{ErrorKind, Lease, Lock, LostReason, ReleaseOutcome};

const TTL: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_at_each_third_of_its_time_to_live_and_never_lost() {
    let server = Server::new();
    let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    pass(100 * TTL + SECOND / 2).await;
    let calls = server.calls(Op::Renew);
    assert_eq!(calls.len(), 300);
    for (i, call) in calls.iter().enumerate() {
        assert_eq!(call.at, SECOND * (i as u32 + 1));
        assert_eq!(call.owner, lease.owner());
    }
    assert!(lease.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_auto_renewal_is_never_renewed() {
    let server = Server::new();
    let since = Instant::now();
    let lease = server.lock("x", ttl(TTL).auto_renew(false)).acquire().await.unwrap();
    assert_eq!(lease.lost().await, LostReason::Expired);
    assert_eq!(since.elapsed(), TTL - 32 * MS);
    pass(TTL).await;
    assert!(server.calls(Op::Renew).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_leases_are_renewed_in_a_few_round_trips() {
    let server = Server::new();
    let manager = server.manager();
    let mut leases = Vec::new();
    for i in 0..1000 {
        leases.push(manager.lock(Thing::exclusive(&format!("x{i}")), ttl(TTL)).acquire().await.unwrap());
        if i % 100 == 0 {
            // Not all in the same moment.
            advance(MS).await;
        }
    }
    pass(10 * SECOND).await;
    let batches: HashSet<usize> = server.calls(Op::Renew).iter().map(|call| call.batch).collect();
    assert!(server.calls(Op::Renew).len() >= 9_000);
    assert!(batches.len() <= 100, "{} round trips", batches.len());
    assert!(leases.iter().all(|lease| lease.check().is_ok()));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_no_loss_before_the_deadline_and_recovery_keeps_it() {
    for kind in [ErrorKind::Unreachable, ErrorKind::Denied, ErrorKind::Other] {
        let server = Server::new();
        let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
        server.always(Op::Renew, Step::fail(kind));
        pass(TTL - 300 * MS).await;
        assert!(lease.check().is_ok() && lease.lost().now_or_never().is_none());
        let tries = server.calls(Op::Renew).len();
        assert!((2..20).contains(&tries), "{tries}: again and again, but no storm");
        server.always(Op::Renew, Step::serve());
        pass(10 * TTL).await;
        assert!(lease.check().is_ok());
        assert_eq!(server.grants("x"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_was_lost_is_no_loss() {
    let server = Server::new();
    let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    server.script(Op::Renew, [Step::lose_reply(), Step::lose_reply()]);
    pass(2 * TTL).await;
    assert!(lease.check().is_ok());
}

/// When a lease that was revoked after half a second is told so.
async fn told_of_revocation(server: Server) -> Option<(LostReason, Duration)> {
    let since = Instant::now();
    let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    pass(500 * MS).await;
    server.revoke("x");
    let reason = tokio::time::timeout(10 * TTL, lease.lost()).await.ok()?;
    let after = since.elapsed();
    server.always(Op::Renew, Step::serve());
    pass(TTL).await;
    assert!(lease.check().is_err(), "for good");
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::AlreadyExpired);
    Some((reason, after))
}

#[tokio::test(start_paused = true)]
async fn not_held_is_a_loss_at_once() {
    assert_eq!(told_of_revocation(Server::new()).await, Some((LostReason::Revoked, SECOND)));
    // Control: on a server whose renewals bring back what is gone, nobody would notice.
    assert_eq!(told_of_revocation(Server::with_flaw(Flaw::RenewRecreates)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_succeeds_late_revives_nothing() {
    let server = Server::new();
    let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    server.always(Op::Renew, Step::fail(ErrorKind::Unreachable));
    pass(TTL - 400 * MS).await;
    // From now on they are carried out, and answered after the deadline.
    server.always(Op::Renew, Step::serve().reply_takes(500 * MS));
    pass(500 * MS).await;
    assert!(server.calls(Op::Renew).last().unwrap().at > TTL - 400 * MS, "one was under way at the deadline");
    assert_eq!(lease.lost().now_or_never(), Some(LostReason::Expired));
    pass(SECOND).await;
    assert_eq!(server.holders("x"), [lease.owner()], "the server has it as renewed");
    assert!(lease.check().is_err() && lease.remaining().is_zero());
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::AlreadyExpired);
    assert!(server.holders("x").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_read_after_the_deadline_revives_nothing_though_nobody_looked() {
    for reply in [100 * MS, 500 * MS, 900 * MS] {
        let server = Server::new();
        let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
        server.script(Op::Renew, [Step::serve().reply_takes(reply)]);
        advance(SECOND).await;
        yield_all().await;
        assert_eq!(server.calls(Op::Renew).len(), 1);
        // The whole process stands still: the reply and the deadline, and not the one that it would renew to, become due in one moment.
        advance(TTL - 800 * MS).await;
        yield_all().await;
        assert_eq!(lease.lost().now_or_never(), Some(LostReason::Expired));
        assert!(lease.check().is_err());
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Released,
    Dropped,
    ReleaseCancelled,
    HandedOver,
}

#[tokio::test(start_paused = true)]
async fn a_renewal_in_flight_revives_nothing_that_was_given_up_and_is_the_last() {
    use Ending::{Dropped, HandedOver, ReleaseCancelled, Released};
    for ending in [Released, Dropped, ReleaseCancelled, HandedOver] {
        for step in
            [Step::serve().takes(200 * MS), Step::serve().reply_takes(200 * MS), Step::lose_reply().takes(200 * MS)]
        {
            let case = format!("{ending:?} {step:?}");
            let server = Server::new();
            let lock = server.lock("x", ttl(TTL).handover(8, TTL));
            server.script(Op::Grant, [Step::refuse()]);
            let mut first = lock.acquire();
            assert!(poll_once(first.as_mut()).is_none());
            // The first was refused, and asks again with tokens for one who waits.
            let next = tokio::spawn({
                let lock = lock.clone();
                async move { lock.acquire().await.unwrap() }
            });
            yield_all().await;
            let lease = first.await.unwrap();
            if ending != HandedOver {
                next.abort();
            }
            server.script(Op::Renew, [step]);
            pass(SECOND).await;
            assert_eq!(server.calls(Op::Renew).len(), 1, "one is in flight: {case}");

            let (owner, lost) = (lease.owner(), lease.lost());
            match ending {
                Released => drop(lease.release().await.unwrap()),
                Dropped | HandedOver => drop(lease),
                ReleaseCancelled => assert!(lease.release().now_or_never().is_none_or(|done| done.is_ok())),
            }
            assert_eq!(lost.now_or_never(), Some(LostReason::Released), "{case}");
            pass(10 * TTL).await;
            if ending == HandedOver {
                let next = next.await.unwrap();
                assert!(next.check().is_ok(), "{case}");
                assert_eq!((next.owner(), server.grants("x")), (owner, 1), "{case}");
                drop(next);
                pass(MS).await;
            } else {
                let calls = server.calls(Op::Renew);
                assert!(calls.iter().all(|call| call.owner == owner) && calls.len() == 1, "renewed afterwards: {case}");
            }
            let renewed = server.calls(Op::Renew).len();
            pass(2 * TTL).await;
            assert_eq!(server.calls(Op::Renew).len(), renewed, "renewed afterwards: {case}");
            assert!(server.holders("x").is_empty(), "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leases_that_are_given_up_are_never_renewed_whatever_the_rest_do() {
    let server = Server::new();
    let manager = server.manager();
    let acquire = |i: u32| {
        let lock = manager.lock(Thing::exclusive(&format!("x{i}")), ttl(TTL));
        async move { lock.acquire().await.unwrap() }
    };
    server.always(Op::Renew, Step::serve().takes(100 * MS).reply_takes(100 * MS));
    let mut leases: Vec<Lease> = join_all((0..50).map(acquire)).await;
    let mut given_up = HashSet::new();
    while let Some(lease) = leases.pop() {
        given_up.insert(lease.owner());
        let before = server.calls(Op::Renew).len();
        drop(lease);
        pass(70 * MS).await;
        let calls = server.calls(Op::Renew);
        assert!(calls[before..].iter().all(|call| !given_up.contains(&call.owner)));
    }
    assert!(server.calls(Op::Renew).len() > 50);
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_panics_in_a_renewal_costs_no_other_lease() {
    let server = Server::new();
    let manager = server.manager();
    let lease = manager.lock(Thing::exclusive("x"), ttl(TTL)).acquire().await.unwrap();
    let brief = manager.lock(Thing::exclusive("brief"), ttl(SECOND)).acquire().await.unwrap();
    server.script(Op::Renew, [Step::panic()]);
    assert_eq!(brief.lost().await, LostReason::Expired);
    pass(10 * TTL).await;
    assert!(lease.check().is_ok());
}
