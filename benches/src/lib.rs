#![doc = include_str!("../README.md")]

pub mod consume;
pub mod copy;
pub mod held;
pub mod offsets;
pub mod options;
pub mod parallel;
pub mod peers;
pub mod raw;
pub mod redis_lock;
pub mod redlock;
pub mod report;
pub mod rounds;
pub mod streams;
pub mod takeover;
pub mod turns;
pub mod wait;

use std::time::Duration;

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
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

/// The processor time of this process so far, the kernel's on its behalf included.
///
/// # Errors
/// When the system does not tell.
pub fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.try_into()?))
}
