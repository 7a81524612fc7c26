//! Which records of one partition are done, during one assignment.
//!
//! Only what was fetched and is not done is remembered, so whatever was never there (compacted records, transaction
//! markers) is done without further ado, and a gap of billions costs nothing. The commit point is the lowest remembered
//! offset.

use std::collections::VecDeque;
use std::ops::Range;

use crate::ring::Ring;
use crate::{Completions, Epoch};

/// What became of an offset that was fetched.
#[must_use = "only a new one is to be worked on"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fetched {
    /// Work on it, and say [`OffsetTracker::complete`] when that is done.
    New,
    /// It is done, by this holder or an earlier one, or lies below the start or in a gap: skip it.
    AlreadyDone,
    /// It was fetched before (the consumer went back) and is being worked on: skip it.
    InHand,
    /// No offset of Kafka's (negative, or [`i64::MAX`]). Nothing was changed.
    Invalid,
}

/// What became of a completion.
#[must_use = "a completion that is stale or unknown changed nothing"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Completed {
    /// It is done now.
    Done,
    /// It was done before, or lies below the start or in a gap. Nothing was changed.
    AlreadyDone,
    /// It belongs to another assignment. Nothing was changed, and it was counted: [`OffsetTracker::stale`].
    Stale,
    /// It was never fetched. Nothing was changed, and it was counted: [`OffsetTracker::unknown`].
    Unknown,
}

/// Follows one partition during one assignment: what was fetched, what is done, up to where it may be committed.
///
/// Promises:
/// - the commit point never passes an offset that was fetched and is not done, and never goes back;
/// - a completion of another epoch, or of what was never fetched, changes nothing;
/// - memory is in proportion to what is in hand (at the most so far): 16 bytes for each 64 offsets where they lie close, up to
///   64 bytes for each where they lie apart, and 16 KiB; whatever the gaps, and however long one record holds back the commit
///   point.
///
/// A consumer that goes back (a seek) fetches offsets again. They are not new: done ones are skipped and those in hand are not
/// handed out twice. To work on them again, make a new tracker with a new epoch.
///
/// ```
/// use kafka_offsets::{Completed, Epoch, Fetched, OffsetTracker};
///
/// let epoch = Epoch::FIRST;
/// let mut tracker = OffsetTracker::new(epoch, 100);
/// for offset in [100, 101, 105] {
///     assert_eq!(tracker.fetched(offset), Fetched::New); // 102 to 104 are a gap
/// }
/// assert_eq!(tracker.complete(101, epoch), Completed::Done);
/// assert_eq!(tracker.commit_point(), 100); // not done yet
/// assert_eq!(tracker.completions().runs(), [101..105]);
/// assert_eq!(tracker.complete(100, epoch), Completed::Done);
/// assert_eq!(tracker.commit_point(), 105);
/// ```
#[derive(Clone, Debug)]
pub struct OffsetTracker {
    epoch: Epoch,
    /// Below it all is fetched, or done without.
    next: i64,
    in_hand: Ring,
    /// What an earlier holder did beyond `next`. The first run never touches `next`.
    known: VecDeque<Range<i64>>,
    done: u64,
    stale: u64,
    unknown: u64,
}

impl OffsetTracker {
    /// A tracker that begins at `start`: what lies below it is of no interest. A negative start counts as 0.
    #[must_use]
    pub fn new(epoch: Epoch, start: i64) -> Self {
        let next = start.clamp(0, i64::MAX - 1);
        Self { epoch, next, in_hand: Ring::default(), known: VecDeque::new(), done: 0, stale: 0, unknown: 0 }
    }

    /// A tracker that begins at `start` and knows what an earlier holder did beyond it: those offsets are
    /// [`Fetched::AlreadyDone`].
    ///
    /// Read about [`Completions::truncate`] first.
    #[must_use]
    pub fn resume(epoch: Epoch, start: i64, earlier: &Completions) -> Self {
        let mut tracker = Self::new(epoch, start);
        tracker.known = earlier.runs().iter().cloned().collect();
        tracker.absorb();
        tracker
    }

