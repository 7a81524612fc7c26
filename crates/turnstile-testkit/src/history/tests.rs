//! Good histories pass, and in each broken one the breach is found and named, and nothing else is.

use super::*;

/// A history in the making: each event comes one tick after the one before.
#[derive(Clone, Default)]
struct Tape(Vec<Event>);

impl Tape {
    /// Four records of two keys in one partition.
    fn new() -> Self {
        let mut tape = Self::default();
        for offset in 0..4 {
            let key = Some(KEYS[usize::try_from(offset).unwrap()].into());
            tape.add("producer", What::Produced { place: place(offset), key });
        }
        tape
    }

    fn add(&mut self, who: &str, what: What) -> &mut Self {
        let at = self.0.len() as u64;
        self.0.push(Event { at, who: who.into(), what });
        self
    }

    fn start(&mut self, who: &str, epoch: u64, offset: i64, attempt: u32) -> &mut Self {
        let key = Some(KEYS[usize::try_from(offset).unwrap()].into());
        self.add(who, What::Started { place: place(offset), key, epoch, attempt })
    }

    fn end(&mut self, who: &str, epoch: u64, offset: i64, attempt: u32, how: How) -> &mut Self {
        self.add(who, What::Ended { place: place(offset), epoch, attempt, how })
    }

    /// The first attempts at these records, one after the other, all done.
    fn does(&mut self, who: &str, epoch: u64, offsets: impl IntoIterator<Item = i64>) -> &mut Self {
        for offset in offsets {
            self.start(who, epoch, offset, 1).end(who, epoch, offset, 1, How::Done);
        }
        self
    }

    fn committed(&mut self, offset: i64) -> &mut Self {
        self.add("observer", What::Committed { topic: "t".into(), partition: 0, offset })
    }

    fn fault(&mut self, fault: Fault, whom: &str) -> &mut Self {
        self.add("test", What::Fault { fault, whom: Some(whom.into()) })
    }

    fn dead(&mut self, offset: i64) -> &mut Self {
        self.add("reader", What::DeadLettered { place: place(offset) })
    }

    fn verdict(&self) -> Verdict {
        check(&self.0, Order::Partition)
    }

    /// Passes with this many repeated and redelivered.
    #[track_caller]
    fn passes(&self, duplicates: u64, redelivered: u64) -> Verdict {
        let verdict = self.verdict();
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!((verdict.duplicates, verdict.redelivered), (duplicates, redelivered), "{verdict}");
        verdict
    }

    /// Breaks this rule, this often, and no other.
    #[track_caller]
    fn breaks(&self, rule: Rule, times: usize) -> Verdict {
        let verdict = self.verdict();
        assert!(!verdict.is_clean() && !verdict.holds(rule), "{verdict}");
        assert_eq!((verdict.broken(rule), verdict.breaches.len()), (times, times), "{verdict}");
        verdict
    }
}

const KEYS: [&str; 4] = ["x", "y", "x", "y"];

fn place(offset: i64) -> Place {
    Place::new("t", 0, offset)
}

#[test]
fn one_member_that_does_all_in_order_and_commits_behind_itself_passes() {
    let mut tape = Tape::new();
    tape.does("a", 1, [0, 1]).committed(2).does("a", 1, [2, 3]).committed(4).committed(4);
    let verdict = tape.passes(0, 0);
    let numbers = (verdict.produced, verdict.attempts, verdict.done, verdict.assignments, verdict.commits_seen);
    assert_eq!(numbers, (4, 4, 4, 1, 3));
}

#[test]
fn a_history_in_which_nothing_was_done_shows_nothing() {
    let verdict = check(&[], Order::Partition);
    assert!(Rule::ALL.iter().all(|rule| !verdict.holds(*rule)));
    let mut unseen = Tape::new();
    unseen.does("a", 1, 0..4);
    let verdict = unseen.verdict();
    assert!(verdict.holds(Rule::NoLoss) && !verdict.holds(Rule::CommitNotBack), "{verdict}");
}

