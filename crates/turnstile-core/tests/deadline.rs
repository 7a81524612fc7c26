//! A lease is lost at its deadline, told at once, and never comes back.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use support::{Flaw, MS, Op, SECOND, Server, Step, Thing, pass, ttl, yield_all};
use tokio::time::{Instant, advance};
use turnstile_core::{
    AcquireError, Clock, ErrorKind, Lease, LeaseManager, Lock, LostReason, ReleaseOutcome, TokioClock,
};

const TTL: Duration = SECOND;
/// One percent and two milliseconds of it.
const DRIFT: Duration = Duration::from_millis(12);
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// When `lost` fires, counted from `since`.
async fn lost_after(lease: &Lease, since: Instant) -> (LostReason, Duration) {
    let reason = lease.lost().await;
    (reason, since.elapsed())
}

#[tokio::test(start_paused = true)]
async fn it_is_lost_at_the_deadline_to_the_millisecond_when_every_request_fails_or_hangs() {
    for step in [
        Step::fail(ErrorKind::Unreachable),
        Step::fail(ErrorKind::Denied),
        Step::serve().takes(FOR_EVER),
        Step::lose_reply(),
    ] {
        let server = Server::new();
        let since = Instant::now();
        let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
        server.always(Op::Renew, step.clone());
        assert_eq!(lost_after(&lease, since).await, (LostReason::Expired, TTL - DRIFT), "{step:?}");
        assert!(lease.check().is_err() && lease.remaining().is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_hangs_delays_no_other_deadline() {
    let server = Server::new();
    let manager = server.manager();
    let since = Instant::now();
    server.always(Op::Renew, Step::serve().takes(FOR_EVER));
    let mut leases = Vec::new();
    for i in 1..=20 {
        let lock = manager.lock(Thing::exclusive(&format!("x{i}")), ttl(i * 500 * MS));
        leases.push((i, lock.acquire().await.unwrap()));
    }
    for (i, lease) in leases {
        let ttl = i * 500 * MS;
        assert_eq!(lost_after(&lease, since).await, (LostReason::Expired, ttl - ttl / 100 - 2 * MS));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_the_sending_of_the_request() {
    let server = Server::new();
    server.script(Op::Grant, [Step::serve().takes(100 * MS).reply_takes(200 * MS)]);
    let since = Instant::now();
    let lease = server.lock("x", ttl(TTL).auto_renew(false)).acquire().await.unwrap();
    assert_eq!(since.elapsed(), 300 * MS);
    assert_eq!(lease.remaining(), TTL - DRIFT - 300 * MS);
    assert_eq!(lost_after(&lease, since).await.1, TTL - DRIFT);
    // The server's own end of it is later, by the way there and the drift.
    assert_eq!(server.holders("x").len(), 1);
    pass(100 * MS + DRIFT).await;
    assert!(server.holders("x").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_counts_from_the_sending_of_its_request() {
    let server = Server::new();
    let since = Instant::now();
    let lease = server.lock("x", ttl(3 * SECOND)).acquire().await.unwrap();
    server.script(Op::Renew, [Step::serve().reply_takes(500 * MS)]);
    server.always(Op::Renew, Step::fail(ErrorKind::Unreachable));
    pass(1500 * MS).await;
    assert_eq!(lost_after(&lease, since).await.1, SECOND + 3 * SECOND - 32 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_took_longer_than_its_time_to_live_is_not_granted_and_is_undone() {
    let server = Server::new();
    let options = ttl(TTL).max_outage(Duration::ZERO);
    server.script(Op::Grant, [Step::serve().reply_takes(TTL - DRIFT)]);
    let error = server.lock("x", options.clone()).acquire().await.unwrap_err();
    assert!(matches!(&error, AcquireError::Backend { source, .. } if source.kind() == ErrorKind::TimedOut), "{error}");
    yield_all().await;
    assert_eq!(server.calls(Op::Release).len(), 1);
    assert!(server.holders("x").is_empty());

    // A millisecond less, and it is: for that millisecond.
    server.script(Op::Grant, [Step::serve().reply_takes(TTL - DRIFT - MS)]);
    let lease = server.lock("x", options).acquire().await.unwrap();
    assert_eq!(lease.remaining(), MS);
}

#[tokio::test(start_paused = true)]
async fn a_slow_grant_is_asked_for_again_within_the_outage() {
    let server = Server::new();
    server.script(Op::Grant, [Step::serve().reply_takes(2 * TTL)]);
    let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    assert_eq!(server.calls(Op::Grant).len(), 2);
    assert_eq!(lease.remaining(), TTL - DRIFT);
}

#[tokio::test(start_paused = true)]
async fn lost_is_level_triggered_and_outlives_the_lease() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL).auto_renew(false));

    let lease = lock.acquire().await.unwrap();
    let before = lease.lost();
    pass(TTL).await;
    let after = lease.lost();
    assert_eq!(before.now_or_never(), Some(LostReason::Expired));
    assert_eq!(after.now_or_never(), Some(LostReason::Expired));
    let outlives = lease.lost();
    drop(lease);
    assert_eq!(outlives.now_or_never(), Some(LostReason::Expired), "a release changes no reason");

    let lease = lock.acquire().await.unwrap();
    let lost = lease.lost();
    let waits = tokio::spawn(lease.lost());
    yield_all().await;
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(waits.await.unwrap(), LostReason::Released);
    assert_eq!(lost.now_or_never(), Some(LostReason::Released));

    let lease = lock.acquire().await.unwrap();
    let lost = lease.lost();
    assert_eq!(lease.lost().now_or_never(), None);
    drop(lease);
    assert_eq!(lost.now_or_never(), Some(LostReason::Released));
}

#[tokio::test(start_paused = true)]
async fn check_and_remaining_trip_by_themselves_while_the_background_is_starved() {
    for look in [|lease: &Lease| lease.check().is_ok(), |lease: &Lease| !lease.remaining().is_zero()] {
        let server = Server::new();
        let lease = server.lock("x", ttl(TTL)).acquire().await.unwrap();
        let lost = lease.lost();
        // No await point in between: the background does not run.
        let mut to_the_deadline = Box::pin(advance(TTL - DRIFT - MS));
        let _ = support::poll_once(to_the_deadline.as_mut());
        assert!(look(&lease));
        let mut past_it = Box::pin(advance(MS));
        let _ = support::poll_once(past_it.as_mut());
        assert!(!look(&lease));
        assert_eq!(lost.now_or_never(), Some(LostReason::Expired), "looking at it trips it for all");
    }
}

/// Runs at another speed than the server's clock.
#[derive(Debug)]
struct Skewed {
    clock: TokioClock,
    per_mille: u32,
}

impl Clock for Skewed {
    fn now(&self) -> Duration {
        self.clock.now() * self.per_mille / 1000
    }
}

/// Whether the lease ever passed for held while the server had ended it.
async fn overlaps(server: Server, per_mille: u32) -> bool {
    let clock = Skewed { clock: TokioClock::new(), per_mille };
    let manager = LeaseManager::with_clock(server.clone(), clock);
    let options = ttl(TTL).auto_renew(false);
    let lease = manager.lock(Thing::exclusive("x"), options).acquire().await.unwrap();
    for _ in 0..1100 {
        tokio::time::sleep(MS).await;
        if lease.check().is_ok() && server.holders("x").is_empty() {
            return true;
        }
    }
    false
}

#[tokio::test(start_paused = true)]
async fn a_clock_up_to_one_percent_slow_never_outlives_the_server() {
    for per_mille in [990, 995, 1000, 1010, 1100] {
        assert!(!overlaps(Server::new(), per_mille).await, "{per_mille}");
    }
    // Control: without the margin, or with a clock that is slower than promised, the overlap is seen.
    assert!(overlaps(Server::with_flaw(Flaw::NoDrift), 990).await);
    assert!(overlaps(Server::new(), 970).await);
}

#[tokio::test(start_paused = true)]
async fn work_under_a_lease_is_dropped_when_it_is_lost() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL).auto_renew(false));

    let lease = lock.acquire().await.unwrap();
    let ticks = Arc::new(AtomicU64::new(0));
    let work = {
        let ticks = ticks.clone();
        async move {
            loop {
                tokio::time::sleep(100 * MS).await;
                ticks.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let lost = lease.run_while_held(work).await.unwrap_err();
    assert_eq!((lost.reason, ticks.load(Ordering::Relaxed)), (LostReason::Expired, 9));
    assert_eq!(Arc::strong_count(&ticks), 1, "the work is gone");

    // Lost already: it is not even begun.
    let begun = lease.run_while_held(async { unreachable!() }).await;
    assert_eq!(begun.unwrap_err().reason, LostReason::Expired);
    drop(lease);

    let lease = lock.acquire().await.unwrap();
    assert_eq!(lease.run_while_held(async { 7 }).await.unwrap(), 7);
    assert!(lease.check().is_ok(), "it stays as it is");
    // Done in the very moment of the deadline: too late.
    assert!(lease.run_while_held(tokio::time::sleep(TTL - DRIFT)).await.is_err());
}
