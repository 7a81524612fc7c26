//! The one error of this crate: what sort it is, and a text that says what to do.

use std::sync::Arc;

use redis::RedisError;
use thiserror::Error;
use turnstile_core::{BackendError, ErrorKind};

/// A command or script that failed, or a connection that was not to be had.
///
/// The text says what happened and what to do; it bears no password. Clones share one text.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: Arc<str>,
    sent: bool,
    #[source]
    source: Option<RedisError>,
}

impl Error {
    /// An error before anything was sent.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into(), sent: false, source: None }
    }

    pub(crate) fn sent(mut self) -> Self {
        self.sent = true;
        self
    }

    pub(crate) fn with_source(mut self, source: RedisError) -> Self {
        self.source = Some(source);
        self
    }

    /// What sort of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may well succeed soon.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        self.kind.is_transient()
    }

    /// Whether the server may have carried the command out although no answer came: the reply was lost or late.
    ///
    /// False if it was never sent, and if the server refused it. A script that fails half-way is not undone: what it
    /// had written before stays.
    #[must_use]
    pub const fn outcome_unknown(&self) -> bool {
        self.sent && matches!(self.kind, ErrorKind::Unreachable | ErrorKind::TimedOut)
    }
}

impl From<Error> for BackendError {
    fn from(error: Error) -> Self {
        let backend = Self::new(error.kind, error.message);
        match error.source {
            Some(source) => backend.with_source(source),
            None => backend,
        }
    }
}
