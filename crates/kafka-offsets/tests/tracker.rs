//! The tracker: against a naive one, and case by case.

use std::collections::BTreeSet;

use kafka_offsets::{Completed, Completions, Epoch, Fetched, OffsetTracker};
use proptest::prelude::*;

const NOW: Epoch = Epoch::FIRST;

fn tracker(start: i64, fetched: impl IntoIterator<Item = i64>) -> OffsetTracker {
    let mut tracker = OffsetTracker::new(NOW, start);
    for offset in fetched {
        assert_eq!(tracker.fetched(offset), Fetched::New);
    }
    tracker
}

#[test]
fn the_commit_point_waits_for_the_lowest_that_is_not_done() {
    let mut tracker = tracker(0, 0..1000);
    for offset in (1..1000).rev() {
        assert_eq!(tracker.complete(offset, NOW), Completed::Done);
        assert_eq!((tracker.commit_point(), tracker.oldest_incomplete()), (0, Some(0)));
    }
    assert_eq!(tracker.completions(), Completions::new(0, Some(1..1000)));
    assert_eq!(tracker.complete(0, NOW), Completed::Done);
    assert_eq!((tracker.commit_point(), tracker.next_fetch(), tracker.oldest_incomplete()), (1000, 1000, None));
    assert_eq!((tracker.incomplete(), tracker.done()), (0, 1000));
}

#[test]
fn gaps_never_hold_back_the_commit_point() {
    let mut tracker = tracker(5, [10, 20, 9_000_000_000, 9_000_000_002]);
    assert_eq!(tracker.commit_point(), 10);
    for (offset, then) in
        [(10, 20), (20, 9_000_000_000), (9_000_000_000, 9_000_000_002), (9_000_000_002, 9_000_000_003)]
    {
        assert_eq!(tracker.complete(offset, NOW), Completed::Done);
        assert_eq!(tracker.commit_point(), then);
    }
    for gap in [5, 15, 5_000_000_000] {
        assert!(tracker.is_done(gap));
        assert_eq!(tracker.fetched(gap), Fetched::AlreadyDone);
        assert_eq!(tracker.complete(gap, NOW), Completed::AlreadyDone);
    }
}

#[test]
fn a_completion_of_another_epoch_changes_nothing_and_is_counted() {
    let mut tracker = OffsetTracker::new(NOW.next(), 0);
    let _ = tracker.fetched(0);
    assert_eq!(tracker.complete(0, NOW), Completed::Stale);
    assert_eq!(tracker.complete(0, NOW.next().next()), Completed::Stale);
    assert_eq!((tracker.stale(), tracker.commit_point(), tracker.incomplete()), (2, 0, 1));
    assert_eq!(tracker.complete(0, NOW.next()), Completed::Done);
}

#[test]
fn a_completion_of_what_was_never_fetched_changes_nothing_and_is_counted() {
    let mut tracker = tracker(10, [10]);
    for never in [11, i64::MAX, -1, i64::MIN] {
        assert_eq!(tracker.complete(never, NOW), Completed::Unknown);
    }
    assert_eq!((tracker.unknown(), tracker.commit_point(), tracker.next_fetch()), (4, 10, 11));
    assert_eq!(tracker.complete(9, NOW), Completed::AlreadyDone);
    assert_eq!(tracker.fetched(11), Fetched::New);
    assert!(!tracker.is_done(11));
}

#[test]
fn what_is_fetched_again_is_neither_handed_out_twice_nor_done_again() {
    let mut tracker = tracker(0, 0..10);
    assert_eq!(tracker.complete(3, NOW), Completed::Done);
    for offset in 0..10 {
        let expected = if offset == 3 { Fetched::AlreadyDone } else { Fetched::InHand };
        assert_eq!(tracker.fetched(offset), expected);
    }
    assert_eq!((tracker.next_fetch(), tracker.incomplete()), (10, 9));
    assert_eq!(tracker.complete(3, NOW), Completed::AlreadyDone);
}

#[test]
fn offsets_that_cannot_be_are_ignored() {
    let mut tracker = OffsetTracker::new(NOW, -1001);
    assert_eq!(tracker.commit_point(), 0);
    for offset in [-1, -1001, i64::MIN, i64::MAX] {
        assert_eq!(tracker.fetched(offset), Fetched::Invalid);
    }
    assert_eq!((tracker.next_fetch(), tracker.incomplete()), (0, 0));
    assert_eq!(tracker.fetched(i64::MAX - 1), Fetched::New);
    assert_eq!(tracker.complete(i64::MAX - 1, NOW), Completed::Done);
    assert_eq!(tracker.commit_point(), i64::MAX);
}

