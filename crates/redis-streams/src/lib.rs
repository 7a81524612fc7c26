#![doc = include_str!("../README.md")]

mod builder;
mod control;
mod dead_letters;
mod desk;
mod error;
mod job;
#[cfg(feature = "serde")]
mod json;
mod keys;
mod metric;
mod producer;
mod queue;
mod runner;
mod scripts;
mod settle;
mod stats;
mod worker;

pub use builder::WorkerBuilder;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use error::{AddError, ConfigError, QueueError, RunError};
pub use job::{Effect, Job, JobId, NewJob};
#[cfg(feature = "serde")]
pub use json::{Json, json};
pub use keys::DEFAULT_GROUP;
pub use producer::{Added, Full, Limit, Producer};
pub use queue::{Queue, Trim, Trimmed};
pub use redis_lua::{Client, Error, Name, NameError};
pub use stats::{Stats, WorkerStats};
pub use turnstile_core::{AtLimit, Attempt, Backoff, Handler, Outcome, Report, RetryPolicy, Shutdown};
pub use worker::{Order, Start, Worker};
