//! What is in topics, and what groups have committed.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::Kafka;
use super::clients::WITHIN;

/// What a group has committed for one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The next offset to be handled; none where nothing was committed.
    pub offset: Option<i64>,
    /// What was put beside it.
    pub metadata: String,
}

impl Kafka {
    /// Produces records of a key and a value each, as fast as the broker takes them, and waits until all are
    /// acknowledged by all replicas that are in sync. They go to `partition`, or where their keys' hashes say. The
    /// answer is the partition and offset of each, in the order of `records`.
    ///
    /// # Errors
    /// When one is not acknowledged; some of the others may be there then.
    pub async fn produce<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        topic: &str,
        partition: Option<i32>,
        records: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<(i32, i64)>> {
        let topic = topic.to_owned();
        let owned = |(key, value): (K, V)| (key.as_ref().to_vec(), value.as_ref().to_vec());
        let records: Vec<_> = records.into_iter().map(owned).collect();
        self.clients
            .run(move |mut config| {
                let places = Places::default();
                places.lock().resize(records.len(), (-1, -1));
                config
                    .set("enable.idempotence", "true")
                    .set("linger.ms", "2")
                    .set("queue.buffering.max.messages", "1000000");
                config.set("message.max.bytes", "100000000").set("delivery.timeout.ms", WITHIN.as_millis().to_string());
                let producer: BaseProducer<Places> = config.create_with_context(places.clone())?;
                for (index, (key, value)) in records.iter().enumerate() {
                    let mut record = BaseRecord::with_opaque_to(&topic, Box::new(index)).key(key).payload(value);
                    record.partition = partition;
                    while let Err((error, again)) = producer.send(record) {
                        let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                        ensure!(full, "cannot produce to {topic}: {error}");
                        producer.poll(WITHIN / 100);
                        record = again;
                    }
                }
                producer.flush(WITHIN).with_context(|| format!("not all records were taken by {topic}"))?;
                if let Some(error) = places.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    return Err(error).with_context(|| format!("{topic} did not take a record"));
                }
                Ok(std::mem::take(&mut *places.lock()))
            })
            .await
    }

    /// What a group has committed for each partition of a topic, in the partitions' order.
    ///
    /// # Errors
    /// When Kafka does not answer, or has no such topic.
    pub async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Committed>> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.clients
            .run(move |mut config| {
                let client: BaseConsumer = config.set("group.id", &group).create()?;
                let mut list = TopicPartitionList::new();
                list.add_partition_range(&topic, 0, partitions(&client, &topic)? - 1);
                let committed = client.committed_offsets(list, WITHIN)?;
                let one = |one: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                    one.error()?;
                    let Offset::Offset(offset) = one.offset() else { return Ok(Committed::default()) };
                    Ok(Committed { offset: Some(offset), metadata: one.metadata().to_owned() })
                };
                committed.elements().iter().map(one).collect()
            })
            .await
    }

    /// The offset that each partition of a topic gives to its next record, in the partitions' order.
    ///
    /// # Errors
    /// When Kafka does not answer, or has no such topic.
    pub async fn end_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        let topic = topic.to_owned();
        self.clients
            .run(move |config| {
                let client: BaseConsumer = config.create()?;
                let end = |partition| Ok(client.fetch_watermarks(&topic, partition, WITHIN)?.1);
                (0..partitions(&client, &topic)?).map(end).collect()
            })
            .await
    }
}

fn partitions(client: &BaseConsumer, topic: &str) -> Result<i32> {
    let metadata = client.fetch_metadata(Some(topic), WITHIN)?;
    let count = metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>();
    ensure!(count > 0, "there is no topic {topic}");
    Ok(i32::try_from(count)?)
}

/// Where records went, by their index; filled in by delivery reports.
#[derive(Clone, Default)]
struct Places {
    places: Arc<Mutex<Vec<(i32, i64)>>>,
    error: Arc<Mutex<Option<KafkaError>>>,
}

impl Places {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(i32, i64)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Places {}

impl ProducerContext for Places {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        match result {
            Ok(message) => self.lock()[*index] = (message.partition(), message.offset()),
            Err((error, _)) => {
                self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
            }
        }
    }
}
