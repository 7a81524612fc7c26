//! What can go wrong: before a run, and what ends one. Every text says what to do.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use thiserror::Error;

/// A configuration that would not do what it says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An option that would break a promise of this crate, or that it sets itself.
    #[error("the option {key}={value} is refused: {reason}")]
    Refused {
        /// The option.
        key: String,
        /// What it was to be.
        value: String,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// Something that is needed is missing, or two things contradict each other.
    #[error("{0}")]
    Invalid(&'static str),
    /// librdkafka does not take an option.
    #[error("librdkafka does not take the configuration: {0}")]
    Client(#[source] KafkaError),
}

/// Why a run ended that nobody ended. What was done is committed where the brokers allowed it; the rest is delivered
/// again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// No broker answered at the start.
    #[error("no broker of {brokers} answered within {limit:?}: check the address, the port and the network ({source})")]
    Unreachable {
        /// The addresses that were tried.
        brokers: String,
        /// How long they were tried.
        limit: Duration,
        /// What the client said.
        source: KafkaError,
    },
    /// There is no such topic, or it was deleted, or made anew with fewer partitions.
    #[error("there is no topic {topic:?}, or it is not the one that it was: create it, or correct the name")]
    UnknownTopic {
        /// The topic.
        topic: Arc<str>,
    },
    /// The brokers' rules forbid it.
    #[error(
        "the brokers deny access ({source}): grant this client READ on the group and its topics, and WRITE on the dead-letter topic"
    )]
    Denied {
        /// What the brokers said.
        source: KafkaError,
    },
    /// [`StartAt::Refuse`](kafka_offsets::StartAt) was chosen for what is the case.
    #[error("nowhere to start with {topic}/{partition}: {source}")]
    NowhereToStart {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// What is the case.
        source: kafka_offsets::Refused,
    },
    /// Records were deleted before they were fetched, or the log was cut, in the middle of the run, and
    /// [`StartAt::Refuse`](kafka_offsets::StartAt) was chosen for that.
    #[error(
        "the next record of a partition is no longer there: it was deleted before it was fetched, or the log was cut; set the group's offset, or choose where to go on"
    )]
    OutOfRange,
    /// Another member runs with the same `group.instance.id`.
    #[error("another member of the group runs as instance {instance:?}: end it, or give this one a name of its own")]
    InstanceTaken {
        /// The name.
        instance: String,
    },
    /// The brokers do not know the protocol.
    #[error(
        "the brokers do not support what was asked for ({source}): `Protocol::Consumer` needs Kafka 4.0 or later, or choose a classic protocol"
    )]
    Unsupported {
        /// What the client said.
        source: KafkaError,
    },
    /// The client failed again and again, each time right after it had been made anew.
    #[error("the Kafka client does not recover: {source}")]
    Client {
        /// Its last error.
        source: KafkaError,
    },
    /// The thread that polls could not be started, or panicked.
    #[error("the polling thread failed: {0}")]
    Thread(String),
}
