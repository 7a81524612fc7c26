//! What all server tests share.

#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

use std::time::Duration;

use redis_lua::redis::{Cmd, FromRedisValue, cmd};
use redis_pubsub_lock::{Client, FairLocks, LeaseOptions};
pub use turnstile_testkit::redis::{Redis, Server};
pub use turnstile_testkit::{unique as name, until};

/// Far longer than anything here takes: a test that waits so long has failed.
pub const SAFETY_NET: Duration = Duration::from_secs(60);

pub async fn url() -> String {
    turnstile_testkit::redis::shared().await.unwrap().url()
}

/// A client of the shared server.
pub async fn client() -> Client {
    connect(url().await).await
}

pub async fn connect(url: impl AsRef<str>) -> Client {
    Client::connect(url).await.unwrap()
}

/// Locks with a connection and an inbox of their own, as another process would have.
pub async fn process() -> FairLocks {
    FairLocks::new(client().await)
}

/// Options with a time to live beyond the end of any test.
pub fn long() -> LeaseOptions {
    ttl(600_000)
}

pub fn ttl(millis: u64) -> LeaseOptions {
    LeaseOptions::new(Duration::from_millis(millis)).unwrap()
}

/// Runs a command out of words.
pub async fn run<T: FromRedisValue>(client: &Client, words: &str) -> T {
    let mut command = Cmd::new();
    command.arg(words.split(' ').collect::<Vec<_>>());
    client.run(&command).await.unwrap_or_else(|error| panic!("{words}: {error}"))
}

/// Waits until so many stand in the queue.
pub async fn until_waiting(locks: &FairLocks, name: &str, count: usize) {
    until("they wait", async || locks.queue(name).await.unwrap().len() == count).await;
}
