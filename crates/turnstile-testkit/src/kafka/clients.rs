//! The testkit's own clients, by librdkafka. Its calls block, so they run on threads for that.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;

use crate::runtime;

/// How long one request may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// How the testkit's own clients connect.
#[derive(Clone)]
pub(crate) struct Clients(ClientConfig);

impl Clients {
    /// Clients of the brokers at these addresses.
    pub(crate) fn of(brokers: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("client.id", "turnstile-testkit")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "200")
            .set("topic.metadata.refresh.fast.interval.ms", "20");
        Self(config)
    }

    /// With a name and password, as a restricted broker wants them.
    pub(crate) fn with_login(mut self, user: &str, password: &str) -> Self {
        self.0
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanisms", "PLAIN")
            .set("sasl.username", user)
            .set("sasl.password", password);
        self
    }

    /// Options for a client that a helper makes.
    pub(crate) fn config(&self) -> ClientConfig {
        self.0.clone()
    }

    /// Runs `work`, which may block, with these options; to its end, also when the caller stops waiting.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(ClientConfig) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let config = self.config();
        runtime::handle()?.spawn_blocking(move || work(config)).await.context("the testkit's own task failed")?
    }
}
