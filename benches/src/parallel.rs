//! One member with many workers: kafka-mt-consumer by key, beside a bare poll loop or the ideal.

use std::alloc::System;
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use kafka_group::rdkafka::ClientConfig;
use kafka_group::rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use kafka_group::{
    Amount, Attempt, CommitPolicy, GroupBuilder, Handler, Outcome, Record, Shutdown, Start, StartAt, Status,
};
use kafka_mt_consumer::ParallelBuilder;
use stats_alloc::{Region, StatsAlloc};
use tokio::sync::Semaphore;
use turnstile_testkit::kafka::Kafka;
use turnstile_testkit::unique;

use crate::consume::{Empty, Ends, FETCHING, LIMIT, PARTITIONS, Read, Topic};
use crate::rounds::quantile;
use crate::wait::Wait;

fn member(brokers: &str, group: &str, topic: &str, in_flight: usize) -> ParallelBuilder {
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    let group = GroupBuilder::new(brokers, group, [topic], start);
    let group = FETCHING.iter().fold(group, |group, (key, value)| group.option(*key, *value));
    ParallelBuilder::new(group).concurrency(in_flight.try_into().unwrap_or(std::num::NonZeroUsize::MIN))
}

/// Takes a time, and counts.
struct Waits {
    ends: Arc<Ends>,
    left: AtomicI64,
    wait: Wait,
}

#[async_trait]
impl Handler<Record> for Waits {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        if record.offset() == 0 {
            self.ends.first();
        }
        self.wait.over().await;
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.ends.over();
        }
        Outcome::Done
    }
}

impl Topic {
    /// Reads it by key, with an empty handler or one that waits.
    ///
    /// # Errors
    /// When the run fails, or not all was handled.
    pub async fn by_key(&self, work: Option<Wait>, in_flight: usize) -> Result<Read> {
        let ends = self.ends();
        let member = member(&self.server.brokers(), &unique("ours"), &self.name, in_flight);
        let member = match work {
            None => member.handler(Empty(ends.clone()))?,
            Some(wait) => member.handler(Waits { ends: ends.clone(), left: AtomicI64::new(self.records()), wait })?,
        };
        let shutdown = Shutdown::new(Duration::from_secs(30));
        let run = tokio::spawn(member.run(shutdown.clone()));
        tokio::time::timeout(LIMIT, ends.all.notified()).await.context("a round of ours hangs")?;
        shutdown.begin();
        let done = run.await??.done;
        ensure!(done == self.records() as u64, "{done} records were handled, and not {}", self.records());
        ends.read(self.records())
    }
}

/// Notes how long records were under way, but those of one key, which may take longer.
struct Latency {
    slow: Option<Duration>,
    since: Instant,
    taken: Mutex<Vec<f64>>,
}

#[async_trait]
impl Handler<Record> for Latency {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        let is_it = record.key() == Some(b"key-0");
        let time = self.slow.filter(|_| is_it).unwrap_or(Duration::from_millis(1));
        tokio::time::sleep(time).await;
        let sent = record.value().and_then(|value| value.first_chunk::<8>()).map(|nanos| u64::from_be_bytes(*nanos));
        if let Some(sent) = sent.filter(|_| !is_it) {
            let under_way = self.since.elapsed().saturating_sub(Duration::from_nanos(sent));
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(under_way.as_secs_f64() * 1e3);
        }
        Outcome::Done
    }
}

/// The 99th percentile of milliseconds from sending to the end of a millisecond's work, at 8,000 records a second over 10,000
/// keys, of which one in a thousand is of a key that takes as long or, if `slow`, longer.
///
/// # Errors
/// When Kafka or the run fails.
pub async fn p99(kafka: &Kafka, slow: Option<Duration>) -> Result<f64> {
    const KEYS: u64 = 10_000;
    let topic = unique("latency");
    kafka.topic(&topic, PARTITIONS).await?;
    let latency = Arc::new(Latency { slow, since: Instant::now(), taken: Mutex::default() });
    let member = member(&kafka.brokers(), &unique("ours"), &topic, 1000).handler(latency.clone())?;
    let mut status = member.status();
    let shutdown = Shutdown::new(Duration::from_millis(100));
    let run = tokio::spawn(member.run(shutdown.clone()));
    status.wait_for(|status| status.partitions.len() == PARTITIONS as usize).await?;
    let (brokers, since) = (kafka.brokers(), latency.since);
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "1").create()?;
        let begun = Instant::now();
        for number in 0..KEYS * 2 {
            if number % 8 == 0 {
                let due = begun + Duration::from_millis(number / 8);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                producer.poll(Duration::ZERO);
            }
            let key = format!("key-{}", if number % 1000 == 0 { 0 } else { number % KEYS });
            let mut value = [b'v'; 100];
            let nanos = u64::try_from(since.elapsed().as_nanos())?;
            value[..8].copy_from_slice(&nanos.to_be_bytes());
            let partition = i32::try_from(number % PARTITIONS as u64)?;
            let record = BaseRecord::to(&topic).key(&key).payload(&value[..]).partition(partition);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(Duration::from_secs(30))?;
        anyhow::Ok(())
    })
    .await??;
    let all = || latency.taken.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
    let begun = Instant::now();
    while all() < KEYS * 2 - 20 {
        ensure!(begun.elapsed() < LIMIT, "{} of {} records came", all(), KEYS * 2);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    shutdown.begin();
    run.await??;
    let mut taken = latency.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(quantile(&mut taken, 0.99))
}

