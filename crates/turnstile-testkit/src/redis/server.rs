//! A private server, for a test alone: with options, and with faults that would hurt others.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use anyhow::Result;

use super::{Redis, container::Container, find, ping, process::Process};
use crate::runtime;

/// Options of a private server; [`Builder::start`] starts it.
#[derive(Clone, Default)]
#[must_use = "a builder does nothing itself, use .start()"]
pub struct Builder {
    args: Vec<String>,
    password: Option<String>,
    cluster: bool,
}

// By hand: options may hold a password.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Builder {
    /// Sets a directive of redis.conf, such as `maxmemory` to `10mb`. Without one, nothing is saved to disk.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.args.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Wants this password of clients; the server's address then has it. Letters and digits only.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.config("requirepass", password)
    }

    /// Makes the server a Redis Cluster of one node, which has all slots.
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self.config("cluster-enabled", "yes")
    }

    /// Makes the server a replica of `primary`, which must outlive it to be of use. A replica refuses writes.
    pub fn replica_of(self, primary: &Server) -> Self {
        let (host, port) = primary.seen_by_servers();
        let own = self.config("replicaof", &format!("{host} {port}")).config("repl-diskless-sync-delay", "0");
        match &primary.password {
            Some(password) => own.config("masterauth", password),
            None => own,
        }
    }

    /// Starts the server and waits until it answers a PING. The address in `TURNSTILE_TEST_REDIS_URL` is not used:
    /// that server may be others' too. Cancelling this leaves no server behind.
    ///
    /// # Errors
    /// When no server can be had; the text says what was tried and what to install.
    pub async fn start(self) -> Result<Server> {
        runtime::run(async move {
            let host = find::start(&self).await?;
            let (name, port) = host.address();
            let before =
                self.password.as_ref().map_or("redis://".to_owned(), |password| format!("redis://:{password}@"));
            let redis = Redis { host: name, port, before, after: String::new() };
            let server = Server { redis, host, password: self.password, cluster: self.cluster };
            server.all_slots().await?;
            Ok(server)
        })
        .await
    }

    /// All options as arguments of redis-server.
    pub(crate) fn arguments(&self) -> Vec<String> {
        ["--save", ""].into_iter().map(str::to_owned).chain(self.args.iter().cloned()).collect()
    }
}

/// A private server. It ends when this is dropped, and when this process ends, however it ends.
pub struct Server {
    redis: Redis,
    host: Host,
    password: Option<String>,
    cluster: bool,
}

/// What a server runs in.
pub(crate) enum Host {
    Container(Arc<Container>),
    Process(Process),
}

impl Host {
    pub(crate) fn address(&self) -> (String, u16) {
        match self {
            Host::Container(container) => (container.host.clone(), container.port),
            Host::Process(process) => ("127.0.0.1".to_owned(), process.port),
        }
    }
}

impl Server {
    /// Stops the server (SIGSTOP): its connections stay open, and nobody answers on them. A local process has stopped
    /// when this returns, on Linux.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn stop(&self) -> Result<()> {
        match &self.host {
            Host::Container(container) => signal(container, "SIGSTOP").await,
            Host::Process(server) => server.process.stop(),
        }
    }

    /// Lets a stopped server go on (SIGCONT); it then answers what was sent to it in the meantime.
    ///
    /// # Errors
    /// When the server does not run.
    pub async fn cont(&self) -> Result<()> {
        match &self.host {
            Host::Container(container) => signal(container, "SIGCONT").await,
            Host::Process(server) => server.process.cont(),
        }
    }

    /// Kills the server (SIGKILL), stopped or not, and waits for its end; all that it had only in memory is gone.
    /// Killing it twice is no error.
    ///
    /// # Errors
    /// When the container engine refuses.
    pub async fn kill(&mut self) -> Result<()> {
        match &mut self.host {
            Host::Container(container) => {
                let container = container.clone();
                runtime::run(async move { container.container.kill().await }).await
            }
            Host::Process(server) => {
                server.process.kill();
                Ok(())
            }
        }
    }

    /// Kills the server if it runs and starts it again on the same port, with the same options. Data is there again
    /// only if the options asked for it (`appendonly` `yes` and `appendfsync` `always`).
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        match &mut self.host {
            Host::Container(container) => {
                let container = container.clone();
                runtime::run(async move { container.run().await }).await?;
            }
            Host::Process(process) => process.run().await?,
        }
        self.all_slots().await
    }

    /// If it is a cluster's node: gives it all slots.
    async fn all_slots(&self) -> Result<()> {
        if !self.cluster {
            return Ok(());
        }
        let ((host, port), password) = (self.host.address(), self.password.clone());
        runtime::run(async move { ping::all_slots(&host, port, password.as_deref()).await }).await
    }

    /// Where another server, which may be in a container too, reaches this one.
    fn seen_by_servers(&self) -> (String, u16) {
        match &self.host {
            Host::Container(container) => (container.container.ip.clone(), 6379),
            Host::Process(_) => self.host.address(),
        }
    }
}

async fn signal(container: &Arc<Container>, signal: &'static str) -> Result<()> {
    let container = container.clone();
    runtime::run(async move { container.container.signal(signal).await }).await
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.redis).finish()
    }
}

impl Deref for Server {
    type Target = Redis;

    fn deref(&self) -> &Redis {
        &self.redis
    }
}
