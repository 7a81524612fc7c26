//! What can go wrong: what ends a run, and what a single write may meet. Every text says what to do.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use thiserror::Error;

/// Why a run ended that nobody ended. What was committed is committed as a whole, and the rest is delivered again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The group's side failed.
    #[error(transparent)]
    Group(#[from] kafka_group::RunError),
    /// The transactions' side failed.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// An output cannot be produced, and there is no topic to set its record aside in; or that refuses it, too.
    #[error(
        "an output of the record at {place} is refused by {topic} ({source}): correct the handler or the topic, or name a topic for dead letters that takes it"
    )]
    Refused {
        /// Topic, partition and offset of the record.
        place: Arc<str>,
        /// Where the output was to go.
        topic: Arc<str>,
        /// What the brokers said.
        source: KafkaError,
    },
    /// A thread could not be started, or panicked.
    #[error("a thread of the transactions failed: {0}")]
    Thread(String),
}

/// Why no transaction is to be had. Clones share their source.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// The brokers have no transactions, or none that do for this.
    #[error("the brokers do not support transactions ({source}): Kafka 2.5 or later is needed, on all brokers")]
    Unsupported {
        /// What the client said.
        source: KafkaError,
    },
    /// Nobody answered for transactions at the start.
    #[error(
        "no transaction coordinator answered within {limit:?} ({source}): check that the brokers are up, and that their topic __transaction_state can be made (transaction.state.log.replication.factor, transaction.state.log.min.isr)"
    )]
    Unavailable {
        /// How long it was tried.
        limit: Duration,
        /// What the client said last.
        source: KafkaError,
    },
    /// The brokers' rules forbid it.
    #[error(
        "the brokers deny access ({source}): grant this client WRITE and DESCRIBE on the transactional ids that begin with {id:?}, WRITE on the topics of outputs and dead letters, and READ on the group"
    )]
    Denied {
        /// What the transactional ids begin with.
        id: Arc<str>,
        /// What the brokers said.
        source: KafkaError,
    },
    /// Another producer has taken the transactional id over.
    #[error(
        "another instance has taken over the transactional id {id:?}: end that one or this one, or give each a name of its own (transactional_id, instance_id)"
    )]
    TakenOver {
        /// The id.
        id: Arc<str>,
    },
    /// librdkafka does not take an option.
    #[error("librdkafka does not take the producer's configuration: {source}")]
    Client {
        /// What it said.
        source: KafkaError,
    },
    /// The producer failed again and again, each time right after it had been made anew.
    #[error("the transactional producer does not recover: {source}")]
    Hopeless {
        /// Its last error.
        source: KafkaError,
    },
    /// The run or the writer has come to its end.
    #[error("it is closed")]
    Closed,
}
