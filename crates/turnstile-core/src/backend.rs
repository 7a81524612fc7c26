//! The seam between the lease engine and a strategy: how to grant, renew and release on its servers.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{BackendError, FencingToken};

/// One grant's identity: 128 random bits, new for each acquire, and the same in all its attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u128);

impl Owner {
    /// An identity that nobody else has.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The same in its first 24 digits, and that attempt's in its last eight.
    pub(crate) const fn of_attempt(self, attempt: u32) -> Self {
        Self(self.0 & !(u32::MAX as u128) | attempt as u128)
    }

    /// As 32 hexadecimal digits, the form that servers store.
    #[must_use]
    pub fn to_hex(self) -> OwnerHex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (i, byte) in self.0.to_be_bytes().into_iter().enumerate() {
            hex[2 * i] = DIGITS[usize::from(byte >> 4)];
            hex[2 * i + 1] = DIGITS[usize::from(byte & 15)];
        }
        OwnerHex(hex)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An [`Owner`] as text, without an allocation.
#[derive(Clone, Copy)]
pub struct OwnerHex([u8; 32]);

impl AsRef<[u8]> for OwnerHex {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What a lease is on: a name, and whatever else a strategy has to know of it. Cheap to clone.
pub trait Resource: Clone + Send + Sync + 'static {
    /// What errors and logs call it.
    fn name(&self) -> &Arc<str>;

    /// The local queue in which its waiters stand. Resources that exclude one another share one.
    fn queue(&self) -> &Arc<str> {
        self.name()
    }

    /// Whether a grant excludes every other of the same queue. Only such leases are handed over in memory.
    fn is_exclusive(&self) -> bool {
        true
    }

    /// Whether its waiters of one process stand in a local queue, of which only the head asks the servers. Where the
    /// servers keep the order of all waiters it is false: each asks for itself, and nothing is handed over in memory.
    fn has_local_queue(&self) -> bool {
        true
    }
}

impl Resource for Arc<str> {
    fn name(&self) -> &Arc<str> {
        self
    }
}

/// A request for a grant.
#[derive(Debug)]
#[non_exhaustive]
pub struct GrantRequest<'a, R> {
    /// What is asked for.
    pub resource: &'a R,
    /// Who asks: the same in every attempt of one acquire.
    pub owner: Owner,
    /// How long the grant is to last on the servers.
    pub ttl: Duration,
    /// How many consecutive fencing tokens to reserve: as in the attempt before, unless that one was refused.
    pub tokens: NonZeroU32,
    /// If it is refused, the caller asks again within this time; `None` when it goes away instead.
    pub asks_again_within: Option<Duration>,
}

impl<'a, R> GrantRequest<'a, R> {
    /// A request for one token by somebody who does not wait.
    pub const fn new(resource: &'a R, owner: Owner, ttl: Duration) -> Self {
        Self { resource, owner, ttl, tokens: NonZeroU32::MIN, asks_again_within: None }
    }
}

/// What the servers said to a [`GrantRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrantReply {
    /// Granted, for the time to live from now on.
    Granted {
        /// The first of the tokens that were reserved.
        first_token: FencingToken,
    },
    /// Held by another.
    Refused {
        /// How long until it ends unless it is renewed, where known: no use in asking later than that.
        ends_within: Option<Duration>,
        /// How many waiters stand before it, if the request left a place in a queue on the servers, to be given up by a
        /// release. It is then asked again when [`LeaseBackend::wait`] returns, after `ends_within` at the latest.
        ahead: Option<u64>,
    },
}

/// One lease in a batch of renewals.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Renewal<R> {
    /// What is held.
    pub resource: R,
    /// By whom.
    pub owner: Owner,
    /// How long it is to last from now on.
    pub ttl: Duration,
}

impl<R> Renewal<R> {
    /// A renewal of what `owner` holds.
    pub const fn new(resource: R, owner: Owner, ttl: Duration) -> Self {
        Self { resource, owner, ttl }
    }
}

/// What the servers said to a [`Renewal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenewReply {
    /// It lasts for another time to live.
    Renewed,
    /// It is gone, or another's. A renewal never brings it back.
    NotHeld,
}

/// What a release found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReleaseOutcome {
    /// It was held to the end, and is free now, or another waiter's of this process.
    Released,
    /// It had ended before: what was done under it may have overlapped with another holder.
    AlreadyExpired,
    /// Another holds it by now: what was done under it may have overlapped with theirs.
    TakenOver,
}

/// What the servers said to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReleaseReply {
    /// What became of the lease.
    pub outcome: ReleaseOutcome,
    /// Somebody of another process waits for it, and asks again within this time: this one does not ask before.
    pub wanted_within: Option<Duration>,
}

impl ReleaseReply {
    /// A reply of that outcome.
    #[must_use]
    pub const fn new(outcome: ReleaseOutcome, wanted_within: Option<Duration>) -> Self {
        Self { outcome, wanted_within }
    }
}

/// A strategy: how leases are granted, renewed and released on its servers.
///
/// The engine ([`LeaseManager`](crate::LeaseManager)) brings deadlines, loss, renewal, cancellation, retries and the
/// local queue. A backend brings one request and its answer, each bounded in time by itself, and these promises:
/// - A grant that is asked for again by the same [`Owner`] is granted again, with the same tokens and a fresh time to
///   live: its first reply may have been lost.
/// - `first_token` is above every token of an earlier grant of the same name. It rises on new grants alone.
/// - A renewal or a release never touches what another owner holds, and a renewal never brings back what is gone.
/// - Time is the server's. The engine counts from the moment of sending.
///
/// A request whose caller lost interest is not dropped: the engine runs it to its end, then undoes it.
#[async_trait]
pub trait LeaseBackend: Send + Sync + 'static {
    /// What leases of this strategy are on.
    type Resource: Resource;

    /// Its name, as metrics and logs have it.
    const STRATEGY: &'static str;

    /// Asks once for a grant.
    ///
    /// # Errors
    /// A failure of the servers. Where its kind is transient, whether the grant was made is unknown.
    async fn grant(&self, request: GrantRequest<'_, Self::Resource>) -> Result<GrantReply, BackendError>;

    /// Renews many leases in as few round trips as it takes; one answer each, in their order.
    ///
    /// The engine drops the call when a third of the shortest time to live is over, and sends the renewals again.
    async fn renew(&self, leases: &[Renewal<Self::Resource>]) -> Vec<Result<RenewReply, BackendError>>;

    /// Gives a lease, or a place in the queue, back. To give back what is not held is no error.
    ///
    /// # Errors
    /// A failure of the servers. Where its kind is transient, whether it was released is unknown.
    async fn release(&self, resource: &Self::Resource, owner: Owner) -> Result<ReleaseReply, BackendError>;

    /// Waits until it is worth asking for `resource` again, and for `at_most` that long. A strategy that is told of
    /// releases returns early.
    async fn wait(&self, resource: &Self::Resource, owner: Owner, at_most: Duration) {
        let _ = (resource, owner);
        tokio::time::sleep(at_most).await;
    }

    /// How many stand before `owner` in the queue on the servers, where the strategy has heard of it since `owner` asked
    /// last. It sends nothing.
    fn ahead(&self, resource: &Self::Resource, owner: Owner) -> Option<u64> {
        let _ = (resource, owner);
        None
    }

    /// What is taken off a time to live, so that the local deadline is never later than the server's end of it.
    /// By default that of Redlock: one percent, and two milliseconds.
    fn drift(&self, ttl: Duration) -> Duration {
        ttl / 100 + Duration::from_millis(2)
    }
}
