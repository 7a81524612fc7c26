//! When a broker is ready: it has answered, and so have its coordinators of groups and of transactions. The first
//! request to each of these makes it create and load its internal topic, which clients would otherwise meet as
//! "coordinator load in progress".

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// How long new brokers may take until they serve all requests.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Waits until the brokers with these ids are there and the coordinators answer. `alive` is asked between tries, and
/// its error ends the waiting. Blocks.
pub(crate) fn wait(mut config: ClientConfig, ids: &[i32], mut alive: impl FnMut() -> Result<()>) -> Result<()> {
    let until = Instant::now() + READY_WITHIN;
    let mut retry = |what: &str, ask: &mut dyn FnMut() -> Result<()>| {
        loop {
            alive()?;
            let Err(error) = ask() else { return alive() };
            ensure!(Instant::now() < until, "the Kafka's {what} did not answer within {READY_WITHIN:?}: {error:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };

    config.set("group.id", "turnstile-testkit").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    retry("brokers", &mut || {
        let metadata = consumer.fetch_metadata(None, Duration::from_millis(500))?;
        let seen: Vec<_> = metadata.brokers().iter().map(|broker| broker.id()).collect();
        ensure!(ids.iter().all(|id| seen.contains(id)), "of {ids:?} there are {seen:?}");
        Ok(())
    })?;
    retry("group coordinator", &mut || {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("turnstile-testkit", 0, Offset::Invalid)?;
        consumer.committed_offsets(list, Duration::from_secs(2))?;
        Ok(())
    })?;
    let producer: BaseProducer = config
        .remove("group.id")
        .remove("enable.auto.commit")
        .set("transactional.id", "turnstile-testkit")
        .create()
        .context("no transactional producer")?;
    retry("transaction coordinator", &mut || Ok(producer.init_transactions(Duration::from_secs(2))?))
}
