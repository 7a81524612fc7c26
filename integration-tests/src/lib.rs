//! What the integration tests share: an oracle outside the locks, captured logs, and waiting for a condition.

#[cfg(any(test, doctest))]
mod book;
pub mod copies;
mod crowd;
mod jobs;
pub mod kafka;
mod kafka_scene;
pub mod layouts;
pub mod lease_rules;
mod log;
mod oracle;

use std::time::Duration;

use redis_lock::{AcquireError, BackendError, Client, Lease, LeaseOptions, RedisLocks};
use redis_lua::redis::{Cmd, FromRedisValue, cmd};

pub use crowd::Crowd;
pub use jobs::Jobs;
pub use log::Log;
pub use oracle::Oracle;
pub use turnstile_testkit::until;

/// Far longer than anything here takes: a test that waits so long has failed.
pub const SAFETY_NET: Duration = Duration::from_secs(30);

/// A time to live beyond the end of any test.
pub const LONG: Duration = Duration::from_secs(600);

/// A name that no other test uses.
#[must_use]
pub fn name(prefix: &str) -> String {
    turnstile_testkit::unique(prefix)
}

/// Options with this time to live, in milliseconds.
///
/// # Panics
/// When it is out of range.
#[must_use]
pub fn ttl(millis: u64) -> LeaseOptions {
    LeaseOptions::new(Duration::from_millis(millis)).unwrap_or_else(|error| panic!("{error}"))
}

/// Options with the time to live [`LONG`].
///
/// # Panics
/// Never.
#[must_use]
pub fn long() -> LeaseOptions {
    ttl(LONG.as_secs() * 1_000)
}

/// A connected client.
///
/// # Panics
/// When there is no connection.
pub async fn connect(url: impl AsRef<str>) -> Client {
    Client::connect(url).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Locks with a connection and a local queue of their own, as another process would have.
///
/// # Panics
/// When there is no connection.
pub async fn process(url: impl AsRef<str>) -> RedisLocks {
    RedisLocks::new(connect(url).await)
}

/// A command out of words.
#[must_use]
pub fn words(words: &str) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words.split(' ').collect::<Vec<_>>());
    command
}

/// Runs a command out of words.
///
/// # Panics
/// When it fails.
pub async fn run<T: FromRedisValue>(client: &Client, command: &str) -> T {
    client.run(&words(command)).await.unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// The value of the key of a lock, if it is there.
///
/// # Panics
/// When the server does not say.
pub async fn lock_value(client: &Client, name: &str) -> Option<String> {
    client.run(cmd("GET").arg(format!("{{{name}}}"))).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits until the lease was renewed so often: four times is longer than its time to live.
///
/// # Panics
/// When it is not within [`SAFETY_NET`].
pub async fn until_renewed(lease: &Lease, times: u32) {
    let (mut rises, mut before) = (0, lease.remaining());
    until("it is renewed", async || {
        let now = lease.remaining();
        rises += u32::from(now > before);
        before = now;
        rises >= times
    })
    .await;
}

/// What the servers said, where an acquire failed by them.
///
/// # Panics
/// When it failed otherwise, or did not.
pub fn refusal<T>(result: Result<T, AcquireError>) -> BackendError {
    match result {
        Err(AcquireError::Backend { source, .. }) => source,
        Err(other) => panic!("not the servers' failure: {other}"),
        Ok(_) => panic!("it was granted"),
    }
}