#[test]
fn a_record_that_nobody_did_is_a_loss_and_one_in_the_dead_letters_is_none() {
    let mut lost = Tape::new();
    lost.does("a", 1, 0..3).committed(3);
    lost.breaks(Rule::NoLoss, 1);

    let failed = |attempts: u32| {
        let mut tape = Tape::new();
        tape.does("a", 1, [0]);
        for attempt in 1..=attempts {
            tape.start("a", 1, 1, attempt).end("a", 1, 1, attempt, How::Failed);
        }
        tape.does("a", 1, [2, 3]).committed(4);
        tape
    };
    let verdict = failed(3).dead(1).passes(0, 0);
    assert_eq!((verdict.done, verdict.dead_letters, verdict.dead_letter_copies), (3, 1, 0));
    let verdict = failed(1).dead(1).dead(1).passes(0, 0);
    assert_eq!((verdict.dead_letters, verdict.dead_letter_copies), (1, 1));
    // Dropped instead: lost, jumped over twice, and the commit went past it.
    let verdict = failed(3).verdict();
    let broken = [Rule::NoLoss, Rule::InOrder, Rule::CommitNotAhead].map(|rule| verdict.broken(rule));
    assert_eq!((broken, verdict.breaches.len()), ([1, 2, 1], 4), "{verdict}");
}

#[test]
fn two_members_in_one_partition_at_a_time_are_found() {
    let mut tape = Tape::new();
    tape.start("a", 1, 0, 1).start("b", 1, 0, 1).end("a", 1, 0, 1, How::Done).end("b", 1, 0, 1, How::Done);
    tape.does("b", 1, 1..4).committed(4);
    let verdict = tape.verdict();
    assert_eq!((verdict.broken(Rule::OneMember), verdict.broken(Rule::Explained)), (1, 1), "{verdict}");
    assert_eq!(verdict.breaches.len(), 2, "{verdict}");
}

#[test]
fn a_suspended_member_is_a_zombie_only_under_the_assignment_that_it_had() {
    let mut tape = Tape::new();
    tape.start("a", 1, 0, 1).fault(Fault::Stop, "a").does("b", 1, [0]).start("b", 1, 1, 1).fault(Fault::Cont, "a");
    tape.end("a", 1, 0, 1, How::Done).start("a", 1, 1, 1).end("b", 1, 1, 1, How::Done).end("a", 1, 1, 1, How::Done);
    tape.does("b", 1, [2]).committed(3);
    let verdict = tape.clone().does("b", 1, [3]).committed(4).passes(2, 0);
    assert_eq!((verdict.zombie_overlaps, verdict.blames[0].duplicates), (3, 2), "{verdict}");

    // It comes back with a new assignment, and works beside the other: no excuse.
    tape.start("b", 1, 3, 1).start("a", 2, 3, 1).end("b", 1, 3, 1, How::Done).end("a", 2, 3, 1, How::Abandoned);
    let verdict = tape.verdict();
    assert_eq!((verdict.broken(Rule::OneMember), verdict.broken(Rule::Explained)), (1, 1), "{verdict}");
    assert_eq!((verdict.breaches.len(), verdict.zombie_overlaps), (2, 3), "{verdict}");
}

#[test]
fn a_cut_of_all_excuses_only_assignments_from_before_it() {
    let history = |cut_first: bool| {
        let mut tape = Tape::new();
        let cut = What::Fault { fault: Fault::Cut, whom: None };
        if cut_first {
            tape.add("test", cut).start("a", 1, 0, 1);
        } else {
            tape.start("a", 1, 0, 1).add("test", cut);
        }
        tape.does("b", 1, [0]).end("a", 1, 0, 1, How::Done).does("b", 1, 1..4).committed(4);
        tape.verdict()
    };
    let verdict = history(false);
    assert!(verdict.is_clean() && verdict.zombie_overlaps == 1, "{verdict}");
    assert_eq!(history(true).broken(Rule::OneMember), 1);
}

#[test]
fn a_zombie_that_moves_the_committed_offset_is_found() {
    let mut back = Tape::new();
    back.start("a", 1, 0, 1).fault(Fault::Stop, "a").does("b", 1, 0..4).committed(4).fault(Fault::Cont, "a");
    back.end("a", 1, 0, 1, How::Done).committed(1);
    back.breaks(Rule::CommitNotBack, 1);

    let mut ahead = Tape::new();
    ahead.does("a", 1, [0, 1]).fault(Fault::Stop, "a").start("b", 1, 0, 1).fault(Fault::Cont, "a").committed(2);
    ahead.end("b", 1, 0, 1, How::Done).does("b", 1, [1, 2, 3]).committed(4);
    // Seen at the commit, and once more as the owner goes on below it.
    ahead.breaks(Rule::CommitNotAhead, 2);
}

