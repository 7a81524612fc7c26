//! Kafka servers: one broker shared by all tests of a process, private ones that a test may stop and kill, and clusters.

mod acl;
mod clients;
mod cluster;
mod container;
mod find;
mod process;
mod proxies;
mod ready;
mod records;
mod server;
mod settings;
mod topics;

pub use self::acl::{Operation, Resource};
pub use self::cluster::Cluster;
pub use self::find::shared;
pub use self::proxies::KafkaProxy;
pub use self::records::Committed;
pub use self::server::{Broker, Builder, Server};

use std::fmt;
use std::sync::Arc;

use anyhow::Result;

use self::clients::Clients;
use self::proxies::Pool;

/// Where a Kafka answers. Its brokers cannot be stopped or killed through this; those of a private [`Server`] or a
/// [`Cluster`] can.
#[derive(Clone)]
pub struct Kafka {
    brokers: String,
    clients: Clients,
    /// How many brokers hold each partition where a test does not say.
    replication: i32,
    /// Where brokers take the testkit's password, where clients may do only what they were allowed.
    admin: Option<(String, Vec<(String, u16)>)>,
    pool: Arc<Pool>,
}

impl Kafka {
    /// Starts a private broker with no options of its own; see [`Kafka::builder`].
    ///
    /// # Errors
    /// When no broker can be had; the text says what was tried and what to install.
    pub async fn start() -> Result<Server> {
        Self::builder().start().await
    }

    /// Options for a private broker, or for a cluster of such.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The brokers' addresses as clients take them for `bootstrap.servers`: `127.0.0.1:12345`, with commas between.
    pub fn brokers(&self) -> String {
        self.brokers.clone()
    }

    /// A new path to this Kafka through fault proxies, one in front of each broker. Only who is given
    /// [`KafkaProxy::brokers`] meets its faults, so this is for shared brokers too.
    ///
    /// # Errors
    /// When all such paths of this Kafka are in use (it has eight at a time), or when it is one that
    /// `TURNSTILE_TEST_KAFKA_BROKERS` names: its clients follow the addresses that it tells them, not ours.
    pub async fn proxy(&self) -> Result<KafkaProxy> {
        Pool::take(&self.pool).await
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kafka({})", self.brokers)
    }
}
