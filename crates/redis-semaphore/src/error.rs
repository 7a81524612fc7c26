//! What can be wrong with a semaphore. Every text says what to do.

use std::error::Error;
use std::sync::Arc;

use redis_lua::NameError;
use thiserror::Error;
use turnstile_core::{AcquireError, BackendError, ErrorKind};

/// Why a semaphore cannot be had, used or looked at as asked.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum SemaphoreError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A limit of zero.
    #[error("a limit of 0 lets nobody in: choose one from 1 on")]
    NoLimit,
    /// A weight of zero.
    #[error("a weight of 0 holds nothing: choose one from 1 on")]
    NoWeight,
    /// More than there will ever be.
    #[error("a weight of {weight} never fits the limit of {limit}: ask for less, or raise the limit with set_limit")]
    TooHeavy {
        /// What was asked for.
        weight: u32,
        /// What there is.
        limit: u32,
    },
    /// A limit that takes every node of a quorum.
    #[error(
        "a limit of {limit} over {nodes} nodes takes every one of them, so that one that is down stops all grants: give at \
         least {} nodes, or allow it with without_spare_node", u64::from(*limit) + 2
    )]
    NoSpareNode {
        /// The limit.
        limit: u32,
        /// How many nodes there are.
        nodes: usize,
    },
    /// The server keeps another limit: that of the first user, or of the last `set_limit`.
    #[error(
        "{name:?} has the limit {theirs}, and this caller says {yours}: use {theirs}, or change it on purpose with set_limit"
    )]
    OtherLimit {
        /// The semaphore.
        name: Arc<str>,
        /// The limit that the server keeps.
        theirs: u32,
        /// The caller's.
        yours: u32,
    },
    /// The same name is used in the other form.
    #[error("{name:?} is a semaphore by {theirs}: use that form, or another name")]
    OtherForm {
        /// The semaphore.
        name: Arc<str>,
        /// The form that the server keeps.
        theirs: Arc<str>,
    },
    /// The data was left by another version, or by something else.
    #[error(
        "the data of {name:?} is of version {version:?}, not 1: update the older program, or delete the keys of this \
         name when nobody holds it"
    )]
    OtherVersion {
        /// The semaphore.
        name: Arc<str>,
        /// What stands there.
        version: Arc<str>,
    },
    /// The server does not answer, or refuses.
    #[error(transparent)]
    Redis(#[from] redis_lua::Error),
}

impl SemaphoreError {
    /// The semaphore's own reason why an acquire failed, if it is one.
    #[must_use]
    pub fn of(error: &AcquireError) -> Option<&Self> {
        let AcquireError::Backend { source, .. } = error else { return None };
        let inner = source.source()?;
        inner.downcast_ref().or_else(|| inner.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref())
    }
}

impl From<SemaphoreError> for BackendError {
    fn from(error: SemaphoreError) -> Self {
        match error {
            SemaphoreError::Redis(error) => error.into(),
            error => {
                let kind = match error {
                    SemaphoreError::OtherVersion { .. } => ErrorKind::WrongType,
                    _ => ErrorKind::Invalid,
                };
                Self::new(kind, error.to_string()).with_source(error)
            }
        }
    }
}
