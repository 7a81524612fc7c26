//! The brokers: what they have, and the clients that ask them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use serde::Serialize;

use crate::error::{TopicError, is_unreachable};

/// How long brokers are tried before they count as out of reach.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);
/// How long one request may take.
pub(crate) const REQUEST: Duration = Duration::from_secs(20);

/// A Kafka: its addresses and the options of the clients that ask it. Nothing is connected before it is asked.
///
/// librdkafka's calls block, so all methods run on threads for that, to their end, also when the caller stops waiting.
#[derive(Clone)]
pub struct Cluster {
    config: ClientConfig,
}

// By hand: options may hold a password.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("brokers", &self.config.get("bootstrap.servers")).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The Kafka at these addresses (`host:port`, more with commas between).
    pub fn new(brokers: impl Into<String>) -> Self {
        Self::from_config(ClientConfig::new()).option("bootstrap.servers", brokers)
    }

    /// The Kafka that these options of librdkafka lead to.
    #[must_use]
    pub fn from_config(mut config: ClientConfig) -> Self {
        config.set_log_level(RDKafkaLogLevel::Critical);
        Self { config }
    }

    /// An option of librdkafka for all clients: for security, say.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.set(key, value);
        self
    }

    /// Options for a client.
    pub(crate) fn config(&self) -> ClientConfig {
        self.config.clone()
    }

    /// A consumer that belongs to no group that anybody has, or to this one by name only.
    pub(crate) fn consumer(&self, group: Option<&str>) -> Result<BaseConsumer, TopicError> {
        let mut config = self.config();
        config
            .set("group.id", group.unwrap_or("turnstile-partitions"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.queue.backoff.ms", "10")
            .set("queued.max.messages.kbytes", "16384");
        config.create().map_err(|error| TopicError::of("no client can be made of these options", error))
    }

    /// What there is of a topic.
    ///
    /// # Errors
    /// [`TopicError::UnknownTopic`], or as the brokers say.
    pub async fn topic(&self, name: &str) -> Result<Topic, TopicError> {
        let (cluster, name) = (self.clone(), name.to_owned());
        blocking(move || topic(&cluster.consumer(None)?, &name)).await
    }

    /// What the brokers bear now, of the topics that this client may see.
    ///
    /// # Errors
    /// As the brokers say.
    pub async fn load(&self) -> Result<Load, TopicError> {
        let cluster = self.clone();
        blocking(move || load(&cluster.consumer(None)?)).await
    }
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down: nobody is to be answered any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Asks until there is an answer, or [`CONNECT`] is over.
pub(crate) fn metadata(client: &BaseConsumer, topic: Option<&str>) -> Result<Metadata, TopicError> {
    let until = Instant::now() + CONNECT;
    loop {
        match client.fetch_metadata(topic, CONNECT / 5) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => {
                let later = error.rdkafka_error_code().is_some_and(is_unreachable);
                if !later || Instant::now() > until {
                    return Err(TopicError::of("the topics cannot be read", error));
                }
            }
        }
    }
}

pub(crate) fn topic(client: &BaseConsumer, name: &str) -> Result<Topic, TopicError> {
    let what = format!("the topic {name} cannot be read");
    if !is_name(name) {
        return Err(TopicError::UnknownTopic(name.to_owned()));
    }
    let until = Instant::now() + CONNECT;
    loop {
        let metadata = metadata(client, Some(name))?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let code = match found {
            None => Code::UnknownTopicOrPartition,
            Some(topic) => match topic.error() {
                Some(error) => Code::from(error),
                None if topic.partitions().is_empty() => Code::LeaderNotAvailable,
                None => {
                    let partition = |one: &rdkafka::metadata::MetadataPartition| Partition {
                        partition: one.id(),
                        leader: (one.leader() >= 0).then(|| one.leader()),
                        replicas: one.replicas().to_vec(),
                        in_sync: one.isr().len(),
                    };
                    let mut partitions: Vec<_> = topic.partitions().iter().map(partition).collect();
                    partitions.sort_by_key(|one| one.partition);
                    return Ok(Topic { name: name.to_owned(), partitions });
                }
            },
        };
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::InvalidTopic => {
                return Err(TopicError::UnknownTopic(name.to_owned()));
            }
            code if is_unreachable(code) && Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            code => return Err(TopicError::of_code(what, code)),
        }
    }
}

pub(crate) fn load(client: &BaseConsumer) -> Result<Load, TopicError> {
    let metadata = metadata(client, None)?;
    let mut load = Load::default();
    load.replicas.extend(metadata.brokers().iter().map(|broker| (broker.id(), 0)));
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        load.partitions += 1;
        for replica in partition.replicas() {
            *load.replicas.entry(*replica).or_default() += 1;
        }
    }
    Ok(load)
}

/// Whether Kafka could have a topic of this name.
pub(crate) fn is_name(name: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(right) && name != "." && name != ".."
}

/// The offsets of a partition: its first, and the one that its next record gets.
pub(crate) fn watermarks(client: &BaseConsumer, topic: &str, partition: i32) -> Result<(i64, i64), TopicError> {
    retry(|| client.fetch_watermarks(topic, partition, REQUEST / 4))
        .map_err(|error| TopicError::of(format!("the offsets of {topic}/{partition} cannot be read"), error))
}

/// Asks until there is an answer, or [`REQUEST`] is over, where it may still come.
pub(crate) fn retry<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let until = Instant::now() + REQUEST;
    loop {
        match ask() {
            Err(error) if error.rdkafka_error_code().is_some_and(is_unreachable) && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            answer => return answer,
        }
    }
}

/// A topic as the brokers have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// By number.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// How many partitions it has.
    #[must_use]
    pub fn count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// How many replicas its partitions have: the most that any of them has.
    #[must_use]
    pub fn replication(&self) -> i32 {
        let most = self.partitions.iter().map(|one| one.replicas.len()).max().unwrap_or(1);
        i32::try_from(most).unwrap_or(i32::MAX)
    }
}

/// A partition as the brokers have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Partition {
    /// Its number.
    pub partition: i32,
    /// The broker that serves it; `None` while none does.
    pub leader: Option<i32>,
    /// The brokers that keep it.
    pub replicas: Vec<i32>,
    /// How many of them are up to date.
    pub in_sync: usize,
}

/// What the brokers bear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Load {
    /// The replicas of partitions that each broker keeps, leaders and followers alike, by the broker's id.
    pub replicas: BTreeMap<i32, u64>,
    /// Partitions in all, each counted once.
    pub partitions: u64,
}
