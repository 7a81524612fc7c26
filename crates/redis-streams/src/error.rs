//! What can be wrong. Every text says what to do.

use std::sync::Arc;

use redis_lua::{Error, NameError};
use thiserror::Error;

use crate::producer::Full;

/// Why a queue, a producer or a worker cannot be set up as asked.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The group's name is not one.
    #[error("{group:?} is no name for a group: give 1 to 256 bytes without control characters, colons or braces")]
    Group {
        /// What was given.
        group: Arc<str>,
    },
    /// What was asked for contradicts itself.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Why a job was not added.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum AddError {
    /// The queue is at its limit, or was so for as long as the producer waits. Nothing was added.
    #[error(transparent)]
    Full(#[from] Full),
    /// The job cannot be one.
    #[error("{0}")]
    Invalid(&'static str),
    /// The server did not take it; see [`Error::outcome_unknown`] for whether it may have been added all the same. A job
    /// with a dedup id can simply be added again.
    #[error(transparent)]
    Redis(#[from] Error),
}

/// Why a question to a queue, or a change to it, failed.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// What was asked for makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server did not answer, or refused.
    #[error(transparent)]
    Redis(#[from] Error),
}

/// Why a worker's run ended otherwise than it was told to. What it had in hand is handed back, or taken over by others
/// when it counts as dead.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// Workers of the group that are alive keep another order.
    #[error(
        "the workers of the group {group:?} on {queue:?} keep the order {theirs:?}, and this one would keep {ours:?}: use the same, or end them first"
    )]
    OtherOrder {
        /// The queue.
        queue: Arc<str>,
        /// The group.
        group: Arc<str>,
        /// What the others keep.
        theirs: Arc<str>,
        /// What this one would keep.
        ours: &'static str,
    },
    /// The server refuses what a worker needs, and will go on refusing: rights, a key of another type, a version that is
    /// too old. At the start also that it cannot be reached.
    #[error(transparent)]
    Redis(#[from] Error),
}
