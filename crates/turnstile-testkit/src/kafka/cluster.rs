//! Several brokers, for tests of a broker's loss.

use std::ops::Deref;

use anyhow::Result;

use super::{Broker, Kafka};

/// A private cluster; each of its brokers is a controller too. Of three brokers one may fail at any time: topics and
/// Kafka's own have three replicas, of which two must have a record before it is acknowledged (with `acks=all`).
///
/// It ends when this is dropped, and when this process ends, however it ends.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) kafka: Kafka,
    pub(crate) brokers: Vec<Broker>,
}

impl Cluster {
    /// Starts a cluster of so many brokers and waits until all answer; see [`Kafka::builder`] for one with options.
    ///
    /// # Errors
    /// When no brokers can be had; the text says what was tried and what to install.
    pub async fn start(brokers: usize) -> Result<Self> {
        Kafka::builder().cluster(brokers).await
    }

    /// The brokers, to be stopped and killed. The one with index 0 has the id 1.
    pub fn each(&mut self) -> &mut [Broker] {
        &mut self.brokers
    }
}

impl Deref for Cluster {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}
