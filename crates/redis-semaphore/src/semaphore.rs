//! One semaphore, and what can be asked of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis_lua::{Client, Script};
use turnstile_core::{AcquireError, Lease, LeaseBackend, LeaseManager, LeaseOptions, Lock, ManagedLock, Resource};

use crate::SemaphoreError;
use crate::backend::{SemaphoreBackend, checked, part, script};
use crate::resource::SemaphoreResource;
use crate::state::{Holder, State, Waiter, look};

static SET_LIMIT: Script = script!("set_limit", "", "time", "common", "set_limit");
static REVIEW: Script = script!("review", "", "time", "common", "review");

/// A semaphore: a [`Lock`] that up to its limit hold at a time. Cheap to clone.
///
/// The [`Lock`] methods ask for its weight, by default one permit.
pub struct Semaphore<B: LeaseBackend = SemaphoreBackend> {
    lock: ManagedLock<B>,
    options: Arc<LeaseOptions>,
}

impl<B: LeaseBackend> Clone for Semaphore<B> {
    fn clone(&self) -> Self {
        Self::new(self.lock.clone(), self.options.clone())
    }
}

/// What a review found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Review {
    /// What the counter said, permits included that had ended. By set, the same as `after`.
    pub before: i64,
    /// What is held.
    pub after: i64,
}

impl<B: LeaseBackend> Semaphore<B> {
    pub(crate) const fn new(lock: ManagedLock<B>, options: Arc<LeaseOptions>) -> Self {
        Self { lock, options }
    }
}

impl<B: LeaseBackend<Resource = SemaphoreResource>> Semaphore<B> {
    /// The same semaphore, each acquire asking for `weight` permits at once: all or none.
    ///
    /// # Errors
    /// When `weight` is zero, or above the limit.
    pub fn weighing(&self, weight: u32) -> Result<Self, SemaphoreError> {
        let SemaphoreResource { limit, any_limit, .. } = *self.lock.resource();
        match weight {
            0 => Err(SemaphoreError::NoWeight),
            _ if weight > limit && !any_limit => Err(SemaphoreError::TooHeavy { weight, limit }),
            _ => Ok(self.with(SemaphoreResource { weight, ..self.lock.resource().clone() })),
        }
    }

    /// The same semaphore with other options for its permits.
    #[must_use]
    pub fn with_options(mut self, options: impl Into<Arc<LeaseOptions>>) -> Self {
        self.options = options.into();
        self.lock = self.lock.with_options(self.options.clone());
        self
    }

    /// Waits for `weight` permits at once, as long as it takes.
    ///
    /// # Errors
    /// When `weight` is zero or above the limit, at once (see [`SemaphoreError::of`]); else as [`Lock::acquire`].
    ///
    /// # Cancelling
    /// As of [`Lock`]: nothing is held, and the place in the queue is given up.
    pub async fn acquire_many(&self, weight: u32) -> Result<Lease, AcquireError> {
        self.heavy(weight)?.acquire().await
    }

    /// Asks once for `weight` permits.
    ///
    /// # Errors
    /// As of [`acquire_many`](Self::acquire_many).
    ///
    /// # Cancelling
    /// As of [`Lock`].
    pub async fn try_acquire_many(&self, weight: u32) -> Result<Option<Lease>, AcquireError> {
        self.heavy(weight)?.try_acquire().await
    }

    /// The manager of its permits: to shut it down.
    #[must_use]
    pub fn manager(&self) -> &LeaseManager<B> {
        self.lock.manager()
    }

    /// What its permits are on.
    #[must_use]
    pub fn resource(&self) -> &SemaphoreResource {
        self.lock.resource()
    }

    fn with(&self, resource: SemaphoreResource) -> Self {
        Self { lock: self.lock.manager().lock(resource, self.options.clone()), options: self.options.clone() }
    }

    fn heavy(&self, weight: u32) -> Result<Self, AcquireError> {
        let name = || self.lock.resource().name().clone();
        self.weighing(weight).map_err(|error| AcquireError::Backend { name: name(), source: error.into() })
    }
}

impl Semaphore {
    /// The same semaphore without the queue: asks again with back-off, and may overtake those in the queue.
    #[must_use]
    pub fn unfair(&self) -> Self {
        self.with(self.lock.resource().clone().unfair())
    }

