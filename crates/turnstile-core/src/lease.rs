//! A lease: the right to go on, until a deadline, as long as it is not lost.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::table::{Hold, nanos};
use crate::{Clock, FencingToken, LeaseLost, LostReason, Owner, ReleaseError, ReleaseOutcome};

/// Where a lease came from: its manager, whatever the strategy.
pub(crate) trait Home: Send + Sync {
    fn clock(&self) -> &dyn Clock;
    fn lost(&self, hold: &Hold, reason: LostReason);
    fn release(self: Arc<Self>, hold: Arc<Hold>) -> BoxFuture<'static, Result<ReleaseOutcome, ReleaseError>>;
    fn give_up(self: Arc<Self>, hold: &Hold);
}

/// Something that is held, and may be lost.
///
/// It is kept alive in the background (see [`LeaseOptions::auto_renew`](crate::LeaseOptions::auto_renew)) until it is
/// released, dropped or lost. It is **lost** when its deadline passes without a renewal, or when the servers say that
/// it is not this holder's any more. A lost lease never comes back.
///
/// # Guarantees
/// - The deadline is counted by the local clock from the moment when the request was sent, less a margin for drift:
///   it is never later than the end on the servers, provided that their clocks run at the same speed to within 1 %.
/// - [`lost`](Self::lost) fires at the deadline even if the network is dead.
/// - A lease that was released or dropped is never renewed afterwards.
///
/// Not guaranteed: that the code between two checks runs before the deadline. A process can be paused anywhere. Where
/// that must do no harm, send the [`fencing_token`](Self::fencing_token) along and have older ones refused.
///
/// # Dropping
/// Dropping never blocks and needs no runtime. The release is sent in the background, and again until it is answered or
/// the lease has ended by itself. [`LeaseManager::shutdown`](crate::LeaseManager::shutdown) waits for it.
#[must_use = "dropping a lease releases it in the background"]
pub struct Lease {
    hold: Arc<Hold>,
    home: Arc<dyn Home>,
    given_up: bool,
}

impl Lease {
    pub(crate) fn new(hold: Arc<Hold>, home: Arc<dyn Home>) -> Self {
        Self { hold, home, given_up: false }
    }

    /// What is held.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.hold.name
    }

    /// The number of this grant: it strictly rises with each new one of the same name.
    #[must_use]
    pub fn fencing_token(&self) -> FencingToken {
        self.hold.token
    }

    /// Who holds it, as the servers know it: the same for leases that were handed over within this process.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.hold.owner
    }

    /// How long it is held at least, unless the servers lose it: by the local clock, without I/O. Zero once lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.left().unwrap_or_default()
    }

    /// Whether it is still held: a cheap gate, without I/O, before each side effect.
    ///
    /// # Errors
    /// When it is lost, why. From then on it stays so.
    pub fn check(&self) -> Result<(), LeaseLost> {
        self.left().map(drop).map_err(|reason| LeaseLost { name: self.hold.name.clone(), reason })
    }

    /// Resolves when it is lost, and at once if it is already. It may outlive the lease: after a release or a drop it
    /// resolves with [`LostReason::Released`].
    pub fn lost(&self) -> impl Future<Output = LostReason> + Send + 'static {
        let hold = self.hold.clone();
        async move {
            hold.latch.signal().cancelled().await;
            hold.latch.reason().unwrap_or(LostReason::Released)
        }
    }

    /// Runs `work` for as long as the lease is held; drops it where it stands when the lease is lost.
    ///
    /// # Errors
    /// When the lease is lost, before `work` ends or as it ends: what `work` did last may have overlapped with another
    /// holder.
    ///
    /// # Cancelling
    /// Drops `work`. The lease stays as it is.
    pub async fn run_while_held<F: Future>(&self, work: F) -> Result<F::Output, LeaseLost> {
        self.check()?;
        tokio::select! {
            biased;
            reason = self.lost() => Err(LeaseLost { name: self.hold.name.clone(), reason }),
            output = work => self.check().map(|()| output),
        }
    }

    /// Gives it back: to the next waiter of this process in memory where there is one, else on the servers.
    ///
    /// # Errors
    /// When the servers did not confirm. The release then goes on in the background, and the lease ends by itself at
    /// the time that the error names.
    ///
    /// # Cancelling
    /// The release goes on in the background.
    pub async fn release(mut self) -> Result<ReleaseOutcome, ReleaseError> {
        self.given_up = true;
        self.home.clone().release(self.hold.clone()).await
    }

    /// How long it is still held; trips it when that is no time at all.
    fn left(&self) -> Result<Duration, LostReason> {
        let left = self.hold.deadline().saturating_sub(nanos(self.home.clock().now()));
        if left == 0 && self.hold.latch.trip(LostReason::Expired) {
            self.home.lost(&self.hold, LostReason::Expired);
        }
        self.hold.latch.reason().map_or(Ok(Duration::from_nanos(left)), Err)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.given_up {
            self.home.clone().give_up(&self.hold);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("name", &self.hold.name)
            .field("token", &self.hold.token)
            .field("remaining", &self.remaining())
            .field("lost", &self.hold.latch.reason())
            .finish()
    }
}
