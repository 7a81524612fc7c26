//! What copiers by librdkafka alone do in the same way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::OwnedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::{Message, Offset, TopicPartitionList};
use turnstile_integration_tests::copies::{CopyRole, f};

use crate::number;

/// What comes until the time is over, or it is enough.
pub fn fetch(consumer: &BaseConsumer, role: &CopyRole) -> Vec<OwnedMessage> {
    let mut batch = Vec::new();
    let began = Instant::now();
    while began.elapsed() < role.every && batch.len() < role.records {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(5)) {
            batch.push(message.detach());
        }
    }
    batch
}

/// Hands over what becomes of them.
pub fn send(producer: &BaseProducer, role: &CopyRole, batch: &[OwnedMessage]) -> Result<()> {
    for message in batch {
        for value in number(message.payload()).map(f).unwrap_or_default() {
            let record = BaseRecord::to(&role.to).key(message.key().unwrap_or_default()).payload(&value);
            producer.send(record).map_err(|(error, _)| error)?;
        }
    }
    Ok(())
}

/// Where those after them begin.
pub fn offsets_behind(role: &CopyRole, batch: &[OwnedMessage]) -> Result<TopicPartitionList> {
    let ends: BTreeMap<_, _> = batch.iter().map(|record| (record.partition(), record.offset() + 1)).collect();
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in ends {
        offsets.add_partition_offset(&role.from, partition, Offset::Offset(offset))?;
    }
    Ok(offsets)
}
