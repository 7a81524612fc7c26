//! When what is committed, and what never is.

use std::time::{Duration, Instant};

use kafka_offsets::{Commit, CommitPolicy, CommitSchedule, Delivery, Epoch, OffsetTracker};

const EPOCH: Epoch = Epoch::FIRST;
const SECOND: Duration = Duration::from_secs(1);

struct One {
    tracker: OffsetTracker,
    schedule: CommitSchedule,
    now: Instant,
}

impl One {
    fn new(policy: CommitPolicy) -> Self {
        let now = Instant::now();
        let tracker = OffsetTracker::new(EPOCH, 0);
        Self { tracker, schedule: CommitSchedule::new(policy, EPOCH, 0, now), now }
    }

    fn fetch(&mut self, count: i64) {
        for offset in self.tracker.next_fetch()..self.tracker.next_fetch() + count {
            let _ = self.tracker.fetched(offset);
        }
    }

    fn complete(&mut self, offsets: impl IntoIterator<Item = i64>) {
        for offset in offsets {
            let _ = self.tracker.complete(offset, EPOCH);
        }
    }

    fn due(&self) -> bool {
        self.schedule.due(self.now, &self.tracker)
    }

    fn offer(&mut self) -> Option<Commit> {
        self.schedule.offer(self.now, &self.tracker)
    }
}

#[test]
fn each_so_many_records() {
    let mut one = One::new(CommitPolicy::at_the_end().every_records(3));
    one.fetch(10);
    one.now += 1000 * SECOND;
    one.complete([9, 8]);
    assert!(!one.due() && one.schedule.due_at(&one.tracker).is_none());
    one.complete([7]);
    assert!(one.due());
    let commit = one.offer().unwrap();
    assert_eq!((commit.offset, commit.metadata.kept), (0, 3)); // The offset stands still, the metadata does not.
    assert!(!one.due());
    one.complete([0, 1, 2]);
    assert!(one.due());
    assert_eq!(one.offer().unwrap().offset, 3);
}

#[test]
fn each_so_often_if_there_is_anything_new() {
    let mut one = One::new(CommitPolicy::default());
    one.fetch(2);
    one.now += SECOND;
    assert!(!one.due());
    one.complete([0]);
    assert!(one.due());
    assert_eq!(one.offer().unwrap().offset, 1);
    one.complete([1]);
    assert!(!one.due());
    assert_eq!(one.schedule.due_at(&one.tracker), Some(one.now + SECOND));
    one.now += SECOND;
    assert!(one.due());
}

#[test]
fn an_interval_without_end_is_never_due() {
    let mut one = One::new(CommitPolicy::at_the_end().every(Duration::MAX));
    one.fetch(1);
    one.complete([0]);
    assert!(!one.due());
}

#[test]
fn at_a_hand_over_all_that_is_not_confirmed_is_offered_and_nothing_else() {
    let mut one = One::new(CommitPolicy::at_the_end());
    assert_eq!(one.offer(), None);
    one.fetch(3);
    assert_eq!(one.offer(), None);
    one.complete([0]);
    assert!(!one.due());
    let first = one.offer().unwrap();
    assert_eq!(one.offer(), Some(first.clone())); // Whether it arrived is not known.
    one.schedule.committed(&first);
    assert_eq!((one.offer(), one.schedule.confirmed()), (None, 1));
    one.complete([2]);
    assert_eq!(one.offer().unwrap().metadata.kept, 1);
}

#[test]
fn a_gap_at_the_end_is_committed_too() {
    let mut one = One::new(CommitPolicy::default());
    let _ = one.tracker.fetched(0);
    one.complete([0]);
    let commit = one.offer().unwrap();
    one.schedule.committed(&commit);
    // An earlier holder had done the next; there is nothing to complete.
    let earlier = kafka_offsets::Completions::new(1, Some(3..4));
    one.tracker = OffsetTracker::resume(EPOCH, 1, &earlier);
    let _ = one.tracker.fetched(3);
    one.now += SECOND;
    assert!(one.due());
    assert_eq!(one.offer().unwrap().offset, 4);
}

#[test]
fn a_failed_commit_is_due_again_after_a_while() {
    let mut one = One::new(CommitPolicy::at_the_end().every_records(1));
    one.fetch(1);
    one.complete([0]);
    let commit = one.offer().unwrap();
    assert!(!one.due());
    one.schedule.failed(&commit, one.now);
    assert!(!one.due());
    one.now += SECOND;
    assert!(one.due());
    assert_eq!(one.offer(), Some(commit));
}

#[test]
fn a_late_answer_takes_nothing_back() {
    let mut one = One::new(CommitPolicy::at_the_end().every_records(1));
    one.fetch(2);
    one.complete([0]);
    let first = one.offer().unwrap();
    one.complete([1]);
    let second = one.offer().unwrap();
    one.schedule.committed(&second);
    one.schedule.failed(&first, one.now);
    one.schedule.committed(&first);
    assert_eq!((one.schedule.confirmed(), one.offer()), (2, None));
}

#[test]
fn nothing_below_what_was_offered_is_ever_offered_nor_anything_of_another_epoch() {
    let mut one = One::new(CommitPolicy::default());
    one.fetch(5);
    one.complete(0..5);
    let commit = one.offer().unwrap();
    one.schedule.failed(&commit, one.now);
    one.now += 10 * SECOND;

    let mut back = OffsetTracker::new(EPOCH, 0);
    let _ = back.fetched(3);
    let mut other = one.tracker.clone();
    assert!(one.due());
    for tracker in [&back, &OffsetTracker::new(EPOCH.next(), 100)] {
        assert!(!one.schedule.due(one.now, tracker));
        assert_eq!(one.schedule.offer(one.now, tracker), None);
    }
    let _ = other.fetched(5);
    assert_eq!(one.schedule.offer(one.now, &other).unwrap().offset, 5);
}

#[test]
fn an_answer_of_another_epoch_is_ignored() {
    let mut old = One::new(CommitPolicy::default());
    old.fetch(5);
    old.complete(0..5);
    let stale = old.offer().unwrap();
    let mut schedule = CommitSchedule::new(CommitPolicy::default(), EPOCH.next(), 0, old.now);
    schedule.committed(&stale);
    assert_eq!(schedule.confirmed(), 0);
}

#[test]
fn at_most_once_commits_before_the_work() {
    let mut one = One::new(CommitPolicy::default().delivery(Delivery::AtMostOnce));
    one.fetch(3);
    assert!(one.due());
    let commit = one.offer().unwrap();
    assert_eq!((commit.offset, commit.metadata.text.as_str()), (3, ""));
    assert_eq!(one.schedule.confirmed(), 0); // Nothing may be worked on yet.
    one.schedule.committed(&commit);
    assert_eq!(one.schedule.confirmed(), 3);
    one.complete(0..3);
    assert!(!one.due());
    assert_eq!(one.offer(), None);
}

#[test]
fn in_a_transaction_somebody_else_commits() {
    let mut one = One::new(CommitPolicy::default().delivery(Delivery::Transactional));
    one.fetch(3);
    one.complete([0, 2]);
    one.now += 10 * SECOND;
    assert!(!one.due());
    assert_eq!(one.offer(), None);
    let commit = Commit::of(&one.tracker, 4096);
    assert_eq!((commit.offset, commit.metadata.kept), (1, 1));
    one.schedule.committed(&commit);
    assert_eq!(one.schedule.confirmed(), 1);
}
