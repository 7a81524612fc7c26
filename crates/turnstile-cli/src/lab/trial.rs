//! What every trial of a strategy on Redis needs: a server of its own, or several, a client to look at it, the
//! register, workers.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use redis_lua::Client;
use redis_lua::redis::{Cmd, FromRedisValue};
use turnstile_testkit::redis::{Builder, Redis, Server};

use super::Lab;
use super::breaks::Break;
use super::crew::{Worker, WorkerArgs};
use super::register::Register;

/// The longest that the lab's own client waits: the machine may be a busy one.
const PATIENCE: Duration = Duration::from_secs(10);

/// There is no server to be had.
#[derive(Debug, thiserror::Error)]
#[error("no {0} could be started")]
pub struct NoServer(pub &'static str);

/// A trial under way.
pub struct Trial<'a> {
    pub lab: &'a Lab,
    strategy: &'static str,
    pub server: Server,
    /// For strategies of several servers.
    pub others: Vec<Server>,
    /// The lab's own; no worker uses it.
    pub client: Client,
    other_clients: Vec<Client>,
    pub register: Register,
}

impl<'a> Trial<'a> {
    /// Starts a server for it.
    pub async fn start(lab: &'a Lab, strategy: &'static str) -> Result<Self> {
        Self::over(lab, strategy, 1).await
    }

    /// Starts so many servers for it.
    pub async fn over(lab: &'a Lab, strategy: &'static str, servers: usize) -> Result<Self> {
        Self::with(lab, strategy, servers, Redis::builder()).await
    }

    /// The same, and they keep all that they have answered.
    pub async fn on_disk(lab: &'a Lab, strategy: &'static str, servers: usize) -> Result<Self> {
        let options = Redis::builder().config("appendonly", "yes").config("appendfsync", "always");
        Self::with(lab, strategy, servers, options).await
    }

    async fn with(lab: &'a Lab, strategy: &'static str, servers: usize, options: Builder) -> Result<Self> {
        lab.progress.phase(strategy, "starting Redis");
        let start = async || -> Result<_> {
            let server = options.clone().start().await.context(NoServer("Redis"))?;
            let client = Client::builder(server.url()).connect_timeout(PATIENCE).response_timeout(PATIENCE);
            let client = client.connect().await?;
            Ok((server, client))
        };
        let (server, client) = start().await?;
        let (mut others, mut other_clients) = (Vec::new(), Vec::new());
        for _ in 1..servers {
            let (server, client) = start().await?;
            others.push(server);
            other_clients.push(client);
        }
        let register = Register::open(!lab.breaks(Break::Fence))?;
        Ok(Self { lab, strategy, server, others, client, other_clients, register })
    }

    /// Its servers.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        [&self.server].into_iter().chain(&self.others)
    }

    /// Their addresses, with commas between.
    fn url(&self) -> String {
        self.servers().map(|server| server.url()).collect::<Vec<_>>().join(",")
    }

    /// Tells what comes next.
    pub fn phase(&self, what: &str) {
        self.lab.progress.phase(self.strategy, what);
    }

    /// Whether this guard is to be taken away.
    pub fn breaks(&self, guard: Break) -> bool {
        self.lab.breaks(guard)
    }

    /// Worker processes that are connected to the server.
    pub async fn workers(&self, count: u32) -> Result<Vec<Worker>> {
        let url = self.url();
        try_join_all((0..count).map(|number| self.worker(number, &url))).await
    }

    /// Two of them.
    pub async fn pair(&self) -> Result<[Worker; 2]> {
        let url = self.url();
        Ok([self.worker(0, &url).await?, self.worker(1, &url).await?])
    }

    /// A worker process that is connected to `url`.
    pub async fn worker(&self, number: u32, url: &str) -> Result<Worker> {
        let (strategy, register) = (self.strategy.to_owned(), self.register.path().to_owned());
        let worker = Worker::start(WorkerArgs { strategy, url: url.to_owned(), register, number });
        worker.await.context("a worker process could not be started")
    }

    /// A command to the server by the lab's own client.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        Ok(self.client.run(command).await?)
    }

    /// The same to all servers.
    pub async fn everywhere(&self, command: &Cmd) -> Result<()> {
        for client in self.clients() {
            client.run::<()>(command).await?;
        }
        Ok(())
    }

    /// The lab's own, of each server.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        [&self.client].into_iter().chain(&self.other_clients)
    }
}
