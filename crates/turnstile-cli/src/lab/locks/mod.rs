//! What is the same for every lock in the lab: its claims, how each is put to the test, and what the worker processes do.
//! A lock's own file says how to open it, and which of the trials it is for.

pub mod arrival;
pub mod deaths;
pub mod exclusion;
pub mod hung;
pub mod left_behind;
pub mod lost_reply;
mod orders;
pub mod permits;
pub mod queue;
pub mod sharing;
pub mod soak;
pub mod speed;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use turnstile_core::{LeaseOptions, Lock};

use self::orders::Order;
pub use self::worker::work;
use super::crew::{Worker, ask_all};

/// How many processes contend, and how many tasks in each.
const PROCESSES: u32 = 4;
const TASKS: u32 = 8;
/// The time to live of leases that are to end by themselves while the lab looks.
const SHORT: Duration = Duration::from_secs(1);
/// The time to live of leases that are not.
const LONG: Duration = Duration::from_secs(30);

/// A strategy that locks.
#[async_trait]
pub trait Locksmith: Send + Sync {
    /// Its locks on the server at `url`, or on several with a comma between, by a connection and a local queue of their own.
    async fn open(&self, url: &str) -> Result<Box<dyn Locks>>;
}

/// Its locks.
#[async_trait]
pub trait Locks: Send + Sync {
    /// The lock of a name, or the reader's side of it.
    fn lock(&self, name: &str, shared: bool, options: LeaseOptions) -> Result<Arc<dyn Lock>>;

    /// Gives all back; what was not confirmed is returned.
    async fn close(&self) -> Vec<String>;
}

/// Lets workers give back what they have, and end.
async fn close(workers: &mut [Worker]) -> Result<()> {
    ask_all::<_, ()>(workers, LONG, |_| Order::Close).await?;
    Ok(())
}
