//! A copier by librdkafka alone, with the offsets in its transactions as they should be, which only presumes what became of a
//! commit that was not answered. It has all partitions, so that no rebalance helps it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use turnstile_integration_tests::copies::{At, CopyRole};

use crate::Fates;
use crate::plain::{fetch, offsets_behind, send};

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub fn run(role: &CopyRole, committed: bool) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &role.brokers).set("group.id", &role.group).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(&role.from), PATIENCE * 5)?;
    let mut from = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        from.add_partition_offset(&role.from, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&from)?;
    let group = consumer.group_metadata().context("no group")?;
    let mut producer = connect(role)?;
    let ends = Arc::new(AtomicBool::new(false));
    let asked = ends.clone();
    let fates = Fates::new(role, move || asked.store(true, Ordering::SeqCst));
    while !ends.load(Ordering::SeqCst) {
        let batch = fetch(&consumer, role);
        let offsets = offsets_behind(role, &batch)?;
        while !batch.is_empty() {
            producer.begin_transaction()?;
            send(&producer, role, &batch)?;
            producer.flush(PATIENCE * 5)?;
            producer.send_offsets_to_transaction(&offsets, &group, PATIENCE * 5)?;
            fates.at(At::Commit);
            let Err(error) = producer.commit_transaction(PATIENCE) else { break };
            println!("unknown: {error}");
            producer = connect(role)?;
            if committed {
                break;
            }
        }
    }
    println!("ended");
    std::process::exit(0)
}

/// A new producer, once the brokers give one.
fn connect(role: &CopyRole) -> Result<BaseProducer> {
    loop {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &role.brokers)
            .set("transactional.id", format!("{}-one", role.group))
            .set("transaction.timeout.ms", (role.session * 2 / 3).as_millis().to_string())
            .set("socket.timeout.ms", "1000")
            .set("message.timeout.ms", "1500");
        let producer: BaseProducer = config.create()?;
        if producer.init_transactions(PATIENCE).is_ok() {
            return Ok(producer);
        }
    }
}
