//! How evenly a topic's records lie, and the keys that have most of them.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::Serialize;

use crate::cluster::{Cluster, REQUEST, blocking, topic, watermarks};
use crate::error::{TopicError, is_passing};
use crate::hottest::{HotKey, Hottest};

/// How many counters there are for keys; see [`Hottest`].
const COUNTERS: usize = 2_000;

/// How a topic's newest records lie.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Skew {
    /// The topic.
    pub topic: String,
    /// By number.
    pub partitions: Vec<Share>,
    /// How many records were read.
    pub records: u64,
    /// How many bytes their keys and values have.
    pub bytes: u64,
    /// How many of them have no key.
    pub without_key: u64,
    /// The most frequent keys, the most frequent first.
    pub keys: Vec<HotKey>,
}

/// What was read of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Share {
    /// Its number.
    pub partition: i32,
    /// Its offsets from the first that is kept to its end: as many records at the most.
    pub kept: u64,
    /// How many records were read.
    pub records: u64,
    /// How many bytes their keys and values have.
    pub bytes: u64,
}

impl Skew {
    /// How much more than the mean the fullest partition has, of what is kept: 1 where all have the same.
    #[must_use]
    pub fn imbalance(&self) -> f64 {
        let kept = |share: &Share| share.kept as f64;
        let most = self.partitions.iter().map(kept).fold(0.0, f64::max);
        let all: f64 = self.partitions.iter().map(kept).sum();
        if all == 0.0 { 1.0 } else { most * self.partitions.len() as f64 / all }
    }

    /// The hottest key's share of what was read, at the most; for [`Demand::hottest_key`](crate::Demand::hottest_key).
    #[must_use]
    pub fn hottest_share(&self) -> Option<f64> {
        Some(self.keys.first()?.records as f64 / self.records.max(1) as f64)
    }
}

impl Cluster {
    /// Reads up to `sample` of the newest records of a topic, the same time back in each partition, and says how they lie.
    /// Belongs to no group and commits nothing. At most `limit` is spent on it: what was read by then is told.
    ///
    /// # Errors
    /// [`TopicError::UnknownTopic`], or as the brokers say.
    pub async fn skew(&self, name: &str, sample: u64, limit: Duration) -> Result<Skew, TopicError> {
        let (cluster, name) = (self.clone(), name.to_owned());
        blocking(move || read(&cluster.consumer(None)?, &name, sample, limit)).await
    }
}

fn read(client: &BaseConsumer, name: &str, sample: u64, limit: Duration) -> Result<Skew, TopicError> {
    let what = || format!("the records of {name} cannot be read");
    let mut skew =
        Skew { topic: name.to_owned(), partitions: Vec::new(), records: 0, bytes: 0, without_key: 0, keys: Vec::new() };
    let mut ends = Vec::new();
    for one in topic(client, name)?.partitions {
        let (low, high) = watermarks(client, name, one.partition)?;
        let kept = u64::try_from(high - low).unwrap_or(0);
        skew.partitions.push(Share { partition: one.partition, kept, records: 0, bytes: 0 });
        ends.push(high);
    }
    let kept: u64 = skew.partitions.iter().map(|share| share.kept).sum();
    let mut list = TopicPartitionList::new();
    let mut open = vec![false; ends.len()];
    for (index, (share, end)) in skew.partitions.iter().zip(&ends).enumerate() {
        // Each gives as large a part of what it has, or the fullest would look like the others.
        let part = u128::from(share.kept) * u128::from(sample.min(kept)) / u128::from(kept.max(1));
        let part = i64::try_from(part).unwrap_or(i64::MAX);
        if part > 0 {
            let added = list.add_partition_offset(name, share.partition, Offset::Offset(end - part));
            added.map_err(|error| TopicError::of(what(), error))?;
            open[index] = true;
        }
    }
    client.assign(&list).map_err(|error| TopicError::of(what(), error))?;
    let mut hottest = Hottest::new(COUNTERS);
    let (until, mut still) = (Instant::now() + limit, Instant::now());
    while open.contains(&true) && Instant::now() < until {
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                still = Instant::now();
                let Some(share) = skew.partitions.iter_mut().position(|share| share.partition == record.partition())
                else {
                    continue;
                };
                if record.offset() >= ends[share] - 1 {
                    open[share] = false;
                }
                if record.offset() >= ends[share] {
                    continue;
                }
                let bytes = record.key_len() + record.payload_len();
                let share = &mut skew.partitions[share];
                share.records += 1;
                share.bytes += bytes as u64;
                match record.key() {
                    Some(key) => hottest.add(key),
                    None => skew.without_key += 1,
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                still = Instant::now();
                if let Some(share) = skew.partitions.iter().position(|share| share.partition == partition) {
                    open[share] = false;
                }
            }
            Some(Err(error)) if !is_passing(&error) => {
                return Err(TopicError::of(what(), error));
            }
            other => {
                if still.elapsed() > REQUEST {
                    let error = other.and_then(Result::err).unwrap_or(KafkaError::NoMessageReceived);
                    return Err(TopicError::Unreachable { what: what(), source: Box::new(error) });
                }
            }
        }
    }
    skew.records = skew.partitions.iter().map(|share| share.records).sum();
    skew.bytes = skew.partitions.iter().map(|share| share.bytes).sum();
    skew.keys = hottest.top(20);
    Ok(skew)
}