    /// Takes note of a fetched offset. What lies between it and the last one is a gap, and counts as done.
    pub fn fetched(&mut self, offset: i64) -> Fetched {
        if offset >= self.next {
            if offset == i64::MAX {
                return Fetched::Invalid;
            }
            self.next = offset;
            self.absorb(); // What an earlier holder did up to here; this offset too, perhaps.
            if self.next > offset {
                return Fetched::AlreadyDone;
            }
            self.in_hand.push(offset);
            self.next = offset + 1;
            self.absorb();
            Fetched::New
        } else if offset < 0 {
            Fetched::Invalid
        } else if self.in_hand.contains(offset) {
            Fetched::InHand
        } else {
            Fetched::AlreadyDone
        }
    }

    /// Marks a record as done. `epoch` is that of the assignment under which it was fetched.
    #[inline]
    pub fn complete(&mut self, offset: i64, epoch: Epoch) -> Completed {
        if epoch != self.epoch {
            self.stale += 1;
            Completed::Stale
        } else if self.in_hand.remove(offset) {
            self.done += 1;
            Completed::Done
        } else if (0..self.next).contains(&offset) {
            Completed::AlreadyDone
        } else {
            self.unknown += 1;
            Completed::Unknown
        }
    }

    /// Marks all records as done that were fetched and lie below `end`: for who works in the order of the offsets. How many
    /// were not done yet. With another epoch it changes nothing, and is counted as one stale completion.
    pub fn complete_below(&mut self, end: i64, epoch: Epoch) -> u64 {
        if epoch != self.epoch {
            self.stale += 1;
            return 0;
        }
        let completed = self.in_hand.remove_below(end);
        self.done += completed;
        completed
    }

    /// The lowest offset that is not done; the next to fetch if all are. This is what may be committed.
    #[must_use]
    pub fn commit_point(&self) -> i64 {
        self.in_hand.first().unwrap_or(self.next)
    }

    /// The next offset that is of interest: one after the highest fetched, or further where it is known that an earlier
    /// holder has done what follows. A consumer may well go on there (seek).
    #[must_use]
    pub fn next_fetch(&self) -> i64 {
        self.next
    }

    /// How many records were fetched and are not done.
    #[must_use]
    pub fn incomplete(&self) -> u64 {
        self.in_hand.len()
    }

    /// The lowest offset that was fetched and is not done: it is what holds back the commit point.
    #[must_use]
    pub fn oldest_incomplete(&self) -> Option<i64> {
        self.in_hand.first()
    }

    /// The offsets that were fetched and are not done, rising.
    pub fn incompletes(&self) -> impl Iterator<Item = i64> + '_ {
        self.in_hand.iter()
    }

    /// Whether nothing is to be done at `offset` any more: it is done, or lies below the start or in a gap.
    #[must_use]
    pub fn is_done(&self, offset: i64) -> bool {
        if offset < self.next {
            !self.in_hand.contains(offset)
        } else {
            let after = self.known.partition_point(|run| run.start <= offset);
            after > 0 && self.known[after - 1].contains(&offset)
        }
    }

    /// What is done beyond the commit point, by this holder or an earlier one. Takes time in proportion to
    /// what is in hand.
    #[must_use]
    pub fn completions(&self) -> Completions {
        let mut completions = Completions::none(self.commit_point());
        let mut offsets = self.in_hand.iter();
        if let Some(first) = offsets.next() {
            let mut after = first + 1;
            for offset in offsets.chain([self.next]) {
                if offset > after {
                    completions.add(after..offset);
                }
                after = offset + 1;
            }
        }
        for run in &self.known {
            completions.add(run.clone());
        }
        completions
    }

    /// The assignment that it follows.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many records were completed so far, in this epoch.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// How many completions belonged to another epoch and were dropped.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// How many completions were of offsets never fetched, and were dropped. More than 0 is a fault of the caller.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Moves `next` past what is known to be done.
    #[inline]
    fn absorb(&mut self) {
        while let Some(run) = self.known.front()
            && run.start <= self.next
        {
            self.next = self.next.max(run.end);
            self.known.pop_front();
        }
    }
}
