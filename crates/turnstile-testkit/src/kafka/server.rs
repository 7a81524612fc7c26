//! Private brokers, for a test alone: with options, and with faults that would hurt others.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use anyhow::Result;

use super::clients::Clients;
use super::container::alive;
use super::process::Process;
use super::settings::Common;
use super::{Cluster, Kafka, find, ready};
use crate::container::Container;
use crate::runtime;

/// Options of private brokers; [`Builder::start`] starts one, [`Builder::cluster`] several.
#[derive(Clone, Default)]
#[must_use = "a builder does nothing itself, use .start()"]
pub struct Builder {
    pub(crate) own: Vec<(String, String)>,
    pub(crate) measuring: bool,
    pub(crate) restricted: bool,
}

// By hand: options may hold a password.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { measuring, restricted, .. } = self;
        f.debug_struct("Builder").field("measuring", measuring).field("restricted", restricted).finish_non_exhaustive()
    }
}

impl Builder {
    /// Sets a broker's setting, such as `message.max.bytes` to `2000000`, in place of the testkit's own.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.own.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For benchmarks: a broker that is as fast as can be once it is warm, with a gigabyte of heap. Others start sooner.
    pub fn for_measuring(mut self) -> Self {
        self.measuring = true;
        self
    }

    /// A broker on which clients may do only what [`Kafka::allow`] allows; all else is refused
    /// (`TOPIC_AUTHORIZATION_FAILED`, `GROUP_AUTHORIZATION_FAILED` and so on). The testkit's own helpers may do all.
    pub fn restricted(mut self) -> Self {
        self.restricted = true;
        self
    }

    /// Starts a broker and waits until it and its coordinators answer, some three seconds. The address in
    /// `TURNSTILE_TEST_KAFKA_BROKERS` is not used: that Kafka may be others' too. Cancelling this leaves no broker
    /// behind.
    ///
    /// # Errors
    /// When no broker can be had; the text says what was tried and what to install.
    pub async fn start(self) -> Result<Server> {
        let (kafka, mut brokers) = runtime::run(async move { find::start(&self, 1).await }).await?;
        Ok(Server { kafka, broker: brokers.remove(0) })
    }

    /// Starts a cluster of `brokers`, each of them a controller too; see [`Cluster`].
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub async fn cluster(self, brokers: usize) -> Result<Cluster> {
        let (kafka, brokers) = runtime::run(async move { find::start(&self, brokers).await }).await?;
        Ok(Cluster { kafka, brokers })
    }

    /// What so many brokers will have in common.
    pub(crate) fn common(&self, brokers: usize, voters: String) -> Common {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let letter = || letters[rand::random_range(0..letters.len())] as char;
        // 16 bytes in base64url, whose last letter has but two bits of them.
        let cluster = (0..21).map(|_| letter()).chain(['A']).collect();
        let restricted = self.restricted.then(|| (0..20).map(|_| letter()).collect());
        Common { cluster, brokers, voters, restricted, own: self.own.clone() }
    }
}

/// A private broker. It ends when this is dropped, and when this process ends, however it ends.
#[derive(Debug)]
pub struct Server {
    kafka: Kafka,
    broker: Broker,
}

impl Server {
    /// As [`Broker::stop`].
    ///
    /// # Errors
    /// When the broker does not run.
    pub async fn stop(&self) -> Result<()> {
        self.broker.stop().await
    }

    /// As [`Broker::cont`].
    ///
    /// # Errors
    /// When the broker does not run.
    pub async fn cont(&self) -> Result<()> {
        self.broker.cont().await
    }

    /// As [`Broker::kill`].
    ///
    /// # Errors
    /// When the container engine refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.broker.kill().await
    }

    /// As [`Broker::restart`].
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&mut self) -> Result<()> {
        self.broker.restart().await
    }
}

impl Deref for Server {
    type Target = Kafka;

    fn deref(&self) -> &Kafka {
        &self.kafka
    }
}

/// One broker of a private Kafka. Its ports stay the same as long as it lives, and so does what it has written.
pub struct Broker {
    pub(crate) id: usize,
    /// The testkit's way to this broker.
    pub(crate) clients: Clients,
    pub(crate) host: Host,
}

/// What a broker runs in.
pub(crate) enum Host {
    Container(Arc<Container>),
    Process(Box<Process>),
}

impl Host {
    pub(crate) fn container(&self) -> Option<&Arc<Container>> {
        match self {
            Host::Container(container) => Some(container),
            Host::Process(_) => None,
        }
    }
}

impl Broker {
    /// Its number in Kafka: 1 for the first.
    pub fn id(&self) -> i32 {
        self.id as i32
    }

    /// Stops the broker (SIGSTOP): its connections stay open, and nobody answers on them. A local process has stopped
    /// when this returns, on Linux.
    ///
    /// # Errors
    /// When the broker does not run.
    pub async fn stop(&self) -> Result<()> {
        match &self.host {
            Host::Container(container) => signal(container, "SIGSTOP").await,
            Host::Process(broker) => broker.process.stop(),
        }
    }

    /// Lets a stopped broker go on (SIGCONT); it then answers what was sent to it in the meantime.
    ///
    /// # Errors
    /// When the broker does not run.
    pub async fn cont(&self) -> Result<()> {
        match &self.host {
            Host::Container(container) => signal(container, "SIGCONT").await,
            Host::Process(broker) => broker.process.cont(),
        }
    }

    /// Kills the broker (SIGKILL), stopped or not, and waits for its end. What it has written stays. Killing it twice
    /// is no error.
    ///
    /// # Errors
    /// When the container engine refuses.
    pub async fn kill(&mut self) -> Result<()> {
        match &mut self.host {
            Host::Container(container) => {
                let container = container.clone();
                runtime::run(async move { container.kill().await }).await
            }
            Host::Process(broker) => {
                broker.process.kill();
                Ok(())
            }
        }
    }

    /// Kills the broker if it runs, starts it again on the same ports with what it had written, and waits until it
    /// serves all requests; in a cluster that takes a majority of brokers.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        let id = self.id();
        match &mut self.host {
            Host::Container(container) => {
                let (container, alive) = (container.clone(), alive(container));
                runtime::run(async move { container.run().await }).await?;
                self.clients.run(move |config| ready::wait(config, &[id], alive)).await
            }
            Host::Process(broker) => {
                let alive = broker.spawn()?;
                self.clients.run(move |config| ready::wait(config, &[id], alive)).await
            }
        }
    }
}

async fn signal(container: &Arc<Container>, signal: &'static str) -> Result<()> {
    let container = container.clone();
    runtime::run(async move { container.signal(signal).await }).await
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({})", self.id)
    }
}
