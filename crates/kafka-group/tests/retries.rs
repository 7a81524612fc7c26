//! What becomes of records that cannot be handled at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kafka_group::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka_group::rdkafka::message::{Headers, Message};
use kafka_group::rdkafka::{ClientConfig, Offset, TopicPartitionList};
use kafka_group::{AtLimit, Attempt, Handler, Outcome, Record, RetryPolicy, StallReason, Trouble, header};
use support::{Log, Running, member_of, numbered, quickly, topic, until};
use turnstile_testkit::unique;

/// Fails at one value, as often as it is told to.
struct Failing {
    log: Log,
    at: &'static [u8],
    failures: AtomicU32,
    how: fn() -> Outcome,
}

impl Failing {
    fn new(log: &Log, at: &'static [u8], failures: u32, how: fn() -> Outcome) -> Self {
        Self { log: log.clone(), at, failures: failures.into(), how }
    }
}

#[async_trait]
impl Handler<Record> for Failing {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self.log.note(record, attempt);
        let fails = |left: u32| left.checked_sub(1);
        if record.value() == Some(self.at)
            && self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok()
        {
            (self.how)()
        } else {
            Outcome::Done
        }
    }
}

fn attempts(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_tried_again_in_place_and_those_behind_it_wait() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, Some(0), numbered(5)).await?;
    let log = Log::default();
    let failing = Failing::new(&log, b"2", 2, || Outcome::retry(anyhow!("not yet")));
    let member = member_of(&kafka.brokers(), &group, &topic)
        .retries(RetryPolicy::forever().backoff(quickly()))
        .handler(failing)?;
    let running = Running::start(member);
    log.until(7).await?;
    let report = running.end().await?;
    let expected = [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 2, 2), (0, 2, 3), (0, 3, 1), (0, 4, 1)];
    assert_eq!(log.all(), expected);
    assert_eq!((report.done, report.retries), (5, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_attempt_that_failed() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, Some(0), numbered(3)).await?;
    let log = Log::default();
    let failing = Failing::new(&log, b"1", 1, || panic!("the handler's fault"));
    let member = member_of(&kafka.brokers(), &group, &topic)
        .retries(RetryPolicy::forever().backoff(quickly()))
        .handler(failing)?;
    let running = Running::start(member);
    log.until(4).await?;
    assert_eq!(running.end().await?.done, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_a_record_goes_to_the_dead_letters_with_its_story_and_the_rest_goes_on() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    let dead = unique("dead");
    kafka.topic(&dead, 1).await?;
    kafka.produce(&topic, Some(0), numbered(4)).await?;
    let log = Log::default();
    let failing = Failing::new(&log, b"1", u32::MAX, || Outcome::retry(anyhow!("inner").context("outer")));
    let member = member_of(&kafka.brokers(), &group, &topic)
        .retries(RetryPolicy::new(attempts(3), AtLimit::DeadLetter).backoff(quickly()))
        .dead_letters(&dead)
        .handler(failing)?;
    let running = Running::start(member);
    log.until(6).await?;
    let report = running.end().await?;
    assert_eq!((report.done, report.dead_letters, report.retries), (3, 1, 2));
    assert_eq!(kafka.committed(&group, &topic).await?[0].offset, Some(4));

    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).set("group.id", unique("reader")).create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&dead, 0, Offset::Beginning)?;
    reader.assign(&from)?;
    let letter = reader.poll(Duration::from_secs(30)).expect("a dead letter")?;
    assert_eq!((letter.key(), letter.payload()), (Some(&b"k1"[..]), Some(&b"1"[..])));
    let headers = letter.headers().expect("headers");
    let told: Vec<_> =
        headers.iter().map(|one| (one.key, String::from_utf8_lossy(one.value.unwrap()).into_owned())).collect();
    let expected = [
        (header::TOPIC, topic.as_str()),
        (header::PARTITION, "0"),
        (header::OFFSET, "1"),
        (header::GROUP, &group),
        (header::ATTEMPTS, "3"),
        (header::ERROR, "outer: inner"),
    ];
    assert_eq!(told, expected.map(|(name, value)| (name, value.to_owned())));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_partition_says_so_the_others_go_on_and_nothing_is_committed_past_it() -> Result<()> {
    let (kafka, topic, group) = topic(2).await?;
    kafka.produce(&topic, Some(0), numbered(4)).await?;
    kafka.produce(&topic, Some(1), (0..4).map(|_| ("k", "fine"))).await?;
    let log = Log::default();
    let failing = Failing::new(&log, b"1", u32::MAX, || Outcome::retry(anyhow!("broken")));
    let member = member_of(&kafka.brokers(), &group, &topic)
        .retries(RetryPolicy::new(attempts(2), AtLimit::Halt).backoff(quickly()))
        .stalled_after(Duration::from_millis(300))
        .handler(failing)?;
    let mut running = Running::start(member);
    let status = running.until(|status| status.partitions.iter().any(|one| one.stall.is_some())).await?;
    let stall = status.partitions[0].stall.clone().expect("partition 0 is stalled");
    let halted = Trouble::Halted { offset: 1, error: "broken".into() };
    assert_eq!(stall.reason, StallReason::Trouble(halted));
    until("it happens", || log.offsets(1).len() == 4).await;
    let report = running.end().await?;
    assert_eq!(log.offsets(0), [0, 1, 1]);
    assert_eq!((report.done, report.handed_back, report.halted.len()), (5, 3, 1));
    let committed = kafka.committed(&group, &topic).await?;
    assert_eq!((committed[0].offset, committed[1].offset), (Some(1), Some(4)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_may_end_the_run_and_its_record_is_delivered_again() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, Some(0), numbered(4)).await?;
    let log = Log::default();
    let failing = Failing::new(&log, b"2", 1, || Outcome::Stop(anyhow!("the disk is full")));
    let running = Running::start(member_of(&kafka.brokers(), &group, &topic).handler(failing)?);
    let report = running.ended().await??;
    assert_eq!(report.stopped_by.expect("the handler's error").to_string(), "the disk is full");
    assert_eq!((report.done, report.handed_back), (2, 2));
    let running = Running::start(member_of(&kafka.brokers(), &group, &topic).handler(log.clone())?);
    log.until(5).await?;
    running.end().await?;
    assert_eq!(log.offsets(0), [0, 1, 2, 2, 3]);
    Ok(())
}

/// Works until it is told to stop, and notes whether it was told or dropped.
#[derive(Clone, Default)]
struct Endless {
    begun: Arc<AtomicBool>,
    told: Arc<AtomicBool>,
    goes_on: bool,
    dropped: Arc<AtomicBool>,
}

struct NoteDrop(Arc<AtomicBool>);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Handler<Record> for Endless {
    async fn handle(&self, _: &Record, attempt: Attempt<'_>) -> Outcome {
        let _note = NoteDrop(self.dropped.clone());
        self.begun.store(true, Ordering::SeqCst);
        attempt.cancelled().cancelled().await;
        self.told.store(true, Ordering::SeqCst);
        if self.goes_on {
            std::future::pending::<()>().await;
        }
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn near_the_end_of_the_shutdown_a_handler_is_told_and_at_its_end_it_is_dropped() -> Result<()> {
    for goes_on in [false, true] {
        let (kafka, topic, group) = topic(1).await?;
        kafka.produce(&topic, Some(0), numbered(1)).await?;
        let endless = Endless { goes_on, ..Endless::default() };
        let member = member_of(&kafka.brokers(), &group, &topic).handler(endless.clone())?;
        let running = Running::start_with(member, Duration::from_secs(1));
        until("it happens", || endless.begun.load(Ordering::SeqCst)).await;
        let report = running.end().await?;
        assert!(endless.told.load(Ordering::SeqCst));
        until("it happens", || endless.dropped.load(Ordering::SeqCst)).await;
        // Who heeds the sign has time to finish, and that counts.
        assert_eq!((report.done, report.handed_back), if goes_on { (0, 1) } else { (1, 0) });
        let committed = kafka.committed(&group, &topic).await?[0].offset;
        assert_eq!(committed, Some(report.done as i64));
    }
    Ok(())
}
