//! The number of an assignment. What was begun under an earlier one is stale: it changes nothing any more.

use std::fmt;

/// One assignment of one partition to this process.
///
/// Each new assignment has a higher one, so that what a handler finishes after its partition was taken away, and perhaps
/// given back, is told from what it finishes in time. Numbers mean something within one process only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The first epoch of a process.
    pub const FIRST: Self = Self(1);

    /// The epoch after this one.
    #[must_use = "the epoch itself does not change"]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Its number, for logs.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
