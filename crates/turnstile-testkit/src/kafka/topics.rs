//! Topics: made, grown and deleted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, metadata::MetadataTopic};

use super::Kafka;
use super::clients::WITHIN;
use crate::runtime;

impl Kafka {
    /// Creates a topic, and waits until clients find it. Give it a [`unique`](crate::unique) name. On a cluster it has
    /// three replicas, or as many as there are brokers.
    ///
    /// # Errors
    /// When it exists already, or Kafka refuses it.
    pub async fn topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.topic_with(name, partitions, self.replication, &[]).await
    }

    /// Creates a topic with so many replicas and these settings, such as `cleanup.policy` `compact`, and waits until
    /// clients find it.
    ///
    /// # Errors
    /// When it exists already, or Kafka refuses it.
    pub async fn topic_with(
        &self,
        name: &str,
        partitions: i32,
        replicas: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let name = name.to_owned();
        let settings: Vec<_> = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.clients
            .run(move |config| {
                let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(replicas));
                for (name, value) in &settings {
                    topic = topic.set(name, value);
                }
                let what = format!("cannot create the topic {name}");
                ask(&config, what, |admin, options| {
                    runtime::handle()?.block_on(admin.create_topics([&topic], options)).map_err(Into::into)
                })?;
                seen(&config, &name, |topic| has(topic, partitions))
            })
            .await
    }

    /// Makes a topic grow to so many partitions, and waits until clients find them.
    ///
    /// # Errors
    /// When Kafka refuses it; partitions cannot become fewer.
    pub async fn grow_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let name = name.to_owned();
        self.clients
            .run(move |config| {
                let grown = NewPartitions::new(&name, usize::try_from(partitions)?);
                let what = format!("cannot make the topic {name} grow to {partitions} partitions");
                ask(&config, what, |admin, options| {
                    runtime::handle()?.block_on(admin.create_partitions([&grown], options)).map_err(Into::into)
                })?;
                seen(&config, &name, |topic| has(topic, partitions))
            })
            .await
    }

    /// Deletes a topic, and waits until clients find it no more.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.clients
            .run(move |config| {
                let what = format!("cannot delete the topic {name}");
                ask(&config, what, |admin, options| {
                    runtime::handle()?.block_on(admin.delete_topics(&[&name], options)).map_err(Into::into)
                })?;
                seen(&config, &name, |topic| topic.partitions().is_empty())
            })
            .await
    }
}

/// One request about one topic.
fn ask(
    config: &ClientConfig,
    what: String,
    request: impl FnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> Result<Vec<TopicResult>>,
) -> Result<()> {
    let admin: AdminClient<_> = config.create()?;
    let options = AdminOptions::new().request_timeout(Some(WITHIN)).operation_timeout(Some(WITHIN));
    let done = request(&admin, &options).with_context(|| what.clone())?;
    done.into_iter().try_for_each(|one| one.map(drop).map_err(|(_, code)| anyhow!(code).context(what.clone())))
}

/// Waits until what clients learn of the topic is as it should be.
fn seen(config: &ClientConfig, name: &str, right: impl Fn(&MetadataTopic) -> bool) -> Result<()> {
    let client: BaseConsumer = config.create()?;
    let until = Instant::now() + WITHIN;
    while !client.fetch_metadata(Some(name), WITHIN)?.topics().iter().all(&right) {
        ensure!(Instant::now() < until, "clients do not find the topic {name} as it should be within {WITHIN:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether it has so many partitions, each with a leader.
fn has(topic: &MetadataTopic, partitions: i32) -> bool {
    topic.partitions().len() as i32 == partitions
        && topic.partitions().iter().all(|one| one.error().is_none() && one.leader() >= 0)
}
