//! What all tests of this crate share.

#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis_lua::redis::{Cmd, FromRedisValue};
use redis_streams::{
    AtLimit, Attempt, Backoff, Client, Handler, Job, Outcome, Queue, Report, RetryPolicy, RunError, Shutdown, Worker,
    WorkerBuilder,
};
use tokio::task::JoinHandle;
pub use turnstile_testkit::redis::{Redis, Server};
pub use turnstile_testkit::{unique, until};

/// Far longer than anything here takes: a test that waits so long has failed.
pub const SAFETY_NET: Duration = Duration::from_secs(60);

pub async fn client() -> Client {
    connect(turnstile_testkit::redis::shared().await.unwrap().url()).await
}

pub async fn connect(url: impl AsRef<str>) -> Client {
    // On a busy machine a server that is well may take its time.
    let patience = Duration::from_secs(5);
    Client::builder(url).connect_timeout(patience).response_timeout(patience).connect().await.unwrap()
}

/// A new queue of the shared server.
pub async fn queue() -> Queue {
    Queue::new(client().await, unique("queue")).unwrap()
}

/// Runs a command out of words.
pub async fn run<T: FromRedisValue>(client: &Client, words: &str) -> T {
    let mut command = Cmd::new();
    command.arg(words.split(' ').collect::<Vec<_>>());
    client.run(&command).await.unwrap_or_else(|error| panic!("{words}: {error}"))
}

/// A handler out of a function.
pub struct With<F>(pub F);

#[async_trait]
impl<F, R> Handler<Job> for With<F>
where
    F: Fn(Arc<str>, u32) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send,
{
    async fn handle(&self, job: &Job, attempt: Attempt<'_>) -> Outcome {
        let body = String::from_utf8_lossy(job.body());
        (self.0)(body.as_ref().into(), attempt.number().get()).await
    }
}

/// A worker at work.
pub struct Running {
    pub shutdown: Shutdown,
    pub run: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    pub async fn end(self) -> Report {
        self.shutdown.begin();
        tokio::time::timeout(SAFETY_NET, self.run).await.unwrap().unwrap().unwrap()
    }
}

pub fn start<H: Handler<Job>>(worker: Worker<H>) -> Running {
    start_with(worker, Duration::from_secs(10))
}

pub fn start_with<H: Handler<Job>>(worker: Worker<H>, limit: Duration) -> Running {
    let shutdown = Shutdown::new(limit);
    let run = tokio::spawn(worker.run(shutdown.clone()));
    Running { shutdown, run }
}

/// So many attempts, quickly.
pub fn attempts(count: u32) -> RetryPolicy {
    let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(20));
    RetryPolicy::new(NonZeroU32::new(count).unwrap(), AtLimit::DeadLetter).backoff(backoff)
}

/// Waits until nothing is in the queue any more.
pub async fn until_empty(queue: &Queue) {
    until("the queue is empty", async || {
        let stats = queue.stats().await.unwrap();
        stats.length == 0 && stats.pending == 0 && stats.due == 0 && stats.delayed == 0 && stats.in_lanes == 0
    })
    .await;
}
