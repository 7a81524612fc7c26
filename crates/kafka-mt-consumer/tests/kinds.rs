//! Batches, blocking handlers, limits; large keys, metadata of others, room in the commits' metadata.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kafka_mt_consumer::kafka_group::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use kafka_mt_consumer::kafka_group::rdkafka::{ClientConfig, Offset, TopicPartitionList};
use kafka_mt_consumer::{
    Adaptive, Amount, AtLimit, Attempt, BatchHandler, CommitPolicy, Handler, Order, Outcome, ParallelBuilder, Record,
    RetryPolicy,
};
use support::{Log, Running, group, keyed, numbered, parallel, quickly, topic, until};
use turnstile_testkit::unique;

fn many(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// Notes what came together; fails at one value.
#[derive(Clone, Default)]
struct Together(Arc<Mutex<Vec<Vec<Record>>>>, Option<&'static [u8]>);

impl Together {
    fn records(&self) -> usize {
        self.0.lock().unwrap().iter().map(Vec::len).sum()
    }
}

#[async_trait]
impl BatchHandler for Together {
    async fn handle(&self, records: &[Record], _: Attempt<'_>) -> Outcome {
        if records.iter().any(|record| self.1.is_some() && record.value() == self.1) {
            return Outcome::retry(anyhow!("one of these never works"));
        }
        tokio::task::yield_now().await;
        self.0.lock().unwrap().push(records.to_vec());
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_of_one_lane_in_order_and_no_larger_than_asked_for() -> Result<()> {
    for order in [Order::default(), Order::Partition, Order::Unordered] {
        let (kafka, topic, name) = topic(2).await?;
        kafka.produce(&topic, None, keyed(600, 4)).await?;
        let batches = Together::default();
        let member = parallel(&kafka, &name, &topic).order(order);
        let running = Running::start(member.batches(many(10), Duration::from_millis(50), batches.clone())?);
        until("all is done", || batches.records() == 600).await;
        assert_eq!(running.end().await?.done, 600);
        let batches = batches.0.lock().unwrap();
        for batch in &*batches {
            let offsets: Vec<_> = batch.iter().map(Record::offset).collect();
            assert!(batch.len() <= 10 && offsets.is_sorted(), "{order:?} {offsets:?}");
            let first = &batch[0];
            assert!(batch.iter().all(|record| record.partition() == first.partition()));
            assert!(order != Order::default() || batch.iter().all(|record| record.key() == first.key()));
        }
        assert!(batches.iter().any(|batch| batch.len() == 10), "{order:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_is_taken_apart_and_only_what_never_works_is_set_aside() -> Result<()> {
    let (kafka, topic, name) = topic(1).await?;
    let dead = unique("dead");
    kafka.topic(&dead, 1).await?;
    kafka.produce(&topic, None, keyed(30, 1)).await?;
    let batches = Together(Arc::default(), Some(b"7"));
    let twice = RetryPolicy::new(NonZeroU32::new(2).unwrap(), AtLimit::DeadLetter).backoff(quickly());
    let member = ParallelBuilder::new(group(&kafka, &name, &topic).dead_letters(&dead).retries(twice));
    let running = Running::start(member.batches(many(10), Duration::from_millis(20), batches.clone())?);
    until("all others are done", || batches.records() == 29).await;
    let report = running.end().await?;
    assert_eq!((report.done, report.dead_letters), (29, 1));
    let offsets: Vec<_> = batches.0.lock().unwrap().iter().flatten().map(Record::offset).collect();
    assert!(offsets.is_sorted() && !offsets.contains(&7), "{offsets:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_handlers_have_so_many_threads_and_no_more_and_keep_the_order() -> Result<()> {
    let (kafka, topic, name) = topic(2).await?;
    kafka.produce(&topic, None, keyed(200, 20)).await?;
    let log = Log::default();
    let (at_work, most, panicked) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), AtomicBool::new(false));
    let (of_log, of_most) = (log.clone(), most.clone());
    let handler = move |record: &Record, attempt: Attempt<'_>| {
        let now = at_work.fetch_add(1, Ordering::SeqCst) + 1;
        of_most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
        at_work.fetch_sub(1, Ordering::SeqCst);
        assert!(panicked.swap(true, Ordering::SeqCst), "the first one fails");
        of_log.note(record, attempt);
        Outcome::Done
    };
    let running = Running::start(parallel(&kafka, &name, &topic).blocking(many(3), handler)?);
    log.until(200).await?;
    let report = running.end().await?;
    assert_eq!((report.done, report.retries), (200, 1));
    assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_kept() -> Result<()> {
    let (kafka, topic, name) = topic(4).await?;
    kafka.produce(&topic, None, numbered(300)).await?;
    let log = Log::default();
    let member = parallel(&kafka, &name, &topic).rate(NonZeroU32::new(200).unwrap());
    let begun = Instant::now();
    let running = Running::start(member.handler(log.clone())?);
    log.until(300).await?;
    // That is a bound from below: nothing can be too slow for it.
    assert!(begun.elapsed() >= Duration::from_millis(1400), "{:?}", begun.elapsed());
    assert_eq!(running.end().await?.done, 300);
    Ok(())
}

/// Bears four at a time; more of them wait for one another.
struct Bears(tokio::sync::Semaphore, AtomicUsize);

#[async_trait]
impl Handler<Record> for Bears {
    async fn handle(&self, _: &Record, _: Attempt<'_>) -> Outcome {
        let _seat = self.0.acquire().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.1.fetch_add(1, Ordering::SeqCst);
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_adaptive_limit_all_is_done() -> Result<()> {
    let (kafka, topic, name) = topic(2).await?;
    kafka.produce(&topic, None, numbered(2000)).await?;
    let bears = Arc::new(Bears(tokio::sync::Semaphore::new(4), AtomicUsize::new(0)));
    let member = parallel(&kafka, &name, &topic).adaptive(Adaptive::default()).handler(bears.clone())?;
    let running = Running::start(member);
    until("all is done", || bears.1.load(Ordering::SeqCst) == 2000).await;
    assert_eq!(running.end().await?.done, 2000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_megabyte_have_their_lanes() -> Result<()> {
    let (kafka, topic, name) = topic(1).await?;
    let key = |last: usize| {
        let mut key = vec![b'k'; 900_000];
        key.push(b'0' + (last % 2) as u8);
        key
    };
    kafka.produce(&topic, Some(0), (0..8).map(|number| (key(number), number.to_string()))).await?;
    let log = Log::default();
    let handler = Slow(log.clone());
    let running = Running::start(parallel(&kafka, &name, &topic).handler(handler)?);
    log.until(8).await?;
    assert_eq!(running.end().await?.done, 8);
    let offsets = log.offsets(0);
    for parity in [0, 1] {
        assert!(offsets.iter().filter(|offset| *offset % 2 == parity).is_sorted(), "{offsets:?}");
    }
    Ok(())
}

/// Waits a little.
struct Slow(Log);

#[async_trait]
impl Handler<Record> for Slow {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        tokio::task::yield_now().await;
        self.0.note(record, attempt);
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_other_software_is_ignored_and_nothing_is_skipped() -> Result<()> {
    let (kafka, topic, name) = topic(1).await?;
    kafka.produce(&topic, Some(0), numbered(20)).await?;
    let (brokers, of, in_topic) = (kafka.brokers(), name.clone(), topic.clone());
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", of).create()?;
        let mut list = TopicPartitionList::new();
        let mut one = list.add_partition(&in_topic, 0);
        one.set_offset(Offset::Offset(5))?;
        one.set_metadata("{\"done\":[6,7,8]}");
        consumer.commit(&list, CommitMode::Sync)
    })
    .await??;
    let log = Log::default();
    let running = Running::start(parallel(&kafka, &name, &topic).handler(Slow(log.clone()))?);
    log.until(15).await?;
    assert_eq!(running.end().await?.done, 15);
    Ok(())
}

/// Never ends at the first record of all; ends at all others of odd offset.
struct Holes(AtomicUsize);

#[async_trait]
impl Handler<Record> for Holes {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        tokio::task::yield_now().await;
        if record.offset() % 40 == 0 {
            std::future::pending::<()>().await;
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_rests_before_its_commits_metadata_is_full_and_without_that_it_does_not() -> Result<()> {
    for limit in [200, 0] {
        let (kafka, topic, name) = topic(1).await?;
        kafka.produce(&topic, Some(0), numbered(40_000)).await?;
        let holes = Arc::new(Holes(AtomicUsize::new(0)));
        let of_group = group(&kafka, &name, &topic)
            .budget(Amount { records: 10_000, bytes: 1 << 30 })
            .commits(CommitPolicy::default().metadata_limit(limit));
        let member = ParallelBuilder::new(of_group).concurrency(many(5000)).handler(holes.clone())?;
        let mut running = Running::start_with(member, Duration::from_millis(200));
        if limit > 0 {
            running.until(|status| status.partitions.iter().any(|one| one.paused)).await?;
        } else {
            until("all others are done", || holes.0.load(Ordering::SeqCst) == 39_000).await;
            running.until(|status| status.partitions.iter().any(|one| one.in_hand.records == 1000)).await?;
            assert!(!running.status.borrow().partitions[0].paused);
        }
        running.end().await?;
        let committed = kafka.committed(&name, &topic).await?.remove(0);
        assert_eq!(committed.offset, Some(0));
        assert!(committed.metadata.len() <= limit && committed.metadata.is_empty() == (limit == 0), "{committed:?}");
    }
    Ok(())
}
