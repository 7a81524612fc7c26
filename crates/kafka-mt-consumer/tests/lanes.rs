//! In which order records are worked on, and how many at a time.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use kafka_mt_consumer::{Attempt, Handler, NullKeys, Order, Outcome, Record};
use support::{Running, keyed, numbered, parallel, topic, until, without_keys};

/// Notes what overlaps what.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    open: Vec<Record>,
    most: usize,
    /// In the order in which they ended.
    done: Vec<Record>,
    /// Pairs that overlapped, by what is asked of them.
    same_key: usize,
    same_partition: usize,
    neither: usize,
}

impl Watch {
    fn begin(&self, record: &Record) {
        let mut seen = self.0.lock().unwrap();
        for other in seen.open.clone() {
            if other.partition() != record.partition() {
                seen.neither += 1;
            } else if other.key() == record.key() {
                seen.same_key += 1;
            } else {
                seen.same_partition += 1;
            }
        }
        seen.open.push(record.clone());
        seen.most = seen.most.max(seen.open.len());
    }

    fn end(&self, record: &Record) {
        let mut seen = self.0.lock().unwrap();
        seen.open.retain(|other| (other.partition(), other.offset()) != (record.partition(), record.offset()));
        seen.done.push(record.clone());
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().done.len()
    }

    /// How many records were worked on before one that has the same key and a lower offset.
    fn out_of_order(&self) -> usize {
        let mut last = HashMap::new();
        let seen = self.0.lock().unwrap();
        let goes_back = |record: &&Record| {
            let key = (record.partition(), record.key().map(<[u8]>::to_vec));
            last.insert(key, record.offset()).is_some_and(|before| before > record.offset())
        };
        seen.done.iter().filter(goes_back).count()
    }
}

/// Takes a millisecond of its own, of the thread's, or none, as the value says.
#[async_trait]
impl Handler<Record> for Watch {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        self.begin(record);
        match record.offset() % 3 {
            0 => tokio::time::sleep(Duration::from_millis(1)).await,
            1 => tokio::task::yield_now().await,
            _ => {}
        }
        self.end(record);
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_key_each_key_is_in_order_and_no_two_of_it_overlap_and_others_do() -> Result<()> {
    let (kafka, topic, group) = topic(2).await?;
    kafka.produce(&topic, None, keyed(5000, 50)).await?;
    let watch = Watch::default();
    let running = Running::start(parallel(&kafka, &group, &topic).handler(watch.clone())?);
    until("all is done", || watch.count() == 5000).await;
    let report = running.end().await?;
    assert_eq!((report.done, report.handed_back, watch.out_of_order()), (5000, 0, 0));
    let ends = kafka.end_offsets(&topic).await?;
    let committed = kafka.committed(&group, &topic).await?;
    assert_eq!(committed.iter().map(|one| one.offset.unwrap_or(-1)).collect::<Vec<_>>(), ends);
    let seen = watch.0.lock().unwrap();
    assert_eq!(seen.same_key, 0);
    assert!(seen.same_partition > 0 && seen.neither > 0, "{} {}", seen.same_partition, seen.neither);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_partition_no_two_of_one_overlap_and_in_no_order_two_of_a_key_do() -> Result<()> {
    for (order, in_order) in [(Order::Partition, true), (Order::Unordered, false)] {
        let (kafka, topic, group) = topic(2).await?;
        kafka.produce(&topic, None, keyed(1000, 10)).await?;
        let watch = Watch::default();
        let running = Running::start(parallel(&kafka, &group, &topic).order(order).handler(watch.clone())?);
        until("all is done", || watch.count() == 1000).await;
        assert_eq!(running.end().await?.done, 1000);
        let seen = watch.0.lock().unwrap();
        assert_eq!((seen.same_key + seen.same_partition == 0, seen.neither > 0), (in_order, true), "{order:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_have_no_order_or_one_lane_as_was_chosen() -> Result<()> {
    for (nulls, overlaps) in [(NullKeys::Unordered, true), (NullKeys::Partition, false)] {
        let (kafka, topic, group) = topic(1).await?;
        without_keys(&kafka, &topic, 300).await?;
        let watch = Watch::default();
        let running = Running::start(parallel(&kafka, &group, &topic).order(Order::Key(nulls)).handler(watch.clone())?);
        until("all is done", || watch.count() == 300).await;
        running.end().await?;
        assert_eq!(watch.0.lock().unwrap().same_key > 0, overlaps, "{nulls:?}");
        assert!(overlaps || watch.out_of_order() == 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_are_at_work_than_the_limit_says_and_all_partitions_have_their_share() -> Result<()> {
    for limit in [1, 3, 40] {
        let (kafka, topic, group) = topic(8).await?;
        kafka.produce(&topic, None, keyed(800, 400)).await?;
        let watch = Watch::default();
        let member = parallel(&kafka, &group, &topic).concurrency(NonZeroUsize::new(limit).unwrap());
        let running = Running::start(member.handler(watch.clone())?);
        until("all is done", || watch.count() == 800).await;
        assert_eq!(running.end().await?.done, 800);
        let seen = watch.0.lock().unwrap();
        assert!(seen.most <= limit && (seen.most == limit || limit > 3), "{} of {limit}", seen.most);
    }
    Ok(())
}

/// Each record waits until all are there.
struct Together(AtomicUsize, usize, tokio::sync::Notify);

#[async_trait]
impl Handler<Record> for Together {
    async fn handle(&self, _: &Record, _: Attempt<'_>) -> Outcome {
        let all = self.2.notified();
        if self.0.fetch_add(1, Ordering::SeqCst) + 1 == self.1 {
            self.2.notify_waiters();
        } else {
            all.await;
        }
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_are_at_work_at_a_time() -> Result<()> {
    let (kafka, topic, group) = topic(4).await?;
    kafka.produce(&topic, None, numbered(10_000)).await?;
    let together = Arc::new(Together(AtomicUsize::new(0), 10_000, tokio::sync::Notify::new()));
    let member = parallel(&kafka, &group, &topic).concurrency(NonZeroUsize::new(10_000).unwrap());
    let running = Running::start(member.handler(together.clone())?);
    until("all are at work", || together.0.load(Ordering::SeqCst) == 10_000).await;
    assert_eq!(running.end().await?.done, 10_000);
    Ok(())
}

/// Keeps its thread busy, and never waits.
struct Busy(Watch);

#[async_trait]
impl Handler<Record> for Busy {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        self.0.begin(record);
        std::thread::sleep(Duration::from_millis(2));
        self.0.end(record);
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn work_that_keeps_its_thread_busy_is_spread_over_the_threads_and_in_order() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, None, keyed(400, 40)).await?;
    let watch = Watch::default();
    let running = Running::start(parallel(&kafka, &group, &topic).handler(Busy(watch.clone()))?);
    until("all is done", || watch.count() == 400).await;
    running.end().await?;
    let seen = watch.0.lock().unwrap();
    assert!(seen.most > 1 && seen.same_key == 0, "{}", seen.most);
    drop(seen);
    assert_eq!(watch.out_of_order(), 0);
    Ok(())
}
