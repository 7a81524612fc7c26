//! A copier by librdkafka alone, whose offsets are not in its transaction, or that has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use turnstile_integration_tests::copies::{At, CopyRole, f};

use crate::{Fates, number};

const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(role: &CopyRole, transactional: bool) -> Result<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &role.brokers)
        .set("group.id", &role.group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", role.session.as_millis().to_string())
        .set("heartbeat.interval.ms", (role.session / 10).as_millis().to_string());
    let consumer: BaseConsumer = config.create()?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &role.brokers).set("linger.ms", "1").set("enable.idempotence", "true");
    if transactional {
        let id = role.instance.clone().unwrap_or_else(|| std::process::id().to_string());
        config.set("transactional.id", format!("{}-{id}", role.group));
    }
    let producer: BaseProducer = config.create()?;
    if transactional {
        producer.init_transactions(PATIENCE)?;
    }
    consumer.subscribe(&[&role.from])?;
    let ends = Arc::new(AtomicBool::new(false));
    let asked = ends.clone();
    let fates = Fates::new(role, move || asked.store(true, Ordering::SeqCst));
    while !ends.load(Ordering::SeqCst) {
        let mut batch: Vec<OwnedMessage> = Vec::new();
        let began = Instant::now();
        while began.elapsed() < role.every && batch.len() < role.records {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(5)) {
                batch.push(message.detach());
            }
        }
        if batch.is_empty() {
            continue;
        }
        fates.at(At::Begin);
        if transactional {
            producer.begin_transaction()?;
        }
        fates.at(At::Produce);
        let mut offsets = std::collections::BTreeMap::new();
        for message in &batch {
            for value in number(message.payload()).map(f).unwrap_or_default() {
                let record = BaseRecord::to(&role.to).key(message.key().unwrap_or_default()).payload(&value);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            offsets.insert(message.partition(), message.offset() + 1);
        }
        producer.flush(PATIENCE)?;
        fates.at(At::SendOffsets);
        fates.at(At::Commit);
        if transactional {
            producer.commit_transaction(PATIENCE)?;
        }
        fates.at(At::Committed);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&role.from, partition, Offset::Offset(offset))?;
        }
        if let Err(error) = consumer.commit(&list, CommitMode::Sync) {
            println!("refused {error}");
        }
    }
    println!("ended");
    std::process::exit(0)
}
