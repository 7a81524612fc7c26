#![doc = include_str!("../README.md")]

pub mod held;
pub mod raw;
pub mod redis_lock;
pub mod report;
pub mod rounds;

use anyhow::Result;
use tokio::runtime::{Builder, Runtime};

/// Threads of the runtime on which both sides run.
pub const WORKERS: usize = 2;

/// The runtime of every measurement: tokio's multi-thread flavour with [`WORKERS`] threads. What is measured runs as
/// tasks on these threads, for both sides alike.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?)
}
