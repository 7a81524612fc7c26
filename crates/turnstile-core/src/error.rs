//! What can go wrong, one small enum per operation. Every text says what to do.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// What sort of failure a [`BackendError`] is: enough to choose what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection: refused, reset, or the name does not resolve. Whether the command was carried out is unknown.
    Unreachable,
    /// No answer in time. Whether the command was carried out is unknown.
    TimedOut,
    /// The server is there and cannot serve just now: loading, failing over, or a read-only replica.
    NotReady,
    /// The server wants other credentials, or its rules forbid a command.
    Denied,
    /// The server is out of memory and takes no writes.
    OutOfMemory,
    /// A key holds something that is not of this strategy.
    WrongType,
    /// The server is too old, or lacks a feature that was asked for.
    Unsupported,
    /// What was asked for makes no sense, whatever the server.
    Invalid,
    /// Something else.
    Other,
}

impl ErrorKind {
    /// Whether the same request may well succeed soon.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::TimedOut | Self::NotReady)
    }
}

/// A failure of the servers behind a lease, in the strategy's own words.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct BackendError {
    kind: ErrorKind,
    message: Arc<str>,
    #[source]
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl BackendError {
    /// A failure of that kind; `message` says what happened and what to do, and bears no secret.
    pub fn new(kind: ErrorKind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same, with the client's own error as its source.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What sort of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Why a lease was not acquired. Nothing is held, and what was sent is undone.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Somebody else held it all the time.
    #[error("{name:?} was held by others for all of {waited:?}{}: wait longer, or try again later", still_ahead(*.ahead))]
    TimedOut {
        /// What was asked for.
        name: Arc<str>,
        /// How long this caller waited.
        waited: Duration,
        /// How many waiters stood before it when the servers were asked last, where they keep a queue.
        ahead: Option<u64>,
    },
    /// The servers did not answer, or refused.
    #[error("could not acquire {name:?}: {source}")]
    Backend {
        /// What was asked for.
        name: Arc<str>,
        /// What the servers said.
        source: BackendError,
    },
    /// The [`LeaseManager`](crate::LeaseManager) was shut down.
    #[error("could not acquire {name:?}: this process is shutting its leases down")]
    ShutDown {
        /// What was asked for.
        name: Arc<str>,
    },
}

fn still_ahead(ahead: Option<u64>) -> String {
    ahead
        .map(|ahead| format!(", to the last in place {} of those who wait", ahead.saturating_add(1)))
        .unwrap_or_default()
}

/// Why a release was not confirmed. The lease is no longer held here, and is renewed no more; a further attempt goes
/// on in the background, and the servers let it end by themselves at its time to live.
#[derive(Debug, Clone, Error)]
#[error("{name:?} was given up, but the servers did not confirm it: {source}; others get it within {ends_within:?}")]
pub struct ReleaseError {
    /// What was held.
    pub name: Arc<str>,
    /// How long it can stay taken by the local deadline; the margin for drift and a round trip come on top.
    pub ends_within: Duration,
    /// What the servers said.
    pub source: BackendError,
}

/// Why a lease is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// Its deadline passed, by the local clock, without a renewal. Others may hold it since.
    Expired,
    /// The servers said that it is gone, or another's: its key was deleted, flushed, or taken over.
    Revoked,
    /// Its own holder released or dropped it: no loss, and [`Lease::lost`](crate::Lease::lost) ends with it.
    Released,
}

impl std::fmt::Display for LostReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Expired => "its deadline passed without a renewal",
            Self::Revoked => "the server no longer has it as ours",
            Self::Released => "it was released",
        })
    }
}

/// The lease is no longer held: stop, and undo or leave to the next holder what is half done.
#[derive(Debug, Clone, Error)]
#[error("the lease on {name:?} is lost: {reason}; stop what relies on it")]
pub struct LeaseLost {
    /// What was held.
    pub name: Arc<str>,
    /// Why it is not any more.
    pub reason: LostReason,
}
