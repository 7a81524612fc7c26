//! When to commit, and what a commit is to promise.

use std::time::Duration;

use crate::metadata;

/// When a record counts as committed: before or after it was worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// After. A crash repeats what was done since the last commit, and loses nothing.
    #[default]
    AtLeastOnce,
    /// Before: a record is worked on only once a commit beyond it is confirmed. A crash loses what was
    /// in hand, and repeats nothing.
    AtMostOnce,
    /// By somebody else, in a transaction together with what was produced: nothing is ever due here, and nothing offered. They
    /// take what to commit from [`Commit::of`](crate::Commit::of).
    Transactional,
}

/// When to commit: each so many records, each so often, or both, whichever comes first. Besides, always at a hand-over and
/// at shutdown.
///
/// By default once a second, at least once. The more rarely, the more is repeated after a crash.
#[must_use = "a policy does nothing by itself"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPolicy {
    records: Option<u64>,
    interval: Option<Duration>,
    delivery: Delivery,
    metadata_limit: usize,
}

impl Default for CommitPolicy {
    fn default() -> Self {
        Self::at_the_end().every(Duration::from_secs(1))
    }
}

impl CommitPolicy {
    /// At hand-over and shutdown only, unless more is said. A crash then repeats everything since the assignment.
    pub const fn at_the_end() -> Self {
        Self { records: None, interval: None, delivery: Delivery::AtLeastOnce, metadata_limit: metadata::DEFAULT_LIMIT }
    }

    /// Also once `interval` has passed since the last commit, if there is anything new. Zero: as soon as there is.
    pub const fn every(self, interval: Duration) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// Also once `records` of a partition are done since its last commit. 0 counts as 1.
    pub const fn every_records(self, records: u64) -> Self {
        Self { records: Some(if records == 0 { 1 } else { records }), ..self }
    }

    /// Before or after the work. With [`Delivery::AtMostOnce`] a commit is due as soon as something was fetched, whatever else is
    /// said here.
    pub const fn delivery(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }

    /// How many bytes of metadata a commit may bring, [`metadata::DEFAULT_LIMIT`] by default; 0 for none. It must not be above
    /// the broker's `offset.metadata.max.bytes`, which otherwise refuses the commit.
    pub const fn metadata_limit(self, bytes: usize) -> Self {
        Self { metadata_limit: bytes, ..self }
    }

    /// After how many records a commit is due.
    #[must_use]
    pub const fn records(&self) -> Option<u64> {
        self.records
    }

    /// After what time a commit is due.
    #[must_use]
    pub const fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Before or after the work.
    #[must_use]
    pub const fn delivered(&self) -> Delivery {
        self.delivery
    }

    /// How many bytes of metadata a commit may bring.
    #[must_use]
    pub const fn max_metadata(&self) -> usize {
        self.metadata_limit
    }
}