#[test]
fn what_an_earlier_holder_did_is_not_done_again() {
    let earlier = Completions::new(100, [101..105, 110..120]);
    let mut tracker = OffsetTracker::resume(NOW, 100, &earlier);
    assert_eq!(tracker.completions(), earlier); // A commit before anything was fetched forgets nothing.
    assert!(!tracker.is_done(100) && tracker.is_done(104) && !tracker.is_done(105) && tracker.is_done(119));

    assert_eq!(tracker.fetched(100), Fetched::New);
    assert_eq!((tracker.next_fetch(), tracker.commit_point()), (105, 100));
    assert_eq!(tracker.completions(), earlier);
    assert_eq!(tracker.fetched(102), Fetched::AlreadyDone);
    assert_eq!(tracker.complete(100, NOW), Completed::Done);
    assert_eq!(tracker.commit_point(), 105);
    assert_eq!(tracker.completions(), Completions::new(105, Some(110..120)));
    assert_eq!(tracker.fetched(115), Fetched::AlreadyDone); // 105 to 109 turn out to be a gap.
    assert_eq!(tracker.commit_point(), 120);
}

proptest! {
    #[test]
    fn it_agrees_with_a_naive_one(
        start in 0..200i64,
        earlier in prop::collection::vec((0..400i64, 1..70i64), 0..6),
        steps in prop::collection::vec((0..10u8, 0..600i64), 0..400),
    ) {
        let earlier = Completions::new(start, earlier.into_iter().map(|(at, length)| start + at..start + at + length));
        let mut tracker = OffsetTracker::resume(NOW, start, &earlier);
        let (mut next, mut open, mut stale, mut unknown) = (start, BTreeSet::new(), 0, 0);
        for (step, (kind, value)) in steps.into_iter().enumerate() {
            match kind {
                0..5 => {
                    // Mostly the next one, at times a gap, or one fetched again.
                    let offset = match value { 0..400 => tracker.next_fetch(), 400..450 => next + value * 7 - 2800, _ => value };
                    let expected = if open.contains(&offset) {
                        Fetched::InHand
                    } else if offset < next || earlier.contains(offset) {
                        Fetched::AlreadyDone
                    } else {
                        open.insert(offset);
                        Fetched::New
                    };
                    prop_assert_eq!(tracker.fetched(offset), expected);
                    next = next.max(offset + 1);
                }
                5 => {
                    prop_assert_eq!(tracker.complete(value, NOW.next()), Completed::Stale);
                    stale += 1;
                }
                _ => {
                    let pick = open.iter().nth(value as usize % open.len().max(1)).copied();
                    let offset = pick.filter(|_| value % 8 > 0).unwrap_or(value);
                    // An earlier holder's that follow on what was fetched count as fetched.
                    let expected = if open.remove(&offset) {
                        Completed::Done
                    } else if offset < tracker.next_fetch() {
                        Completed::AlreadyDone
                    } else {
                        unknown += 1;
                        Completed::Unknown
                    };
                    prop_assert_eq!(tracker.complete(offset, NOW), expected);
                }
            }
            let done = |offset: i64| if offset < next { !open.contains(&offset) } else { earlier.contains(offset) };
            let commit_point = (start..).find(|offset| !done(*offset)).unwrap();
            prop_assert_eq!(tracker.commit_point(), commit_point);
            prop_assert_eq!(tracker.oldest_incomplete(), open.first().copied());
            prop_assert_eq!(tracker.incomplete(), open.len() as u64);
            prop_assert_eq!((tracker.stale(), tracker.unknown()), (stale, unknown));
            prop_assert!(tracker.incompletes().eq(open.iter().copied()));
            if step % 25 > 0 {
                continue; // The rest takes long.
            }
            let completions = tracker.completions();
            prop_assert_eq!(completions.commit_point(), commit_point);
            for offset in start..next.max(start + 500) + 5 {
                prop_assert_eq!(tracker.is_done(offset), done(offset), "{}", offset);
                prop_assert_eq!(completions.contains(offset), offset > commit_point && done(offset), "{}", offset);
            }
        }
    }
}
