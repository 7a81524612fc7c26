//! What these tests share with those of kafka-group, and a member with many workers.

#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

#[path = "../../../kafka-group/tests/support/mod.rs"]
mod of_group;

use anyhow::Result;
use kafka_mt_consumer::kafka_group::rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use kafka_mt_consumer::kafka_group::rdkafka::{ClientConfig, error::KafkaError};
use kafka_mt_consumer::{GroupBuilder, ParallelBuilder, RetryPolicy};
pub use of_group::{EARLIEST, Log, PROTOCOLS, Running, member_of, numbered, quickly, topic, until};
use turnstile_testkit::kafka::Kafka;

/// A member with short times.
pub fn group(kafka: &Kafka, group: &str, topic: &str) -> GroupBuilder {
    member_of(&kafka.brokers(), group, topic).retries(RetryPolicy::forever().backoff(quickly()))
}

pub fn parallel(kafka: &Kafka, name: &str, topic: &str) -> ParallelBuilder {
    ParallelBuilder::new(group(kafka, name, topic))
}

/// So many records over so few keys, in turn.
pub fn keyed(records: usize, keys: usize) -> impl Iterator<Item = (String, String)> {
    (0..records).map(move |number| (format!("k{}", number % keys), number.to_string()))
}

/// Produces records to partition 0 that have no key.
pub async fn without_keys(kafka: &Kafka, topic: &str, count: usize) -> Result<()> {
    let (brokers, topic) = (kafka.brokers(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
        for _ in 0..count {
            let record = BaseRecord::<(), [u8]>::to(&topic).partition(0).payload(b"v".as_slice());
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(std::time::Duration::from_secs(30))
    })
    .await?
    .map_err(|error: KafkaError| error.into())
}