#[test]
fn what_was_begun_after_giving_up_may_not_be_done() {
    let lost = What::GivenUp { topic: "t".into(), partition: 0, epoch: 1 };
    let history = |how| {
        let mut tape = Tape::new();
        tape.does("a", 1, [0]).committed(1).add("a", lost.clone()).start("a", 1, 1, 1).end("a", 1, 1, 1, how);
        tape
    };
    history(How::Abandoned).does("b", 1, 1..4).passes(0, 1);
    let mut done = history(How::Done);
    done.fault(Fault::Cut, "a").does("b", 1, 1..4);
    done.breaks(Rule::NotAfterGivenUp, 1);
}

#[test]
fn attempts_of_one_member_that_overlap_are_found() {
    let mut tape = Tape::new();
    tape.start("a", 1, 0, 1).end("a", 1, 0, 1, How::Failed).start("a", 1, 0, 2).start("a", 1, 1, 1);
    tape.end("a", 1, 0, 2, How::Done).end("a", 1, 1, 1, How::Done).does("a", 1, [2, 3]).committed(4);
    let verdict = tape.verdict();
    assert_eq!((verdict.broken(Rule::OneAttempt), verdict.broken(Rule::InOrder)), (1, 1), "{verdict}");
    assert_eq!(verdict.breaches.len(), 2);
}

#[test]
fn keys_are_lanes_of_their_own_when_asked_for() {
    let mut tape = Tape::new();
    tape.start("a", 1, 0, 1).does("a", 1, [1, 3]).end("a", 1, 0, 1, How::Done).committed(2);
    tape.does("a", 1, [2]).committed(4);
    let verdict = check(&tape.0, Order::Key);
    assert!(verdict.is_clean(), "{verdict}");
    assert!(check(&tape.0, Order::Unordered).is_clean());
    assert!(tape.verdict().broken(Rule::OneAttempt) > 0);

    let mut jumped = Tape::new();
    jumped.does("a", 1, [2, 0, 1, 3]).committed(4);
    let verdict = check(&jumped.0, Order::Key);
    // 2 came before 0, and then it went back.
    assert_eq!((verdict.broken(Rule::InOrder), verdict.breaches.len()), (2, 2), "{verdict}");
    assert!(check(&jumped.0, Order::Unordered).is_clean());

    let mut at_once = Tape::new();
    at_once.start("a", 1, 0, 1).start("a", 1, 2, 1).end("a", 1, 0, 1, How::Done).end("a", 1, 2, 1, How::Done);
    at_once.does("a", 1, [1, 3]).committed(4);
    assert_eq!(check(&at_once.0, Order::Key).broken(Rule::OneAttempt), 1);
}

#[test]
fn a_record_that_is_jumped_over_and_one_gone_back_to_are_found() {
    let mut tape = Tape::new();
    tape.does("a", 1, [0, 2, 1, 3]).committed(4);
    tape.breaks(Rule::InOrder, 2);
}

#[test]
fn attempts_that_are_not_counted_one_by_one_are_found() {
    let with = |numbers: [u32; 2], how: How| {
        let mut tape = Tape::new();
        for (number, how) in numbers.into_iter().zip([how, How::Done]) {
            tape.start("a", 1, 0, number).end("a", 1, 0, number, how);
        }
        tape.does("a", 1, 1..4).committed(4);
        tape
    };
    with([1, 2], How::Failed).passes(0, 0);
    with([1, 3], How::Failed).breaks(Rule::Counted, 1);
    with([1, 1], How::Failed).breaks(Rule::Counted, 1);
    with([1, 2], How::Abandoned).breaks(Rule::Counted, 1);
    with([1, 2], How::Done).breaks(Rule::Counted, 1);
    with([2, 3], How::Failed).breaks(Rule::Counted, 1);
    let mut endless = Tape::new();
    endless.end("a", 1, 0, 1, How::Done).does("a", 1, 1..4).committed(4);
    endless.breaks(Rule::Counted, 1);
}

#[test]
fn a_commit_ahead_of_the_work_or_back_is_found() {
    let mut ahead = Tape::new();
    ahead.start("a", 1, 0, 1).committed(0).end("a", 1, 0, 1, How::Done).committed(2).does("a", 1, [2]).committed(3);
    let verdict = ahead.does("a", 1, [1, 3]).committed(4).verdict();
    assert!(verdict.broken(Rule::CommitNotAhead) >= 2, "{verdict}");

    let mut back = Tape::new();
    back.does("a", 1, 0..4).committed(4).committed(3).committed(4);
    back.breaks(Rule::CommitNotBack, 1);
}

