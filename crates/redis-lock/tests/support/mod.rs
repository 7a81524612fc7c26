//! What the tests share: a real Redis, processes that are none, names of their own, and waiting for a condition.

#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

use std::time::Duration;

use redis_lock::{Client, LeaseOptions, RedisLocks};
use redis_lua::redis::{Cmd, FromRedisValue, cmd};
use turnstile_testkit::redis::Redis;
pub use turnstile_testkit::until;

/// Long enough that nothing ends by itself while a test runs, even on a slow machine.
pub const LONG: Duration = Duration::from_secs(600);

/// What nobody waits for; a test that does has failed.
pub const SAFETY_NET: Duration = Duration::from_secs(30);

/// The server that all tests of a file share.
pub async fn shared() -> Redis {
    turnstile_testkit::redis::shared().await.unwrap()
}

pub async fn client() -> Client {
    Client::connect(shared().await.url()).await.unwrap()
}

/// Locks with a connection and a local queue of their own, as another process would have.
pub async fn process() -> RedisLocks {
    RedisLocks::new(client().await)
}

pub fn name(prefix: &str) -> String {
    turnstile_testkit::unique(prefix)
}

pub fn ttl(millis: u64) -> LeaseOptions {
    LeaseOptions::new(Duration::from_millis(millis)).unwrap()
}

pub fn long() -> LeaseOptions {
    LeaseOptions::new(LONG).unwrap()
}

/// A command out of words.
pub fn words(words: &str) -> Cmd {
    let mut words = words.split(' ');
    let mut command = cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

/// Runs a command out of words.
pub async fn run<T: FromRedisValue>(client: &Client, command: &str) -> T {
    client.run(&words(command)).await.unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Waits until somebody has asked for `name` in vain and waits for it.
pub async fn until_wanted(client: &Client, name: &str) {
    until("somebody waits", async || run::<bool>(client, &format!("EXISTS {{{name}}}:waiting")).await).await;
}
