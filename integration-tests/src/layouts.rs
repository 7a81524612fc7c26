//! Writers to a topic and changes of its partitions as processes, for tests that stop and kill them; and what readers saw.
//!
//! A writer's keys are its name and a number; their values count from 0. So whoever reads a key in order, once and completely,
//! sees 0, 1, 2 and so on.

use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use kafka_group::{
    Attempt, GroupBuilder, Handler, InOrder, Outcome, Record, Scheduler, Shutdown, Start, StartAt, Worker,
};
use kafka_mt_consumer::{Handled, LaneOptions, Lanes};
use kafka_partitions::{Cluster, Follow, Step, is_barrier, read_by};
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use turnstile_testkit::child::Child;

/// What a process does: `layouts ROLE`, in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Role {
    /// Writes rounds of one record a key until it reads `end`; says `round N` after each that is committed.
    Write {
        /// The brokers.
        brokers: String,
        /// The topic.
        topic: String,
        /// Its name, and its keys'.
        name: String,
        /// How many keys.
        keys: u32,
        /// How long it waits for a change that does not go on.
        patience: Duration,
    },
    /// Changes the partitions; says `done EPOCH`, or `failed` and why.
    Change {
        /// The brokers.
        brokers: String,
        /// The topic.
        topic: String,
        /// The topic to move to.
        into: Option<String>,
        /// How many partitions.
        partitions: i32,
        /// The step, by its name in JSON, behind which it says `halted` and waits for a line.
        halt: Option<String>,
    },
}

/// Starts it.
///
/// # Errors
/// When it cannot be started.
pub fn process(program: &str, role: &Role) -> Result<Child> {
    let mut command = Command::new(program);
    command.arg(serde_json::to_string(role)?);
    Child::spawn(command)
}

/// The name of a step in JSON.
#[must_use]
pub fn name_of(step: Step) -> String {
    serde_json::to_string(&step).unwrap_or_default().trim_matches('"').to_owned()
}

/// What readers were given, in the order in which it was begun: key, value, topic and partition.
pub type Seen = Arc<Mutex<Vec<(String, u64, String, i32)>>>;

/// A handler that notes what it is given, and takes a while.
pub struct Notes {
    /// Where it notes it.
    pub seen: Seen,
    /// How long it takes in the first partitions: those of the oldest layout are to be behind.
    pub slow: Duration,
}

#[async_trait]
impl Handler<Record> for Notes {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let value = text(record.value()).parse().unwrap_or(u64::MAX);
        self.seen.lock().push((text(record.key()), value, record.topic().to_string(), record.partition()));
        if record.partition() < 2 {
            tokio::time::sleep(self.slow).await;
        }
        Outcome::Done
    }
}

/// A member's settings for these topics.
pub fn member(brokers: &str, group: &str, topics: &[String]) -> GroupBuilder {
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    GroupBuilder::new(brokers, group, topics, start)
        .session_timeout(Duration::from_secs(10))
        .option("topic.metadata.refresh.interval.ms", "200")
}

/// A reader that follows the topic's layouts, by kafka-mt-consumer's lanes or in the order of each partition.
#[must_use]
pub fn reader(
    brokers: &str,
    group: &str,
    topic: &str,
    notes: Notes,
    by_key: bool,
    shutdown: &Shutdown,
) -> JoinHandle<Result<u64>> {
    let follow = Follow::new(&Cluster::new(brokers), topic, group);
    let (brokers, group, shutdown) = (brokers.to_owned(), group.to_owned(), shutdown.clone());
    let member = move |topics: &[String]| member(&brokers, &group, topics);
    tokio::spawn(async move {
        let report = match by_key {
            true => read_by(follow, member, notes, lanes, shutdown).await,
            false => read_by(follow, member, notes, InOrder::new, shutdown).await,
        }?;
        anyhow::ensure!(report.stopped_by.is_none(), "stopped by {:?}", report.stopped_by);
        Ok(report.done)
    })
}

/// kafka-mt-consumer's, by key.
pub fn lanes<H: Handler<Record>>(worker: Worker<H>) -> impl Scheduler {
    Lanes::new(Handled(worker), LaneOptions::default())
}

/// Of each key, what was read of it, each value where it came first: a hand-over between members may repeat some.
#[must_use]
pub fn by_key(seen: &Seen) -> BTreeMap<String, Vec<u64>> {
    let mut keys: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut known = HashSet::new();
    for (key, value, ..) in &*seen.lock() {
        if known.insert((key.clone(), *value)) {
            keys.entry(key.clone()).or_default().push(*value);
        }
    }
    keys
}

/// The keys that were not read as 0, 1, 2 and so on.
#[must_use]
pub fn out_of_order(seen: &Seen) -> Vec<(String, Vec<u64>)> {
    by_key(seen)
        .into_iter()
        .filter(|(_, values)| (0..).zip(values).any(|(expected, value)| expected != *value))
        .collect()
}

/// How many records these topics have, barriers left out, and how many of them are there twice.
///
/// # Errors
/// When they cannot be read.
pub fn in_topics(brokers: &str, topics: &[String]) -> Result<(u64, u64)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "looks").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let (mut list, mut open) = (TopicPartitionList::new(), 0);
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30))?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
            open += 1;
        }
    }
    consumer.assign(&list)?;
    let (mut records, mut known) = (0, HashSet::new());
    while open > 0 {
        match consumer.poll(Duration::from_secs(30)) {
            Some(Ok(record)) if !is_barrier(record.key()) => {
                records += 1;
                known.insert((record.key().map(<[u8]>::to_vec), record.payload().map(<[u8]>::to_vec)));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(_)) => {}
            None => anyhow::bail!("the topics are not read to their ends"),
        }
    }
    Ok((records, records - known.len() as u64))
}