    /// The same semaphore by whatever limit the server keeps: its own is for the first use alone. So a limit can be
    /// changed while processes run that know the old one.
    #[must_use]
    pub fn by_any_limit(&self) -> Self {
        self.with(SemaphoreResource { any_limit: true, ..self.lock.resource().clone() })
    }

    /// Changes the limit on the server, and gives the semaphore with the new one.
    ///
    /// Lowered below what is held, nobody loses a permit, and nobody gets one until enough are back. Semaphores made
    /// with another limit are refused from then on, waiters too, with [`SemaphoreError::OtherLimit`]; permits that
    /// they hold stay, and stay renewed.
    ///
    /// # Errors
    /// When `limit` is zero or below this semaphore's weight, the name is used in the other form or by another version,
    /// or the server does not answer or refuses.
    ///
    /// # Cancelling
    /// Whether the limit was changed is unknown.
    pub async fn set_limit(&self, limit: u32) -> Result<Self, SemaphoreError> {
        let resource = SemaphoreResource { limit, ..self.lock.resource().clone() };
        if limit == 0 {
            return Err(SemaphoreError::NoLimit);
        } else if resource.weight > limit {
            return Err(SemaphoreError::TooHeavy { weight: resource.weight, limit });
        }
        let call = SET_LIMIT.keys(resource.keys()).arg(limit).arg(resource.form.as_str());
        checked(&resource, call.run(self.client()).await?)?;
        Ok(self.with(resource))
    }

    /// Drops permits that have ended, and sets the counter to what the others weigh. Grants do so by themselves.
    ///
    /// # Errors
    /// When the data is of another version, or the server does not answer or refuses.
    ///
    /// # Cancelling
    /// Whether it was done is unknown; it does no harm.
    pub async fn review(&self) -> Result<Review, SemaphoreError> {
        let resource = self.lock.resource();
        let reply = checked(resource, REVIEW.keys(resource.keys()).run(self.client()).await?)?;
        Ok(Review { before: part(&reply, 1).unwrap_or_default(), after: part(&reply, 2).unwrap_or_default() })
    }

    /// Limit, holders and queue at one moment. They may have changed when the answer arrives: to look at, not to
    /// decide by.
    ///
    /// # Errors
    /// When the data is of another version, or the server does not answer or refuses.
    pub async fn state(&self) -> Result<State, SemaphoreError> {
        look(self.client(), self.lock.resource()).await
    }

    /// The limit that the server keeps; `None` before the first use.
    ///
    /// # Errors
    /// As of [`state`](Self::state).
    pub async fn limit(&self) -> Result<Option<u32>, SemaphoreError> {
        Ok(self.state().await?.limit)
    }

    /// How many permits are free; those at the head of the queue are about to take them.
    ///
    /// # Errors
    /// As of [`state`](Self::state).
    pub async fn available(&self) -> Result<u32, SemaphoreError> {
        let state = self.state().await?;
        Ok(state.limit.unwrap_or(self.lock.resource().limit).saturating_sub(state.held()))
    }

    /// Who holds permits.
    ///
    /// # Errors
    /// As of [`state`](Self::state).
    pub async fn holders(&self) -> Result<Vec<Holder>, SemaphoreError> {
        Ok(self.state().await?.holders)
    }

    /// Who waits, in order. Unfair waiters are not among them.
    ///
    /// # Errors
    /// As of [`state`](Self::state).
    pub async fn queue(&self) -> Result<Vec<Waiter>, SemaphoreError> {
        Ok(self.state().await?.queue)
    }

    fn client(&self) -> &Client {
        &self.lock.manager().backend().client
    }
}

#[async_trait]
impl<B: LeaseBackend> Lock for Semaphore<B> {
    fn name(&self) -> &str {
        self.lock.name()
    }

    async fn try_acquire(&self) -> Result<Option<Lease>, AcquireError> {
        self.lock.try_acquire().await
    }

    async fn acquire(&self) -> Result<Lease, AcquireError> {
        self.lock.acquire().await
    }

    async fn acquire_timeout(&self, limit: Duration) -> Result<Lease, AcquireError> {
        self.lock.acquire_timeout(limit).await
    }
}
