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
/// Bytes of a record's value.
const VALUE: [u8; 100] = [b'v'; 100];
/// Records that are produced at once.
const CHUNK: usize = 100_000;
/// Options that both sides have for fetching, kafka-group by its own choice.
pub(crate) const FETCHING: [(&str, &str); 1] = [("fetch.queue.backoff.ms", "10")];
/// How long a round may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);

/// A broker for measuring, and a topic on it that is full.
pub struct Topic {
    /// Ends with this.
    pub server: Server,
    pub(crate) name: String,
    /// How many records each partition has.
    ends: Vec<i64>,
}

/// Which keys records have. A key's records are in one partition, and mixed with those of others.
#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// The same empty one.
    Empty,
    /// So many, in turn.
    Even(u64),
    /// So many, the nth as often as the first divided by n to the power of 1.1 (Zipf).
    Zipf(u64),
}

impl Keys {
    /// The numbers of so many records' keys.
    fn draw(self, records: u64) -> Vec<u64> {
        match self {
            Self::Empty => (0..records).collect(),
            Self::Even(keys) => (0..records).map(|number| number % keys).collect(),
            Self::Zipf(keys) => {
                let mut sum = 0.0;
                let weights = (1..=keys).map(|nth| (nth as f64).powf(-1.1));
                let sums: Vec<f64> = weights
                    .map(|weight| {
                        sum += weight;
                        sum
                    })
                    .collect();
                let key = |_| {
                    let drawn = rand::random_range(0.0..sum);
                    sums.partition_point(|below| *below < drawn) as u64
                };
                (0..records).map(key).collect()
            }
        }
    }

    /// The part of all records that the most frequent key has.
    #[must_use]
    pub fn hottest(self) -> f64 {
        match self {
            Self::Empty => 1.0,
            Self::Even(keys) => 1.0 / keys as f64,
            Self::Zipf(keys) => 1.0 / (1..=keys).map(|nth| (nth as f64).powf(-1.1)).sum::<f64>(),
        }
    }
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
    pub async fn fill(records: u64, keys: Keys) -> Result<Self> {
        let server = Kafka::builder().for_measuring().start().await?;
        let name = unique("records");
        server.topic(&name, PARTITIONS).await?;
        let mut ends = Vec::new();
        let drawn = keys.draw(records);
        for partition in 0..PARTITIONS {
            let here: Vec<_> = drawn.iter().filter(|key| *key % PARTITIONS as u64 == partition as u64).collect();
            ensure!(!here.is_empty(), "a topic needs a record for each partition");
            ends.push(i64::try_from(here.len())?);
            for chunk in here.chunks(CHUNK) {
                let name_of = |key: &&u64| if let Keys::Empty = keys { String::new() } else { format!("key-{key}") };
                server.produce(&name, Some(partition), chunk.iter().map(|key| (name_of(key), VALUE))).await?;
            }
        }
        Ok(Self { server, name, ends })
    }

    /// How many records it has.
    #[must_use]
    pub fn records(&self) -> i64 {
        self.ends.iter().sum()
    }

    pub(crate) fn ends(&self) -> Arc<Ends> {
        let last = self.ends.iter().map(|end| end - 1).collect();
        Arc::new(Ends { last, left: AtomicUsize::new(self.ends.len()), ..Ends::default() })
    }

    /// Reads it by a member of a new group, with an empty handler; the records with their headers or without.
    ///
    /// # Errors
    /// When the run fails, or not all was handled.
    pub async fn ours(&self, headers: bool) -> Result<Read> {
        let ends = self.ends();
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
        let (brokers, name, ends) = (self.server.brokers(), self.name.clone(), self.ends());
        let ends = tokio::task::spawn_blocking(move || poll_to_the_end(&brokers, &name, ends)).await??;
        ends.read(self.records())
    }
}

/// When the first record came, and the last.
#[derive(Default)]
pub(crate) struct Ends {
    /// The last offset of each partition.
    last: Vec<i64>,
    /// Partitions that are not at their end.
    left: AtomicUsize,
    first: Mutex<Option<Mark>>,
    end: Mutex<Option<Mark>>,
    pub(crate) all: Notify,
}

/// A moment, by both clocks.
#[derive(Clone, Copy)]
struct Mark(Instant, Duration);

impl Ends {
    pub(crate) fn first(&self) {
        mark(&self.first);
    }

    pub(crate) fn is_last(&self, partition: i32, offset: i64) -> bool {
        self.last.get(partition as usize) == Some(&offset)
    }

    /// One more partition is at its end; whether it was the last.
    #[must_use]
    fn end(&self) -> bool {
        let all = self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        if all {
            self.over();
        }
        all
    }

    /// All are at their end.
    pub(crate) fn over(&self) {
        mark(&self.end);
        self.all.notify_one();
    }

    pub(crate) fn read(&self, records: i64) -> Result<Read> {
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
pub(crate) struct Empty(pub Arc<Ends>);

#[async_trait]
impl Handler<Record> for Empty {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        if record.offset() == 0 {
            self.0.first();
        }
        if self.0.is_last(record.partition(), record.offset()) {
            let _ = self.0.end();
        }
        Outcome::Done
    }
}

fn poll_to_the_end(brokers: &str, topic: &str, ends: Arc<Ends>) -> Result<Arc<Ends>> {
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
            if ends.is_last(partition, offset) && ends.end() {
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