#[test]
fn the_commit_may_pass_what_was_begun_by_a_member_that_is_gone() {
    let mut tape = Tape::new();
    tape.start("a", 1, 0, 1).fault(Fault::Kill, "a").does("b", 1, [0]).committed(1).does("b", 1, 1..4).committed(4);
    let verdict = tape.passes(1, 0);
    assert_eq!((verdict.blames[0].in_flight, verdict.blames[0].duplicates), (1, 1));
}

#[test]
fn what_is_handled_again_below_the_commit_is_found() {
    let mut tape = Tape::new();
    tape.does("a", 1, 0..3).committed(2).fault(Fault::Kill, "a").does("b", 1, [1, 2, 3]).committed(4);
    let verdict = tape.verdict();
    // One was in flight, two were repeated.
    assert_eq!((verdict.broken(Rule::FromCommit), verdict.broken(Rule::Explained)), (1, 1), "{verdict}");
    assert_eq!(verdict.breaches.len(), 2, "{verdict}");
}

#[test]
fn what_is_repeated_is_explained_by_a_fault_or_is_found() {
    let mut killed = Tape::new();
    killed.does("a", 1, [0]).committed(1).does("a", 1, [1]).start("a", 1, 2, 1).fault(Fault::Kill, "a");
    killed.does("b", 1, 1..4).committed(4);
    let verdict = killed.passes(2, 0);
    assert_eq!((verdict.blames[0].in_flight, verdict.blames[0].duplicates), (2, 2));

    let mut left = Tape::new();
    left.does("a", 1, [0, 1]).does("b", 1, 1..4).committed(4);
    left.breaks(Rule::Explained, 1);

    let mut earlier_fault = Tape::new();
    earlier_fault.fault(Fault::Stop, "a").fault(Fault::Cont, "a").does("a", 1, [0, 1]).does("b", 1, 1..4).committed(4);
    earlier_fault.breaks(Rule::Explained, 1);

    let mut another_s = Tape::new();
    another_s.does("a", 1, [0, 1]).fault(Fault::Kill, "c").does("b", 1, 1..4).committed(4);
    another_s.breaks(Rule::Explained, 1);

    let mut broker = Tape::new();
    broker.does("a", 1, [0, 1]).add("test", What::Fault { fault: Fault::Cut, whom: None });
    broker.does("b", 1, 1..4).committed(4).passes(1, 0);

    let mut handed_back = Tape::new();
    handed_back.start("a", 1, 0, 1).end("a", 1, 0, 1, How::Abandoned).does("b", 1, 0..4).committed(4).passes(0, 1);
}

#[test]
fn a_kill_counts_from_the_last_that_its_victim_wrote() {
    let mut tape = Tape::new();
    tape.start("a", 1, 0, 1).fault(Fault::Kill, "a").end("a", 1, 0, 1, How::Done).start("a", 1, 1, 1);
    tape.does("b", 1, 0..4).committed(4);
    let verdict = tape.passes(2, 0);
    assert_eq!(verdict.blames[0].in_flight, 2);
}

#[test]
fn a_history_is_read_back_as_it_was_written_by_several() {
    let history = History::temporary().unwrap();
    let [one, two] = ["one", "two"].map(|who| History::at(history.folder()).recorder(who).unwrap());
    assert!(history.recorder("one").is_err(), "a name is one process's");
    one.record(&What::Produced { place: place(0), key: None }).unwrap();
    two.start(place(0), Some("k\n\u{0}"), 7, 1).unwrap().end(How::Done).unwrap();
    drop(one.start(place(0), None, 8, 2).unwrap());
    let events = history.events().unwrap();
    let who: Vec<_> = events.iter().map(|event| &*event.who).collect();
    assert_eq!(who, ["one", "two", "two", "one", "one"]);
    assert!(events.is_sorted_by_key(|event| event.at));
    let key = Some("k\n\u{0}".into());
    assert_eq!(events[1].what, What::Started { place: place(0), key, epoch: 7, attempt: 1 });
    let abandoned = What::Ended { place: place(0), epoch: 8, attempt: 2, how: How::Abandoned };
    assert_eq!(events[4].what, abandoned, "an attempt that is dropped");

    // Half a line, as of one that was killed while it wrote.
    let file = history.folder().join("three.events");
    std::fs::write(&file, "[1,{\"Committed\"").unwrap();
    assert_eq!(history.events().unwrap(), events);
    std::fs::write(&file, "nonsense\n").unwrap();
    assert!(history.events().unwrap_err().to_string().contains("nonsense"));
}
