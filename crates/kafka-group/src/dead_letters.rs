//! Where records go that cannot be handled: a topic, with what became of them in the headers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use crate::record::Record;

/// The headers that a dead letter has on top of the record's own.
pub mod header {
    /// The topic it came from.
    pub const TOPIC: &str = "turnstile.topic";
    /// The partition it came from, in decimal digits.
    pub const PARTITION: &str = "turnstile.partition";
    /// The offset it had there, in decimal digits.
    pub const OFFSET: &str = "turnstile.offset";
    /// The consumer group that could not handle it.
    pub const GROUP: &str = "turnstile.group";
    /// How many attempts there were, in decimal digits.
    pub const ATTEMPTS: &str = "turnstile.attempts";
    /// The last error with its causes, as text.
    pub const ERROR: &str = "turnstile.error";

    /// The longest error text that goes into a header, in bytes.
    const ERROR_LIMIT: usize = 4096;

    /// All of them, for this record.
    #[must_use]
    pub fn of(
        record: &crate::Record,
        group: &str,
        attempts: u32,
        error: &anyhow::Error,
    ) -> [(&'static str, String); 6] {
        let mut text = format!("{error:#}");
        while text.len() > ERROR_LIMIT {
            text.pop();
        }
        [
            (TOPIC, record.topic().to_string()),
            (PARTITION, record.partition().to_string()),
            (OFFSET, record.offset().to_string()),
            (GROUP, group.to_owned()),
            (ATTEMPTS, attempts.to_string()),
            (ERROR, text),
        ]
    }
}

/// Sets records aside that cannot be handled: a topic of dead letters, or a way of one's own
/// ([`GroupBuilder::set_aside_by`](crate::GroupBuilder::set_aside_by)).
#[async_trait]
pub trait SetAside: Send + Sync + 'static {
    /// Where they go, for logs.
    fn topic(&self) -> &str;

    /// Sets one aside; it counts as done once this has returned well. Otherwise this is called again, after a while.
    ///
    /// # Errors
    /// When it could not be set aside.
    async fn set_aside(&self, record: &Record, attempts: u32, error: &anyhow::Error) -> Result<()>;
}

#[async_trait]
impl SetAside for DeadLetters {
    fn topic(&self) -> &str {
        self.topic()
    }

    async fn set_aside(&self, record: &Record, attempts: u32, error: &anyhow::Error) -> Result<()> {
        self.send(record, attempts, error).await
    }
}

/// Sends records to a dead-letter topic. A record counts as set aside once all in-sync replicas have it.
#[derive(Clone)]
pub struct DeadLetters {
    topic: Arc<str>,
    group: Arc<str>,
    config: ClientConfig,
    producer: Arc<Mutex<Arc<ThreadedProducer<Reports>>>>,
}

struct Reports;

impl ClientContext for Reports {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, fac: &str, message: &str) {
        crate::engine::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the producer of dead letters");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), KafkaError>>>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        // Nobody waits any more if the partition was taken away; whoever has it now sets the record aside again.
        let _ = waiting.send(delivered.as_ref().map(|_| ()).map_err(|(error, _)| error.clone()));
    }
}

impl DeadLetters {
    /// To `topic`, by a producer of its own: idempotent, and with the consumer's connection options.
    ///
    /// # Errors
    /// When librdkafka does not take the configuration.
    pub(crate) fn new(mut connection: ClientConfig, topic: &str, group: &str) -> Result<Self, KafkaError> {
        connection.set("enable.idempotence", "true").set("linger.ms", "1");
        let producer = Arc::new(connection.create_with_context(Reports)?);
        let producer = Arc::new(Mutex::new(producer));
        Ok(Self { topic: topic.into(), group: group.into(), config: connection, producer })
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Sends a record there, with its own key, value and headers, and returns once it is delivered. Cancelling this may
    /// leave it there all the same.
    ///
    /// # Errors
    /// When the brokers did not take it within the producer's `message.timeout.ms`, or refused it.
    pub async fn send(&self, record: &Record, attempts: u32, error: &anyhow::Error) -> Result<()> {
        let mut headers = OwnedHeaders::new();
        for (key, value) in record.headers() {
            headers = headers.insert(Header { key, value });
        }
        for (key, value) in header::of(record, &self.group, attempts, error) {
            headers = headers.insert(Header { key, value: Some(&value) });
        }
        let (report, reported) = oneshot::channel();
        let mut letter = BaseRecord::<[u8], [u8], _>::with_opaque_to(&self.topic, Box::new(report)).headers(headers);
        letter.key = record.key();
        letter.payload = record.value();
        let producer = self.producer.lock().clone();
        let sent = producer.send(letter).map_err(|(error, _)| error);
        let delivered = match sent {
            Ok(()) => reported.await.context("the producer ended")?,
            Err(error) => Err(error),
        };
        // An idempotent producer that has failed for good says no more what the matter was, and never recovers.
        let fatal = producer.client().fatal_error();
        if fatal.is_some() {
            let mut current = self.producer.lock();
            if Arc::ptr_eq(&current, &producer) {
                *current = Arc::new(self.config.create_with_context(Reports)?);
            }
        }
        match (delivered, fatal) {
            (Err(error), Some((_, reason))) => Err(error).context(reason),
            (delivered, _) => Ok(delivered?),
        }
    }

    /// Waits until nothing is under way.
    pub(crate) fn flush(&self, limit: Duration) {
        if let Err(error) = self.producer.lock().flush(limit) {
            tracing::warn!(%error, "dead letters are still under way; their records will be set aside again");
        }
    }
}
