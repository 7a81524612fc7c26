//! How a lease behaves: how long it lasts, who renews it, how long and how often it is asked for.

use std::num::NonZeroU32;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use thiserror::Error;

/// Delays between attempts: doubling from `min` to `max`, each with a random part of up to its own length on top, so
/// that those who wait do not ask in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// Delays from `min` to `max`, at least a millisecond; a `max` below `min` counts as `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        let min = min.max(Duration::from_millis(1));
        Self { min, max: max.max(min) }
    }

    /// The longest delay, its random part included.
    pub(crate) fn longest(&self) -> Duration {
        self.max.saturating_mul(2)
    }

    /// Endless delays, from the shortest on.
    pub fn delays(&self) -> impl Iterator<Item = Duration> + Send + 'static {
        ExponentialBuilder::default()
            .with_min_delay(self.min)
            .with_max_delay(self.max)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

impl Default for Backoff {
    /// From 1 ms to 16 ms.
    fn default() -> Self {
        Self::new(Duration::from_millis(1), Duration::from_millis(16))
    }
}

/// A time to live that no server could keep, or that would be over before it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a time to live of {0:?} cannot be kept: choose one from {min:?} to 365 days", min = LeaseOptions::MIN_TTL)]
pub struct InvalidTtl(pub Duration);

/// How a lease behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOptions {
    pub(crate) ttl: Duration,
    pub(crate) auto_renew: bool,
    pub(crate) retry: Backoff,
    pub(crate) max_outage: Duration,
    pub(crate) handovers: u32,
    pub(crate) handover_time: Duration,
}

impl LeaseOptions {
    /// The shortest time to live: below it, a round trip could take most of it.
    pub const MIN_TTL: Duration = Duration::from_millis(10);
    /// The longest time to live: 365 days.
    pub const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

    /// Leases that end on the servers `ttl` after they were granted or last renewed.
    ///
    /// A short one makes a crashed holder's lease free soon; a long one outlasts longer outages of the servers. By
    /// default 30 s.
    ///
    /// # Errors
    /// When `ttl` is below [`MIN_TTL`](Self::MIN_TTL) or above [`MAX_TTL`](Self::MAX_TTL).
    pub fn new(ttl: Duration) -> Result<Self, InvalidTtl> {
        if (Self::MIN_TTL..=Self::MAX_TTL).contains(&ttl) {
            Ok(Self { ttl, ..Self::default() })
        } else {
            Err(InvalidTtl(ttl))
        }
    }

    /// Whether a held lease is renewed, each third of its time to live, until it is released or dropped. By default
    /// yes. Where not, it ends at its time to live at the latest.
    #[must_use]
    pub const fn auto_renew(mut self, on: bool) -> Self {
        self.auto_renew = on;
        self
    }

    /// The delays between attempts while another process holds it.
    #[must_use]
    pub const fn retry(mut self, backoff: Backoff) -> Self {
        self.retry = backoff;
        self
    }

    /// How long an `acquire` keeps asking servers that do not answer, before it gives up with their error. By default
    /// 5 s; zero means one attempt.
    #[must_use]
    pub const fn max_outage(mut self, limit: Duration) -> Self {
        self.max_outage = limit;
        self
    }

    /// How often in a row (by default 1,024), and for how long in all (by default 50 ms), a lease may go from one
    /// waiter of this process to the next in memory, before the servers are asked again and other processes get their
    /// chance. Zero times turns it off.
    #[must_use]
    pub const fn handover(mut self, times: u32, time: Duration) -> Self {
        self.handovers = times;
        self.handover_time = time;
        self
    }

    /// The time to live.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The tokens to reserve for a grant when others of this process wait behind it.
    pub(crate) const fn token_range(&self) -> NonZeroU32 {
        NonZeroU32::MIN.saturating_add(self.handovers)
    }

    pub(crate) fn renew_every(&self) -> Duration {
        self.ttl / 3
    }
}

impl Default for LeaseOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            auto_renew: true,
            retry: Backoff::default(),
            max_outage: Duration::from_secs(5),
            handovers: 1024,
            handover_time: Duration::from_millis(50),
        }
    }
}
