//! Judges a history: what a lock promises, seen from the resource that it guards.
//!
//! Two holders overlap when one enters while the other, who has not left, still had a good lease, both by their own
//! word. One that was paused past its lease and has not left yet is no overlap: nobody can keep it from that, and its
//! fencing token is what makes it harmless. So a history is also judged by its tokens.

use std::collections::HashSet;

use super::history::{Event, What};

/// What was found in a history.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub entries: u64,
    pub refused: u64,
    /// Two holders with good leases inside at once, of which one at least was to be alone.
    pub overlaps: u64,
    /// Entries whose token was not above all that must be older.
    pub tokens_back: u64,
    /// Holders turned away although their lease was good: somebody newer had been there before it ended.
    pub valid_refused: u64,
    /// Changes that were made with a token older than the newest.
    pub stale_writes: u64,
    /// Ends of a stay that had no beginning, and beginnings of a second stay before the end of the first.
    pub lost_entries: u64,
    /// The most that were inside at once with good leases.
    pub most_inside: u64,
    /// Who never left.
    pub still_inside: u64,
}

impl Verdict {
    /// Whether holders kept apart, as far as the history tells.
    pub fn exclusive(&self) -> bool {
        self.overlaps == 0 && self.lost_entries == 0 && self.entries > 0
    }

    /// Whether each newer holder had a higher token.
    pub fn tokens_rise(&self) -> bool {
        self.tokens_back == 0 && self.valid_refused == 0 && self.entries > 0
    }
}

struct Inside {
    who: u32,
    token: u64,
    shared: bool,
    valid_until: u64,
}

