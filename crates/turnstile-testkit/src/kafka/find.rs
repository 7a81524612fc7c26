//! Where a Kafka comes from: an address in the environment, containers, processes.

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use tokio::sync::OnceCell;

use super::clients::Clients;
use super::proxies::Pool;
use super::server::{Broker, Builder, Server};
use super::settings::{ADMIN, Common};
use super::{Kafka, container, process};
use crate::found;

/// The one Kafka that all tests of this process share: the one at `TURNSTILE_TEST_KAFKA_BROKERS` if that is set, else a
/// broker started at the first call, which ends with this process. Keep apart on it by [`unique`](crate::unique) names.
///
/// # Errors
/// When no broker can be had; the text says what was tried and what to install. The next call tries again.
pub async fn shared() -> Result<Kafka> {
    // The server, if it is ours, lives as long as this.
    static SHARED: OnceCell<(Kafka, Option<Server>)> = OnceCell::const_new();
    let shared = SHARED
        .get_or_try_init(|| async {
            match std::env::var("TURNSTILE_TEST_KAFKA_BROKERS") {
                Ok(brokers) if !brokers.is_empty() => anyhow::Ok((elsewhere(brokers), None)),
                _ => Kafka::start().await.map(|server| (Kafka::clone(&server), Some(server))),
            }
        })
        .await?;
    Ok(shared.0.clone())
}

fn elsewhere(brokers: String) -> Kafka {
    let clients = Clients::of(&brokers);
    // -1: as that Kafka's own default is.
    Kafka { brokers, clients, replication: -1, admin: None, pool: Arc::default() }
}

/// Starts so many brokers for the builder, and waits until all of them answer.
pub(crate) async fn start(options: &Builder, brokers: usize) -> Result<(Kafka, Vec<Broker>)> {
    static REFUSED: OnceLock<String> = OnceLock::new();
    found::start("Kafka", &REFUSED, container::start(options, brokers), process::start(options, brokers)).await
}

/// Where the brokers of one Kafka are, in their order, each by a host and a port.
pub(crate) struct Places {
    pub(crate) clients: Vec<(String, u16)>,
    pub(crate) admins: Vec<(String, u16)>,
    /// For each path and broker, the proxy's port and where the broker listens for it.
    pub(crate) paths: Vec<Vec<(TcpListener, (String, u16))>>,
}

impl Kafka {
    pub(crate) fn at(common: &Common, places: Places) -> Self {
        Self {
            brokers: addresses(&places.clients),
            clients: clients(common, &places.admins),
            replication: common.brokers.min(3) as i32,
            admin: common.restricted.clone().map(|password| (password, places.admins.clone())),
            pool: Pool::new(places.paths),
        }
    }
}

/// The testkit's own clients of these brokers.
pub(crate) fn clients(common: &Common, brokers: &[(String, u16)]) -> Clients {
    let clients = Clients::of(&addresses(brokers));
    match &common.restricted {
        Some(password) => clients.with_login(ADMIN, password),
        None => clients,
    }
}

fn addresses(brokers: &[(String, u16)]) -> String {
    brokers.iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>().join(",")
}
