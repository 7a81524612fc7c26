//! The one interface of every lock, so that a user can swap one strategy for another.

use std::time::Duration;

use async_trait::async_trait;

use crate::{AcquireError, Lease};

/// Something that is held by one (or, for semaphores and readers, by a few) at a time, across processes and machines.
///
/// Waiters of one process stand in one queue, first come first served, and only its head asks the servers. Across
/// processes, the order is the strategy's: see its crate.
///
/// # Cancelling
/// Every future here may be dropped at any point. The caller then has no place in the queue and holds nothing: a
/// request that is under way is run to its end in the background, and a grant it brings is given back at once.
#[async_trait]
pub trait Lock: Send + Sync {
    /// What is locked, as errors and logs call it.
    fn name(&self) -> &str;

    /// Asks once; `None` when it is held, or when others of this process wait already.
    ///
    /// # Errors
    /// [`AcquireError::Backend`] when the servers do not answer or refuse.
    async fn try_acquire(&self) -> Result<Option<Lease>, AcquireError>;

    /// Waits as long as it takes.
    ///
    /// # Errors
    /// As of [`try_acquire`](Self::try_acquire); servers out of reach are asked again for
    /// [`LeaseOptions::max_outage`](crate::LeaseOptions::max_outage) first.
    async fn acquire(&self) -> Result<Lease, AcquireError>;

    /// Waits for that long at the most.
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`] at the limit, if others held it; else as of [`acquire`](Self::acquire).
    async fn acquire_timeout(&self, limit: Duration) -> Result<Lease, AcquireError>;
}