/// Judges the history of one resource.
pub fn check(events: &[Event]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut inside: Vec<Inside> = Vec::new();
    let mut seen = HashSet::new();
    // The newest token of all, and of those who were to be alone.
    let (mut newest, mut newest_alone) = (0, 0);
    for &Event { at, who, token, what } in events {
        match what {
            What::Entered { shared, valid_until } => {
                verdict.entries += 1;
                let above = if shared { newest_alone } else { newest };
                if token <= above || !seen.insert(token) {
                    verdict.tokens_back += 1;
                }
                newest = newest.max(token);
                if !shared {
                    newest_alone = newest_alone.max(token);
                }
                if inside.iter().any(|other| other.who == who) {
                    verdict.lost_entries += 1;
                    inside.retain(|other| other.who != who);
                }
                let good = |until: u64| until > at;
                let others = inside.iter().filter(|other| good(valid_until) && good(other.valid_until));
                if others.clone().any(|other| !other.shared || !shared) {
                    verdict.overlaps += 1;
                }
                verdict.most_inside = verdict.most_inside.max(1 + others.count() as u64);
                inside.push(Inside { who, token, shared, valid_until });
            }
            What::Refused { valid_until } => {
                verdict.refused += 1;
                verdict.valid_refused += u64::from(valid_until > at);
            }
            What::Left => match inside.iter().position(|other| other.who == who && other.token == token) {
                Some(place) => _ = inside.swap_remove(place),
                None => verdict.lost_entries += 1,
            },
            What::Wrote => verdict.stale_writes += u64::from(token < newest),
            What::WriteRefused => verdict.refused += 1,
        }
    }
    verdict.still_inside = inside.len() as u64;
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, who: u32, token: u64, what: What) -> Event {
        Event { at, who, token, what }
    }

    fn alone(valid_until: u64) -> What {
        What::Entered { shared: false, valid_until }
    }

    fn reader(valid_until: u64) -> What {
        What::Entered { shared: true, valid_until }
    }

    #[test]
    fn a_good_history_has_no_faults() {
        let verdict = check(&[
            event(1, 1, 1, alone(100)),
            event(2, 1, 1, What::Wrote),
            event(3, 1, 1, What::Left),
            event(4, 2, 2, alone(100)),
            event(5, 2, 2, What::Left),
            event(6, 1, 3, reader(100)),
            event(7, 2, 5, reader(100)),
            event(8, 3, 4, reader(100)),
            event(9, 1, 3, What::Left),
            event(9, 2, 5, What::Left),
            event(9, 3, 4, What::Left),
            event(10, 1, 6, alone(100)),
            event(11, 1, 6, What::Left),
        ]);
        assert_eq!(verdict, Verdict { entries: 6, most_inside: 3, ..Verdict::default() });
        assert!(verdict.exclusive() && verdict.tokens_rise());
    }

    #[test]
    fn two_valid_holders_at_once_are_an_overlap() {
        let verdict = check(&[event(1, 1, 1, alone(100)), event(2, 2, 2, alone(100)), event(3, 1, 1, What::Left)]);
        assert_eq!((verdict.overlaps, verdict.most_inside, verdict.still_inside), (1, 2, 1));
        assert!(!verdict.exclusive() && verdict.tokens_rise());
    }

    #[test]
    fn a_writer_among_readers_is_an_overlap_and_so_is_a_reader_beside_a_writer() {
        assert_eq!(check(&[event(1, 1, 1, reader(100)), event(2, 2, 2, alone(100))]).overlaps, 1);
        assert_eq!(check(&[event(1, 1, 1, alone(100)), event(2, 2, 2, reader(100))]).overlaps, 1);
    }

    #[test]
    fn who_is_inside_past_its_lease_overlaps_with_nobody() {
        let paused = [event(1, 1, 1, alone(5)), event(6, 2, 2, alone(100)), event(7, 1, 1, What::Left)];
        let verdict = check(&paused);
        assert!(verdict.exclusive() && verdict.tokens_rise());
        assert_eq!(verdict.most_inside, 1);
    }

    #[test]
    fn a_token_that_goes_back_or_comes_twice_is_found() {
        let stay = |at, who, token| [event(at, who, token, alone(100)), event(at + 1, who, token, What::Left)];
        let back = [stay(1, 1, 2), stay(3, 2, 1)].concat();
        let twice = [stay(1, 1, 2), stay(3, 2, 2)].concat();
        for history in [back, twice] {
            let verdict = check(&history);
            assert_eq!(verdict.tokens_back, 1);
            assert!(!verdict.tokens_rise() && verdict.exclusive());
        }
        let reader_behind_a_writer =
            [event(1, 1, 2, alone(100)), event(2, 1, 2, What::Left), event(3, 2, 1, reader(9))];
        assert_eq!(check(&reader_behind_a_writer).tokens_back, 1);
        assert_eq!(check(&[event(1, 1, 7, reader(100)), event(2, 2, 7, reader(100))]).tokens_back, 1);
    }

    #[test]
    fn a_valid_holder_that_is_turned_away_is_found_and_a_late_one_is_right() {
        let history = |until| [event(1, 1, 2, alone(100)), event(2, 2, 1, What::Refused { valid_until: until })];
        assert!(!check(&history(100)).tokens_rise());
        let late = check(&history(2));
        assert_eq!((late.refused, late.valid_refused), (1, 0));
        assert!(late.tokens_rise());
    }

    #[test]
    fn a_lost_entry_and_a_lost_leave_are_found() {
        assert_eq!(check(&[event(1, 1, 1, What::Left)]).lost_entries, 1);
        let never_left = [event(1, 1, 1, alone(100)), event(2, 1, 2, alone(100)), event(3, 1, 2, What::Left)];
        assert_eq!(check(&never_left).lost_entries, 1);
        let under_another_token = [event(1, 1, 1, alone(100)), event(2, 1, 2, What::Left)];
        assert_eq!(check(&under_another_token).lost_entries, 1);
    }

    #[test]
    fn a_change_with_an_old_token_is_found() {
        let history = [event(1, 1, 1, alone(5)), event(6, 2, 2, alone(100)), event(7, 1, 1, What::Wrote)];
        assert_eq!(check(&history).stale_writes, 1);
        let refused = [event(1, 2, 2, alone(100)), event(7, 1, 1, What::WriteRefused)];
        assert_eq!((check(&refused).stale_writes, check(&refused).refused), (0, 1));
    }

    #[test]
    fn a_history_in_which_nothing_happened_proves_nothing() {
        let verdict = check(&[]);
        assert!(!verdict.exclusive() && !verdict.tokens_rise());
    }
}
