//! A copier by librdkafka alone, whose offsets are not in its transaction, or that has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use turnstile_integration_tests::copies::{At, CopyRole};

use crate::Fates;
use crate::plain::{fetch, offsets_behind, send};

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
        let batch = fetch(&consumer, role);
        if batch.is_empty() {
            continue;
        }
        fates.at(At::Begin);
        if transactional {
            producer.begin_transaction()?;
        }
        fates.at(At::Produce);
        send(&producer, role, &batch)?;
        producer.flush(PATIENCE)?;
        fates.at(At::SendOffsets);
        fates.at(At::Commit);
        if transactional {
            producer.commit_transaction(PATIENCE)?;
        }
        fates.at(At::Committed);
        if let Err(error) = consumer.commit(&offsets_behind(role, &batch)?, CommitMode::Sync) {
            println!("refused {error}");
        }
    }
    println!("ended");
    std::process::exit(0)
}