/// Waits until it is let go.
struct Held {
    begun: AtomicUsize,
    go: Semaphore,
}

#[async_trait]
impl Handler<Record> for Held {
    async fn handle(&self, _: &Record, _: Attempt<'_>) -> Outcome {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let _ = self.go.acquire().await;
        Outcome::Done
    }
}

/// Bytes on the heap for each of so many records in hand, of which so many are at a handler, without what the records
/// themselves have: tasks, lanes, books, and the handlers' futures, which wait for a semaphore.
///
/// # Errors
/// When Kafka or the run fails.
pub async fn bytes(heap: &'static StatsAlloc<System>, kafka: &Kafka, in_hand: usize, in_flight: usize) -> Result<f64> {
    let topic = unique("bytes");
    kafka.topic(&topic, PARTITIONS).await?;
    let held = Arc::new(Held { begun: AtomicUsize::new(0), go: Semaphore::new(0) });
    let member = member(&kafka.brokers(), &unique("ours"), &topic, in_flight).handler(held.clone())?;
    let mut status = member.status();
    let shutdown = Shutdown::new(Duration::from_secs(30));
    let run = tokio::spawn(member.run(shutdown.clone()));
    status.wait_for(|status| status.partitions.len() == PARTITIONS as usize).await?;
    let region = Region::new(heap);
    // Made and dropped within what is counted.
    let records: Vec<_> = (0..in_hand).map(|number| (format!("key-{number}"), [b'v'; 100])).collect();
    let size: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
    kafka.produce(&topic, None, records).await?;
    let begun = Instant::now();
    let all_in_hand =
        |status: &Status| status.partitions.iter().map(|one| one.in_hand.records).sum::<u64>() == in_hand as u64;
    while held.begun.load(Ordering::Relaxed) < in_flight || !all_in_hand(&status.borrow()) {
        ensure!(begun.elapsed() < LIMIT, "{held} are in flight", held = held.begun.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stats = region.change();
    let grown = stats.bytes_allocated as i64 - stats.bytes_deallocated as i64;
    held.go.close();
    shutdown.begin();
    run.await??;
    Ok((grown - size as i64) as f64 / in_hand as f64)
}

/// What a process that is to be killed is told: brokers, topic, group.
pub type Victim = [String; 3];

/// Of a hundred records in a row one is never done.
fn is_done(record: &Record) -> bool {
    record.offset() % 100 != 0
}

/// Does all that it can, and waits to be killed.
///
/// # Errors
/// When the run fails.
pub async fn victim([brokers, topic, group]: Victim) -> Result<()> {
    struct Mostly;
    #[async_trait]
    impl Handler<Record> for Mostly {
        async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
            tokio::task::yield_now().await;
            if !is_done(record) {
                std::future::pending::<()>().await;
            }
            Outcome::Done
        }
    }
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    let commits = CommitPolicy::at_the_end().every(Duration::from_millis(20));
    let group = GroupBuilder::new(brokers, group, [topic], start)
        .session_timeout(Duration::from_secs(6))
        .budget(Amount { records: 100_000, bytes: 64 << 20 })
        .commits(commits);
    let member = ParallelBuilder::new(group).concurrency(std::num::NonZeroUsize::MIN.saturating_add(9_999));
    member.handler(Mostly)?.run(Shutdown::new(Duration::from_secs(1))).await?;
    Ok(())
}

/// How many records that were done are handled again when a member with 10,000 in flight, 99 % of them done, is killed. Also
/// how many were not done.
///
/// # Errors
/// When Kafka or a process fails.
pub async fn redone(kafka: &Kafka) -> Result<(f64, usize)> {
    const RECORDS: usize = 10_000;
    let (topic, group) = (unique("redone"), unique("group"));
    kafka.topic(&topic, 1).await?;
    let records = (0..RECORDS).map(|number| (format!("key-{number}"), [b'v'; 100]));
    kafka.produce(&topic, None, records).await?;
    let mut victim = std::process::Command::new(std::env::current_exe()?)
        .arg("--victim")
        .args([&kafka.brokers(), &topic, &group])
        .stdin(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    loop {
        let committed = kafka.committed(&group, &topic).await?.remove(0);
        let beyond = committed.offset.and_then(|at| kafka_offsets::metadata::decode(at, &committed.metadata).ok());
        if beyond.is_some_and(|beyond| beyond.len() as usize == RECORDS / 100 * 99) {
            break;
        }
        ensure!(begun.elapsed() < LIMIT, "it does not get so far: {committed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    victim.kill()?;
    victim.wait()?;

    struct Counts([AtomicUsize; 2]);
    #[async_trait]
    impl Handler<Record> for Counts {
        async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
            self.0[usize::from(is_done(record))].fetch_add(1, Ordering::Relaxed);
            Outcome::Done
        }
    }
    let counts = Arc::new(Counts(Default::default()));
    let member = member(&kafka.brokers(), &group, &topic, 1000).handler(counts.clone())?;
    let mut status = member.status();
    let shutdown = Shutdown::new(Duration::from_secs(10));
    let run = tokio::spawn(member.run(shutdown.clone()));
    status.wait_for(|status| status.partitions.iter().any(|one| one.commit_point == RECORDS as i64)).await?;
    shutdown.begin();
    run.await??;
    let [left, again] = [0, 1].map(|at| counts.0[at].load(Ordering::Relaxed));
    Ok((again as f64, left))
}
