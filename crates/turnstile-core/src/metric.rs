//! The names of this crate's metrics, by the `metrics` facade. Each has the label `strategy`.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::LostReason;

pub(crate) struct Metrics {
    pub(crate) granted: Counter,
    expired: Counter,
    revoked: Counter,
    /// Granted, and not yet given back by their holders.
    pub(crate) held: Gauge,
    wait: Histogram,
    pub(crate) renewals_failed: Counter,
    pub(crate) releases_unconfirmed: Counter,
}

impl Metrics {
    pub(crate) fn new(strategy: &'static str) -> Self {
        let lost =
            |reason: &'static str| counter!("turnstile_lease_lost_total", "strategy" => strategy, "reason" => reason);
        Self {
            granted: counter!("turnstile_lease_granted_total", "strategy" => strategy),
            expired: lost("expired"),
            revoked: lost("revoked"),
            held: gauge!("turnstile_lease_held", "strategy" => strategy),
            wait: histogram!("turnstile_lease_wait_seconds", "strategy" => strategy),
            renewals_failed: counter!("turnstile_lease_renewals_failed_total", "strategy" => strategy),
            releases_unconfirmed: counter!("turnstile_lease_releases_unconfirmed_total", "strategy" => strategy),
        }
    }

    pub(crate) fn waited(&self, nanos: u64) {
        self.wait.record(Duration::from_nanos(nanos));
    }

    pub(crate) fn lost(&self, reason: LostReason) {
        match reason {
            LostReason::Expired => self.expired.increment(1),
            LostReason::Revoked => self.revoked.increment(1),
            LostReason::Released => {}
        }
    }
}
