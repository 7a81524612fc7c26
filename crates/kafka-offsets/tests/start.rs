//! Where to begin is what was chosen, and stops where that was chosen.

use kafka_offsets::{Reason, Refused, Start, StartAt, StartFrom};

const LOW: i64 = 10;
const HIGH: i64 = 20;

#[test]
fn what_was_committed_counts_as_long_as_it_is_there() {
    let refuse = Start { without_commit: StartAt::Refuse, out_of_range: StartAt::Refuse };
    for offset in [LOW, 15, HIGH] {
        let from = StartFrom { offset, reason: Reason::Committed };
        assert_eq!(refuse.decide(Some(offset), LOW, HIGH), Ok(from));
    }
}

#[test]
fn without_it_each_case_has_its_own_choice() {
    let start = Start { without_commit: StartAt::Latest, out_of_range: StartAt::Earliest };
    let from = StartFrom { offset: HIGH, reason: Reason::WithoutCommit };
    assert_eq!(start.decide(None, LOW, HIGH), Ok(from));
    for committed in [LOW - 1, HIGH + 1, -1] {
        let from = StartFrom { offset: LOW, reason: Reason::OutOfRange { committed } };
        assert_eq!(start.decide(Some(committed), LOW, HIGH), Ok(from));
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let start = Start { without_commit: StartAt::Refuse, out_of_range: StartAt::Refuse };
    assert_eq!(start.decide(None, LOW, HIGH), Err(Refused::WithoutCommit));
    let refused = start.decide(Some(5), LOW, HIGH).unwrap_err();
    assert_eq!(refused, Refused::OutOfRange { committed: 5, low: LOW, high: HIGH });
    assert!(refused.to_string().contains("5 is outside of what is there (10 up to 20)"), "{refused}");
}
