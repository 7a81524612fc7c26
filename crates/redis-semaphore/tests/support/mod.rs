//! What all server tests share.

#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

use std::time::Duration;

use redis_lua::redis::{Cmd, FromRedisValue};
use redis_semaphore::{Client, LeaseOptions, Semaphore, SemaphoreError, Semaphores};
pub use turnstile_testkit::redis::{Redis, Server};
pub use turnstile_testkit::{unique, until};

/// Far longer than anything here takes: a test that waits so long has failed.
pub const SAFETY_NET: Duration = Duration::from_secs(60);

pub type Form = fn(&Semaphores, &str, u32) -> Result<Semaphore, SemaphoreError>;

/// By set and by counter.
pub const FORMS: [Form; 2] =
    [|all, name, limit| all.by_set(name, limit), |all, name, limit| all.by_counter(name, limit)];

/// A client of the shared server.
pub async fn client() -> Client {
    connect(turnstile_testkit::redis::shared().await.unwrap().url()).await
}

pub async fn connect(url: impl AsRef<str>) -> Client {
    Client::connect(url).await.unwrap()
}

/// Semaphores with a connection and an inbox of their own, as another process would have.
pub async fn process() -> Semaphores {
    Semaphores::new(client().await)
}

pub fn ttl(millis: u64) -> LeaseOptions {
    LeaseOptions::new(Duration::from_millis(millis)).unwrap()
}

/// Options with a time to live beyond the end of any test.
pub fn long() -> LeaseOptions {
    ttl(600_000)
}

/// Runs a command out of words.
pub async fn run<T: FromRedisValue>(client: &Client, words: &str) -> T {
    let mut command = Cmd::new();
    command.arg(words.split(' ').collect::<Vec<_>>());
    client.run(&command).await.unwrap_or_else(|error| panic!("{words}: {error}"))
}

/// Waits until so many stand in the queue.
pub async fn until_waiting(semaphore: &Semaphore, count: usize) {
    until("they wait", async || semaphore.queue().await.unwrap().len() == count).await;
}
