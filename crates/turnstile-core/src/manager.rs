//! The lease engine as its users and strategies see it: acquiring, giving up, shutting down.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::lease::Home;
use crate::metric::Metrics;
use crate::sync::Mutex;
use crate::table::{Hold, Nanos, Table, nanos};
use crate::{
    AcquireError, Clock, Lease, LeaseBackend, LeaseOptions, Lock, LostReason, ReleaseError, ReleaseOutcome, Resource,
    SystemClock,
};
use crate::{acquire, keeper, release};

/// Grants, keeps and ends the leases of one process on one strategy's servers.
///
/// It keeps one background task, started on the runtime of whoever acquires first and ended when nothing is held. If
/// that runtime goes away, leases are no longer renewed and are lost at their deadline; the next `acquire` starts the
/// task anew. Cheap to clone.
pub struct LeaseManager<B: LeaseBackend> {
    shared: Arc<Shared<B>>,
}

impl<B: LeaseBackend> Clone for LeaseManager<B> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<B: LeaseBackend> LeaseManager<B> {
    /// A manager of leases on these servers.
    pub fn new(backend: B) -> Self {
        Self::with_clock(backend, SystemClock)
    }

    /// The same by another clock; tests on a paused clock give a [`TokioClock`](crate::TokioClock).
    pub fn with_clock(backend: B, clock: impl Clock) -> Self {
        Self {
            shared: Arc::new(Shared {
                backend,
                clock: Box::new(clock),
                table: Table::new(),
                metrics: Metrics::new(B::STRATEGY),
                chores: TaskTracker::new(),
                unconfirmed: Mutex::new(Vec::new()),
            }),
        }
    }

    /// The strategy.
    #[must_use]
    pub fn backend(&self) -> &B {
        &self.shared.backend
    }

    #[cfg(all(test, feature = "_shuttle"))]
    pub(crate) fn table(&self) -> &Table<B::Resource> {
        &self.shared.table
    }

    /// The lock on `resource`. It sends nothing yet.
    pub fn lock(&self, resource: B::Resource, options: impl Into<Arc<LeaseOptions>>) -> ManagedLock<B> {
        ManagedLock { manager: self.clone(), resource, options: options.into() }
    }

    /// Refuses whoever waits or comes, with [`AcquireError::ShutDown`], and waits for the releases that go on in the
    /// background. Leases that are held stay so, and stay renewed, until they are released or dropped.
    ///
    /// It ends within the longest time to live, since by then the servers ended all by themselves; what they never
    /// confirmed is returned.
    ///
    /// # Cancelling
    /// The background releases go on. New leases stay refused.
    pub async fn shutdown(&self) -> Vec<ReleaseError> {
        self.shared.table.close();
        self.shared.chores.close();
        keeper::start(&self.shared);
        self.shared.chores.wait().await;
        std::mem::take(&mut *self.shared.unconfirmed.lock())
    }
}

/// A [`Lock`] on one resource of a [`LeaseManager`]. Cheap to clone.
pub struct ManagedLock<B: LeaseBackend> {
    manager: LeaseManager<B>,
    resource: B::Resource,
    options: Arc<LeaseOptions>,
}

impl<B: LeaseBackend> Clone for ManagedLock<B> {
    fn clone(&self) -> Self {
        Self { manager: self.manager.clone(), resource: self.resource.clone(), options: self.options.clone() }
    }
}

impl<B: LeaseBackend> ManagedLock<B> {
    /// What is locked.
    #[must_use]
    pub fn resource(&self) -> &B::Resource {
        &self.resource
    }

    /// The manager that it belongs to.
    #[must_use]
    pub fn manager(&self) -> &LeaseManager<B> {
        &self.manager
    }

    /// The same lock with other options. Give many locks clones of one `Arc` where memory counts.
    #[must_use]
    pub fn with_options(mut self, options: impl Into<Arc<LeaseOptions>>) -> Self {
        self.options = options.into();
        self
    }
}

#[async_trait]
impl<B: LeaseBackend> Lock for ManagedLock<B> {
    fn name(&self) -> &str {
        self.resource.name()
    }

    async fn try_acquire(&self) -> Result<Option<Lease>, AcquireError> {
        acquire::once(&self.manager.shared, &self.resource, &self.options).await
    }

    async fn acquire(&self) -> Result<Lease, AcquireError> {
        acquire::waiting(&self.manager.shared, &self.resource, &self.options, &acquire::Heard::default()).await
    }

    async fn acquire_timeout(&self, limit: Duration) -> Result<Lease, AcquireError> {
        acquire::within(&self.manager.shared, &self.resource, &self.options, limit).await
    }
}

/// What a manager's handles, leases and background share.
pub(crate) struct Shared<B: LeaseBackend> {
    pub(crate) backend: B,
    clock: Box<dyn Clock>,
    pub(crate) table: Table<B::Resource>,
    pub(crate) metrics: Metrics,
    pub(crate) chores: TaskTracker,
    pub(crate) unconfirmed: Mutex<Vec<ReleaseError>>,
}

impl<B: LeaseBackend> Shared<B> {
    pub(crate) fn now(&self) -> Nanos {
        nanos(self.clock.now())
    }

    /// The local deadline of what was asked for at `sent`.
    pub(crate) fn deadline(&self, sent: Nanos, ttl: Duration) -> Nanos {
        sent + nanos(ttl.saturating_sub(self.backend.drift(ttl)))
    }

    /// Tells of a lease that its holder lost.
    pub(crate) fn tell_lost(&self, hold: &Hold, reason: LostReason) {
        warn!(name = %hold.name, token = %hold.token, strategy = B::STRATEGY, "lease lost: {reason}");
        self.metrics.lost(reason);
    }

    /// Leaves `work` to the background. Needs no runtime: without one, it is done when there is one again.
    pub(crate) fn in_background(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        self.table.add_chore(Box::pin(self.chores.track_future(work)));
        keeper::start(self);
    }
}

impl<B: LeaseBackend> Home for Shared<B> {
    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn lost(&self, hold: &Hold, reason: LostReason) {
        self.tell_lost(hold, reason);
    }

    fn release(self: Arc<Self>, hold: Arc<Hold>) -> BoxFuture<'static, Result<ReleaseOutcome, ReleaseError>> {
        Box::pin(release::explicit(self, hold))
    }

    fn give_up(self: Arc<Self>, hold: &Hold) {
        release::in_background(&self, hold);
    }
}
