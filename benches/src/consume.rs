//! One member reads a topic to its end: kafka-group with an empty handler, and a bare poll loop.
//!
//! The clocks run from the first record to the last: joining the group is not in it. Both sides tell these two by their
//! offsets, so that nothing is counted while it matters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use kafka_group::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use kafka_group::rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use kafka_group::{Attempt, GroupBuilder, Handler, Outcome, Record, Shutdown, Start, StartAt};
use tokio::sync::Notify;
use turnstile_testkit::kafka::{Kafka, Server};
use turnstile_testkit::unique;

use crate::processor_time;

/// Partitions of the topic.
pub const PARTITIONS: i32 = 8;
/// Bytes of a record's value; it has no key to speak of.
const VALUE: [u8; 100] = [b'v'; 100];
/// Records that are produced at once.
const CHUNK: u64 = 100_000;
/// Options that both sides have for fetching, kafka-group by its own choice.
const FETCHING: [(&str, &str); 1] = [("fetch.queue.backoff.ms", "10")];
/// How long a round may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A broker for measuring, and a topic on it that is full.
pub struct Topic {
    /// Ends with this.
    pub server: Server,
    name: String,
    each: i64,
}

/// What came of reading the topic once.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Records a second, from the first to the last.
    pub rate: f64,
    /// Processor time of this process for a million of them, in seconds.
    pub cpu: f64,
}

impl Topic {
    /// Starts a broker and fills a topic of [`PARTITIONS`] partitions with so many records in all, or a few less.
    ///
    /// # Errors
    /// When no broker can be had, or it does not take the records.
    pub async fn fill(records: u64) -> Result<Self> {
        let server = Kafka::builder().for_measuring().start().await?;
        let name = unique("records");
        server.topic(&name, PARTITIONS).await?;
        let each = records / PARTITIONS as u64;
        ensure!(each > 0, "a topic needs a record for each partition");
        for partition in 0..PARTITIONS {
            for chunk in (0..each).step_by(CHUNK as usize) {
                let records = (chunk..each.min(chunk + CHUNK)).map(|_| ("", VALUE));
                server.produce(&name, Some(partition), records).await?;
            }
        }
        Ok(Self { server, name, each: i64::try_from(each)? })
    }

    /// How many records it has.
    #[must_use]
    pub const fn records(&self) -> i64 {
        self.each * PARTITIONS as i64
    }

    /// Reads it by a member of a new group, with an empty handler; the records with their headers or without.
    ///
    /// # Errors
    /// When the run fails, or not all was handled.
    pub async fn ours(&self, headers: bool) -> Result<Read> {
        let ends =
            Arc::new(Ends { last: self.each - 1, left: AtomicUsize::new(PARTITIONS as usize), ..Ends::default() });
        let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
        let member = GroupBuilder::new(self.server.brokers(), unique("ours"), [&self.name], start);
        let member = FETCHING.iter().fold(member, |member, (key, value)| member.option(*key, *value));
        let member = if headers { member } else { member.without_headers() };
        let shutdown = Shutdown::new(Duration::from_secs(30));
        let run = tokio::spawn(member.handler(Empty(ends.clone()))?.run(shutdown.clone()));
        tokio::time::timeout(LIMIT, ends.all.notified()).await.context("a round of ours hangs")?;
        shutdown.begin();
        let done = run.await??.done;
        ensure!(done == self.records() as u64, "{done} records were handled, and not {}", self.records());
        ends.read(self.records())
    }

    /// Reads it by a poll loop that commits each second, on a thread of its own.
    ///
    /// # Errors
    /// When the client fails.
    pub async fn raw(&self) -> Result<Read> {
        let (brokers, name, each) = (self.server.brokers(), self.name.clone(), self.each);
        let ends = tokio::task::spawn_blocking(move || poll_to_the_end(&brokers, &name, each)).await??;
        ends.read(self.records())
    }
}

/// When the first record came, and the last.
#[derive(Default)]
struct Ends {
    /// The last offset of each partition.
    last: i64,
    /// Partitions that are not at their end.
    left: AtomicUsize,
    first: Mutex<Option<Mark>>,
    end: Mutex<Option<Mark>>,
    all: Notify,
}

/// A moment, by both clocks.
#[derive(Clone, Copy)]
struct Mark(Instant, Duration);

impl Ends {
    fn first(&self) {
        mark(&self.first);
    }

    /// One more partition is at its end; whether it was the last.
    fn end(&self) -> bool {
        let all = self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        if all {
            mark(&self.end);
            self.all.notify_one();
        }
        all
    }

    fn read(&self, records: i64) -> Result<Read> {
        let get = |mark: &Mutex<Option<Mark>>| *mark.lock().unwrap_or_else(PoisonError::into_inner);
        let Mark(began, used) = get(&self.first).context("no first record")?;
        let Mark(ended, used_then) = get(&self.end).context("no last record")?;
        let rate = records as f64 / (ended - began).as_secs_f64();
        Ok(Read { rate, cpu: (used_then - used).as_secs_f64() * 1e6 / records as f64 })
    }
}

fn mark(at: &Mutex<Option<Mark>>) {
    let now = processor_time().map(|used| Mark(Instant::now(), used)).ok();
    let mut at = at.lock().unwrap_or_else(PoisonError::into_inner);
    *at = at.or(now);
}

/// Does nothing, but for the first record and the last of each partition.
struct Empty(Arc<Ends>);

#[async_trait]
impl Handler<Record> for Empty {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        if record.offset() == 0 {
            self.0.first();
        }
        if record.offset() == self.0.last {
            self.0.end();
        }
        Outcome::Done
    }
}

fn poll_to_the_end(brokers: &str, topic: &str, each: i64) -> Result<Ends> {
    let ends = Ends { last: each - 1, left: AtomicUsize::new(PARTITIONS as usize), ..Ends::default() };
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", unique("raw"))
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky");
    for (key, value) in FETCHING {
        config.set(key, value);
    }
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[topic])?;
    let mut next = [0; PARTITIONS as usize];
    let (begun, mut committed) = (Instant::now(), Instant::now());
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(50)) {
            let message = message?;
            let (partition, offset) = (message.partition(), message.offset());
            *next.get_mut(partition as usize).context("a partition too many")? = offset + 1;
            if offset == 0 {
                ends.first();
            }
            if offset == ends.last && ends.end() {
                break;
            }
        }
        if committed.elapsed() >= Duration::from_secs(1) {
            consumer.commit(&offsets(topic, &next)?, CommitMode::Async)?;
            committed = Instant::now();
            ensure!(begun.elapsed() < LIMIT, "a round of the raw client hangs");
        }
    }
    consumer.commit(&offsets(topic, &next)?, CommitMode::Sync)?;
    Ok(ends)
}

fn offsets(topic: &str, next: &[i64]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, next) in (0..).zip(next) {
        list.add_partition_offset(topic, partition, Offset::Offset(*next))?;
    }
    Ok(list)
}
