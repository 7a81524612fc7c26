//! What can be wrong beside what [`AcquireError`] has.

use std::error::Error;
use std::sync::Arc;

use redis_lua::NameError;
use turnstile_core::{AcquireError, BackendError, ErrorKind};

/// The queue of the lock was left by a version of this crate that keeps it in another form.
///
/// An acquire fails with it at once, as the source of its [`BackendError`]: see [`of`](Self::of).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the queue of {name:?} is kept in form {version:?}, and this version of redis-pubsub-lock keeps it in form \"1\": let all \
     processes that use the lock run one version; the queue goes away by itself some 15 s after its last waiter"
)]
#[non_exhaustive]
pub struct OtherVersion {
    /// The lock.
    pub name: String,
    /// The form of its queue.
    pub version: String,
}

impl OtherVersion {
    /// Whether this is why an acquire failed.
    #[must_use]
    pub fn of(error: &AcquireError) -> Option<&Self> {
        match error {
            AcquireError::Backend { source, .. } => {
                source.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref()
            }
            _ => None,
        }
    }
}

impl From<OtherVersion> for BackendError {
    fn from(error: OtherVersion) -> Self {
        Self::new(ErrorKind::Unsupported, error.to_string()).with_source(error)
    }
}

/// Why it could not be told who holds a lock or waits for it, or it cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The queue is of another version of this crate.
    #[error(transparent)]
    Version(#[from] OtherVersion),
    /// The server does not answer, or refuses.
    #[error(transparent)]
    Redis(#[from] redis_lua::Error),
}
