//! One key that does not get on: the others go on, it is told by its name, and memory is bounded.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kafka_mt_consumer::kafka_group::Trouble;
use kafka_mt_consumer::{
    Amount, AtLimit, Attempt, CommitPolicy, GroupBuilder, Handler, Outcome, ParallelBuilder, Record, RetryPolicy,
    StallReason, Status,
};
use support::{Log, Running, group, keyed, parallel, quickly, topic};
use turnstile_testkit::unique;

/// Does nothing to all keys but one, at which it does as it is told.
struct Stuck<F> {
    log: Log,
    key: &'static [u8],
    how: F,
}

#[async_trait]
impl<F, O> Handler<Record> for Stuck<F>
where
    F: Fn(u32) -> O + Send + Sync + 'static,
    O: Future<Output = Outcome> + Send,
{
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        let outcome = if record.key() == Some(self.key) {
            (self.how)(attempt.number().get()).await
        } else {
            tokio::task::yield_now().await;
            Outcome::Done
        };
        if matches!(outcome, Outcome::Done) {
            self.log.note(record, attempt);
        }
        outcome
    }
}

async fn hangs(_: u32) -> Outcome {
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_hangs_is_told_by_its_name_and_stops_no_other() -> Result<()> {
    let (kafka, topic, name) = topic(1).await?;
    kafka.produce(&topic, None, keyed(1000, 10)).await?;
    let log = Log::default();
    let member = ParallelBuilder::new(group(&kafka, &name, &topic).stalled_after(Duration::from_millis(300)));
    let mut running = Running::start_with(
        member.handler(Stuck { log: log.clone(), key: b"k3", how: hangs })?,
        Duration::from_secs(1),
    );
    log.until(900).await?;
    let status = running.until(|status| status.partitions.iter().any(|one| one.stall.is_some())).await?;
    let reason = status.partitions[0].stall.clone().unwrap().reason;
    let StallReason::Lane { key, offset, behind, trouble } = &reason else { panic!("{reason}") };
    assert_eq!(key.as_ref().unwrap().beginning(), b"k3");
    assert_eq!((*offset, *behind, trouble), (3, 99, &None));
    assert_eq!(reason.to_string(), "the key \"k3\" stands at offset 3, 99 records behind it");
    assert_eq!(status.partitions[0].commit_point, 3);
    let report = running.end().await?;
    assert_eq!((report.done, report.handed_back), (900, 100));
    // What is done beyond is not done again.
    let rest = Log::default();
    let running = Running::start(parallel(&kafka, &name, &topic).handler(rest.clone())?);
    rest.until(100).await?;
    assert_eq!(running.end().await?.done, 100);
    assert!(rest.offsets(0).iter().all(|offset| offset % 10 == 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_metadata_what_was_done_beyond_is_done_again() -> Result<()> {
    let (kafka, topic, name) = topic(1).await?;
    kafka.produce(&topic, None, keyed(100, 10)).await?;
    let log = Log::default();
    let without = group(&kafka, &name, &topic).commits(CommitPolicy::default().metadata_limit(0));
    let running = Running::start_with(
        ParallelBuilder::new(without).handler(Stuck { log: log.clone(), key: b"k3", how: hangs })?,
        Duration::from_secs(1),
    );
    log.until(90).await?;
    running.end().await?;
    let rest = Log::default();
    let running = Running::start(parallel(&kafka, &name, &topic).handler(rest.clone())?);
    rest.until(97).await?;
    assert_eq!(running.end().await?.done, 97, "all from the first that was not done");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_in_its_lane_and_takes_no_seat_meanwhile() -> Result<()> {
    let (kafka, topic, name) = topic(1).await?;
    kafka.produce(&topic, None, keyed(40, 4)).await?;
    let log = Log::default();
    let fails = Arc::new(AtomicBool::new(true));
    let how = {
        let fails = fails.clone();
        move |_| {
            let failing = fails.load(Ordering::SeqCst);
            async move { if failing { Outcome::retry(anyhow!("not yet")) } else { Outcome::Done } }
        }
    };
    let member = parallel(&kafka, &name, &topic).concurrency(std::num::NonZeroUsize::MIN);
    let running = Running::start(member.handler(Stuck { log: log.clone(), key: b"k1", how })?);
    log.until(30).await?;
    assert!(log.all().iter().all(|(_, offset, _)| offset % 4 != 1));
    fails.store(false, Ordering::SeqCst);
    log.until(40).await?;
    let report = running.end().await?;
    assert_eq!(report.done, 40);
    let of_it: Vec<_> = log.offsets(0).into_iter().filter(|offset| offset % 4 == 1).collect();
    assert!(of_it.is_sorted(), "{of_it:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_is_tried_again_and_set_aside_and_its_lane_goes_on() -> Result<()> {
    let (kafka, topic, name) = topic(1).await?;
    let dead = unique("dead");
    kafka.topic(&dead, 1).await?;
    kafka.produce(&topic, None, keyed(40, 4)).await?;
    let log = Log::default();
    let panics = |attempt| async move {
        tokio::task::yield_now().await;
        panic!("attempt {attempt}")
    };
    let twice = RetryPolicy::new(NonZeroU32::new(2).unwrap(), AtLimit::DeadLetter).backoff(quickly());
    let member = ParallelBuilder::new(group(&kafka, &name, &topic).dead_letters(&dead).retries(twice));
    let mut running = Running::start(member.handler(Stuck { log: log.clone(), key: b"k1", how: panics })?);
    log.until(30).await?;
    running.until(|status| status.partitions.iter().any(|one| one.commit_point == 40)).await?;
    let report = running.end().await?;
    assert_eq!((report.done, report.dead_letters, report.retries), (30, 10, 10));
    assert_eq!(kafka.committed(&name, &topic).await?[0].offset, Some(40));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_key_stands_alone_and_is_told_with_its_error() -> Result<()> {
    let (kafka, topic, name) = topic(1).await?;
    kafka.produce(&topic, None, keyed(40, 4)).await?;
    let log = Log::default();
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let how = move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Outcome::retry(anyhow!("never")) }
    };
    let once = RetryPolicy::new(NonZeroU32::MIN, AtLimit::Halt);
    let member = group(&kafka, &name, &topic).retries(once).stalled_after(Duration::from_millis(300));
    let mut running =
        Running::start(ParallelBuilder::new(member).handler(Stuck { log: log.clone(), key: b"k1", how })?);
    log.until(30).await?;
    let status = running.until(|status| status.partitions.iter().any(|one| one.stall.is_some())).await?;
    let reason = status.partitions[0].stall.clone().unwrap().reason;
    assert!(
        matches!(&reason, StallReason::Lane { behind: 9, trouble: Some(Trouble::Halted { offset: 1, .. }), .. }),
        "{reason}"
    );
    let report = running.end().await?;
    assert_eq!((report.done, report.halted.len(), tries.load(Ordering::SeqCst)), (30, 1, 1));
    Ok(())
}

/// How much is in hand of 20,000 records of keys that hang: once all partitions rest, or all is there.
async fn in_hand(partitions: i32, change: impl FnOnce(GroupBuilder) -> GroupBuilder) -> Result<Amount> {
    let (kafka, topic, name) = topic(partitions).await?;
    for partition in 0..partitions {
        let of_one_key = (0..20_000 / partitions).map(|_| ("k3", [b'v'; 98]));
        kafka.produce(&topic, Some(partition), of_one_key).await?;
    }
    let member = ParallelBuilder::new(change(group(&kafka, &name, &topic)));
    let stuck = Stuck { log: Log::default(), key: b"k3", how: hangs };
    let mut running = Running::start_with(member.handler(stuck)?, Duration::from_secs(1));
    let sum = |status: &Status| {
        let all = status.partitions.iter().map(|one| one.in_hand);
        all.fold(Amount { records: 0, bytes: 0 }, |sum, one| Amount {
            records: sum.records + one.records,
            bytes: sum.bytes + one.bytes,
        })
    };
    let status = running.until(|status| {
        let rest = status.partitions.iter().filter(|one| one.paused).count() == partitions as usize;
        rest || sum(status).records == 20_000
    });
    let sum = sum(&status.await?);
    running.end().await?;
    Ok(sum)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_behind_a_stuck_key_is_bounded_by_count_and_bytes() -> Result<()> {
    for (records, bytes) in [(50, 1 << 30), (1 << 20, 5000)] {
        let held = in_hand(1, |group| group.budget(Amount { records, bytes })).await?;
        // By a batch more.
        assert!(held.records <= 50 + 1024 && held.bytes <= (50 + 1024) * 100, "{held:?}");
    }
    let without = in_hand(1, |group| group.budget(Amount { records: 1 << 20, bytes: 1 << 30 })).await?;
    assert_eq!(without.records, 20_000, "without a bound all of it waits in memory");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_all_partitions_together_is_bounded() -> Result<()> {
    let held = in_hand(4, |group| group.total_budget(Amount { records: 100, bytes: 1 << 30 })).await?;
    assert!(held.records <= 100 + 4 * 1024, "{held:?}");
    let without = in_hand(4, |group| group).await?;
    assert_eq!(without.records, 20_000);
    Ok(())
}
