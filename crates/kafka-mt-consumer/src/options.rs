//! In which order records are worked on, and how many at a time.

use std::num::NonZeroU32;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Which records are worked on one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// Those of a partition that have the same key, in the order of their offsets. Each key has a lane of its own, however
    /// many there are: two keys never share one.
    Key(NullKeys),
    /// All of a partition.
    Partition,
    /// None.
    Unordered,
}

impl Default for Order {
    fn default() -> Self {
        Self::Key(NullKeys::default())
    }
}

/// What is done with records that have no key, where others are in the order of theirs. An empty key is a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NullKeys {
    /// In no order: each stands for itself.
    #[default]
    Unordered,
    /// In order by partition: all of a partition without a key have one lane.
    Partition,
}

/// How [`Lanes`](crate::Lanes) work.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct LaneOptions {
    pub(crate) order: Order,
    pub(crate) concurrency: NonZeroUsize,
    pub(crate) adaptive: Option<Adaptive>,
    pub(crate) rate: Option<NonZeroU32>,
    pub(crate) batches: Option<(NonZeroUsize, Duration)>,
}

impl Default for LaneOptions {
    /// By key, those without one in no order; 1,000 records at a time.
    fn default() -> Self {
        Self {
            order: Order::default(),
            concurrency: NonZeroUsize::MIN.saturating_add(999),
            adaptive: None,
            rate: None,
            batches: None,
        }
    }
}

impl LaneOptions {
    /// Which records are worked on one after another.
    pub const fn order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// How many units of work may be begun and not settled at a time, over all partitions: records, or batches of them. One
    /// that waits for its next attempt does not count.
    pub const fn concurrency(self, limit: NonZeroUsize) -> Self {
        Self { concurrency: limit, ..self }
    }

    /// Finds the limit by itself, up to that of [`concurrency`](Self::concurrency).
    pub const fn adaptive(self, how: Adaptive) -> Self {
        Self { adaptive: Some(how), ..self }
    }

    /// How many records may be begun in a second, over all partitions. Bursts are of a hundredth of that.
    pub const fn rate(self, records: NonZeroU32) -> Self {
        Self { rate: Some(records), ..self }
    }

    /// Gives up to `records` of a lane at once, or as many as have come when `wait` has passed since the first. Records in no
    /// order come together as they are; those without a key among others, one at a time.
    pub const fn batches(self, records: NonZeroUsize, wait: Duration) -> Self {
        Self { batches: Some((records, wait)), ..self }
    }
}

/// A concurrency limit that follows how long the work takes: it falls when that grows beyond what it takes as a rule, which
/// says that whatever is behind the handlers has begun to queue, and rises while it does not.
///
/// It is the gradient rule of Netflix's [concurrency-limits] (`Gradient2Limit`).
///
/// [concurrency-limits]: https://github.com/Netflix/concurrency-limits
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    /// Where it begins. 20 by default.
    pub initial: NonZeroUsize,
    /// It never falls below. 1 by default.
    pub least: NonZeroUsize,
    /// By which factor the work may take longer before the limit falls. 1.5 by default.
    pub tolerance: f64,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { initial: NonZeroUsize::MIN.saturating_add(19), least: NonZeroUsize::MIN, tolerance: 1.5 }
    }
}
