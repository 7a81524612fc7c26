//! What every trial of a strategy on one Redis needs: a server of its own, a client to look at it, the register, workers.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use redis_lua::Client;
use redis_lua::redis::{Cmd, FromRedisValue};
use turnstile_testkit::redis::{Redis, Server};

use super::Lab;
use super::breaks::Break;
use super::crew::{Worker, WorkerArgs};
use super::register::Register;

/// There is no server to be had.
#[derive(Debug, thiserror::Error)]
#[error("no {0} could be started")]
pub struct NoServer(pub &'static str);

/// A trial under way.
pub struct Trial<'a> {
    pub lab: &'a Lab,
    strategy: &'static str,
    pub server: Server,
    /// The lab's own; no worker uses it.
    pub client: Client,
    pub register: Register,
}

impl<'a> Trial<'a> {
    /// Starts a server for it.
    pub async fn start(lab: &'a Lab, strategy: &'static str) -> Result<Self> {
        lab.progress.phase(strategy, "starting a Redis");
        let server = Redis::start().await.context(NoServer("Redis"))?;
        let client = Client::connect(server.url()).await?;
        let register = Register::open(!lab.breaks(Break::Fence))?;
        Ok(Self { lab, strategy, server, client, register })
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
        let url = self.server.url();
        try_join_all((0..count).map(|number| self.worker(number, &url))).await
    }

    /// Two of them.
    pub async fn pair(&self) -> Result<[Worker; 2]> {
        let url = self.server.url();
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
}
