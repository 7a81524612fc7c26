//! What became of a queue's jobs, told by somebody else than the queue: workers and tests write it into a list on another
//! server, whose order is the order of events.

use anyhow::Result;
use redis_lua::redis::cmd;
use redis_streams::Client;
use turnstile_testkit::jobs::{Findings, check};

/// A list of events on a server.
#[derive(Debug, Clone)]
pub struct Jobs {
    client: Client,
    key: String,
}

impl Jobs {
    /// The list of this name.
    #[must_use]
    pub fn new(client: Client, name: &str) -> Self {
        Self { client, key: format!("{name}/history") }
    }

    /// A worker begins a job of a key.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn begin(&self, who: &str, key: &str, job: u32) -> Result<()> {
        self.write(&format!("begin {who} {key} {job}")).await
    }

    /// It is at the end of it: done, or to be tried again.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn end(&self, who: &str, key: &str, job: u32, done: bool) -> Result<()> {
        self.write(&format!("{} {who} {key} {job}", if done { "done" } else { "again" })).await
    }

    /// From now on nothing is expected of this worker: it was killed, or stopped for long.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn out(&self, who: &str) -> Result<()> {
        self.write(&format!("out {who} - 0")).await
    }

    async fn write(&self, event: &str) -> Result<()> {
        Ok(self.client.run(cmd("RPUSH").arg(&self.key).arg(event)).await?)
    }

    /// How many events there are.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn len(&self) -> Result<usize> {
        Ok(self.client.run(cmd("LLEN").arg(&self.key)).await?)
    }

    /// What became of the jobs with the numbers below `jobs`.
    ///
    /// # Errors
    /// When the server does not answer, or an event makes no sense.
    pub async fn check(&self, jobs: u32) -> Result<Findings> {
        let events: Vec<String> = self.client.run(cmd("LRANGE").arg(&self.key).arg(0).arg(-1)).await?;
        check(&events, jobs)
    }
}
