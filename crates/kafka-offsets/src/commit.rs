//! What to commit of one partition, and when.
//!
//! A schedule compares what the tracker says with what was last offered and what was last confirmed. It keeps
//! no time of its own.

use std::time::{Duration, Instant};

use crate::metadata::{self, Encoded};
use crate::{CommitPolicy, Delivery, Epoch, OffsetTracker};

/// After a failure, a commit is not due again before this, or the policy's interval if that is shorter.
const RETRY: Duration = Duration::from_millis(500);

/// What to send to the broker: an offset, and the metadata that goes with it.
#[must_use = "it is to be sent, and its outcome to be told to the schedule"]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commit {
    /// The assignment that it belongs to. Once the partition is lost it must not be sent any more.
    pub epoch: Epoch,
    /// The next offset to be worked on, as Kafka wants it: one after the last that is done.
    pub offset: i64,
    /// What is done beyond.
    pub metadata: Encoded,
    done: u64,
}

impl Commit {
    /// What may be committed now of what `tracker` follows, with at most `limit` bytes of metadata.
    ///
    /// For those who send offsets themselves ([`Delivery::Transactional`]). All others ask [`CommitSchedule::offer`].
    pub fn of(tracker: &OffsetTracker, limit: usize) -> Self {
        Self {
            epoch: tracker.epoch(),
            offset: tracker.commit_point(),
            metadata: metadata::encode(&tracker.completions(), limit),
            done: tracker.done(),
        }
    }
}

/// When to commit one partition during one assignment.
///
/// Promises that no commit is offered that lies below one offered before, or below where the assignment began; and none made
/// from a tracker of another epoch.
///
/// ```
/// use std::time::{Duration, Instant};
/// use kafka_offsets::{CommitPolicy, CommitSchedule, Epoch, OffsetTracker};
///
/// let (now, epoch) = (Instant::now(), Epoch::FIRST);
/// let mut tracker = OffsetTracker::new(epoch, 7);
/// let mut schedule = CommitSchedule::new(CommitPolicy::default(), epoch, 7, now);
/// let _ = tracker.fetched(7);
/// let _ = tracker.complete(7, epoch);
///
/// let later = now + Duration::from_secs(1);
/// assert!(!schedule.due(now, &tracker) && schedule.due(later, &tracker));
/// let commit = schedule.offer(later, &tracker).unwrap();
/// assert_eq!(commit.offset, 8);
/// // … send it; then, as it turned out: schedule.failed(&commit, now) or
/// schedule.committed(&commit);
/// assert!(schedule.offer(later, &tracker).is_none()); // nothing new, as at a hand-over
/// ```
#[derive(Clone, Debug)]
pub struct CommitSchedule {
    policy: CommitPolicy,
    epoch: Epoch,
    /// What needs no further commit, if all goes well.
    offered: Point,
    /// What the broker has confirmed.
    confirmed: Point,
    /// The highest offset that was ever offered: no commit goes below it.
    floor: i64,
    /// When a commit was last offered.
    last: Instant,
    /// Not due before this.
    put_off: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    offset: i64,
    /// The tracker's count: it rises also where the offset stands still.
    done: u64,
}

impl CommitSchedule {
    /// The schedule of an assignment that begins at `start`: that counts as confirmed.
    #[must_use]
    pub fn new(policy: CommitPolicy, epoch: Epoch, start: i64, now: Instant) -> Self {
        let start = Point { offset: start.max(0), done: 0 };
        Self { policy, epoch, offered: start, confirmed: start, floor: start.offset, last: now, put_off: None }
    }

    /// Whether a commit should be sent now: then [`offer`](Self::offer) has it.
    #[must_use]
    pub fn due(&self, now: Instant, tracker: &OffsetTracker) -> bool {
        self.due_at(tracker).is_some_and(|at| at <= now)
    }

    /// When a commit is due, as things stand. `None`: not before more is fetched or done. In the past: at once.
    #[must_use]
    pub fn due_at(&self, tracker: &OffsetTracker) -> Option<Instant> {
        let point = self.point(tracker)?;
        if point == self.offered {
            return None;
        }
        let new = point.done.saturating_sub(self.offered.done);
        let at = match self.policy.records() {
            _ if self.policy.delivered() == Delivery::AtMostOnce => self.last,
            Some(records) if new >= records => self.last,
            _ => self.last.checked_add(self.policy.interval()?)?,
        };
        Some(self.put_off.map_or(at, |put_off| at.max(put_off)))
    }

    /// What to commit now, whether or not it is due: at a hand-over and at shutdown it is asked for without.
    ///
    /// `None` if all is confirmed, if the tracker is of another epoch, or if somebody else sends the offsets. What was offered
    /// and not confirmed is offered again, so that a last, synchronous commit makes sure of it.
    pub fn offer(&mut self, now: Instant, tracker: &OffsetTracker) -> Option<Commit> {
        let point = self.point(tracker)?;
        if point == self.confirmed {
            return None;
        }
        self.offered = point;
        self.floor = point.offset;
        self.last = now;
        Some(match self.policy.delivered() {
            Delivery::AtMostOnce => {
                Commit { epoch: self.epoch, offset: point.offset, metadata: Encoded::none(), done: point.done }
            }
            _ => Commit::of(tracker, self.policy.max_metadata()),
        })
    }

    /// The broker has confirmed a commit. One of another epoch is ignored.
    pub fn committed(&mut self, commit: &Commit) {
        if commit.epoch == self.epoch && commit.offset >= self.confirmed.offset {
            let done = commit.done.max(self.confirmed.done);
            self.confirmed = Point { offset: commit.offset, done };
            self.floor = self.floor.max(commit.offset);
        }
    }

    /// A commit failed: what it had, and is not confirmed, is due again after a while. One of another epoch is ignored.
    pub fn failed(&mut self, commit: &Commit, now: Instant) {
        if commit.epoch == self.epoch {
            self.offered = self.confirmed;
            self.put_off = now.checked_add(self.policy.interval().map_or(RETRY, |interval| interval.min(RETRY)));
        }
    }

    /// The highest offset that was confirmed; where the assignment began if there is none.
    ///
    /// With [`Delivery::AtMostOnce`], records below it, and only those, may be worked on.
    #[must_use]
    pub fn confirmed(&self) -> i64 {
        self.confirmed.offset
    }

    /// What could be committed. `None` if that is not for us to do.
    fn point(&self, tracker: &OffsetTracker) -> Option<Point> {
        let point = match self.policy.delivered() {
            Delivery::AtLeastOnce => Point { offset: tracker.commit_point(), done: tracker.done() },
            Delivery::AtMostOnce => Point { offset: tracker.next_fetch(), done: 0 },
            Delivery::Transactional => return None,
        };
        (tracker.epoch() == self.epoch && point.offset >= self.floor).then_some(point)
    }
}
