//! What turns come to. All programs' turns are reckoned here, by one clock, and so is whether two had it at once: no
//! library's own word is taken for that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use serde::Deserialize;

use crate::rounds::quantile;

/// What a program says of a round; times are in ns of the monotonic clock.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Reply {
    /// Of each turn: when it was asked for, when it was had, and when giving it back began and was done.
    pub turns: Vec<[u64; 4]>,
    /// Since when those wait who still do.
    pub stuck: Vec<u64>,
    /// How often there was an error.
    pub errors: u64,
    /// What the first of them says.
    pub error: Option<String>,
}

/// A round of one peer, of all its processes.
#[derive(Debug, Clone)]
pub struct Round {
    /// In the order in which they were had.
    turns: Vec<[u64; 4]>,
    stuck: Vec<u64>,
    begin: u64,
    end: u64,
    /// Until when those waited who still did then.
    until: u64,
}

impl Round {
    /// Of all replies to an order that went from `begin` to `end`, the last of which came at `until`.
    #[must_use]
    pub fn of(replies: &[Reply], begin: u64, end: u64, until: u64) -> Self {
        let mut turns: Vec<_> = replies.iter().flat_map(|reply| reply.turns.iter().copied()).collect();
        turns.sort_by_key(|turn| turn[1]);
        Self { turns, stuck: replies.iter().flat_map(|reply| reply.stuck.clone()).collect(), begin, end, until }
    }

    /// Turns a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let had = self.turns.iter().filter(|turn| (self.begin..self.end).contains(&turn[1])).count();
        had as f64 / Duration::from_nanos(self.end - self.begin).as_secs_f64()
    }

    /// Of the time from asking to having it, in µs: this part is shorter than.
    #[must_use]
    pub fn acquire(&self, part: f64) -> f64 {
        quantile(&mut self.turns.iter().map(|[asked, held, ..]| micros(*asked, *held)).collect::<Vec<_>>(), part)
    }

    /// The same of giving it back.
    #[must_use]
    pub fn release(&self, part: f64) -> f64 {
        quantile(&mut self.turns.iter().map(|[.., gives, done]| micros(*gives, *done)).collect::<Vec<_>>(), part)
    }

    /// The same of both, work and all.
    #[must_use]
    pub fn cycle(&self, part: f64) -> f64 {
        quantile(&mut self.turns.iter().map(|turn| micros(turn[0], turn[3])).collect::<Vec<_>>(), part)
    }

    /// The longest that anybody waited, in ms; those count that still do.
    #[must_use]
    pub fn longest_wait(&self) -> f64 {
        let stuck = self.stuck.iter().map(|asked| micros(*asked, self.until));
        stuck.chain(self.turns.iter().map(|turn| micros(turn[0], turn[1]))).fold(0.0, f64::max) / 1e3
    }

    /// How many never had their turn.
    #[must_use]
    pub fn stuck(&self) -> usize {
        self.stuck.len()
    }

    /// How long those who waited had to wait from the first time that it was given back to their having it, in µs: this
    /// part is shorter than. Being passed over is part of it.
    #[must_use]
    pub fn hand_over(&self, part: f64) -> f64 {
        let mut gives: Vec<u64> = self.turns.iter().map(|turn| turn[2]).collect();
        gives.sort_unstable();
        let first = |asked: u64| gives.get(gives.partition_point(|gives| *gives < asked)).copied();
        let waited =
            self.turns.iter().filter_map(|turn| first(turn[0]).filter(|gives| *gives < turn[1]).zip(Some(turn[1])));
        quantile(&mut waited.map(|(gives, held)| micros(gives, held)).collect::<Vec<_>>(), part)
    }

    /// How often somebody had it while as many as may had it already.
    #[must_use]
    pub fn too_many(&self, permits: u32) -> usize {
        let mut holders = BinaryHeap::new();
        let mut too_many = 0;
        for [_, held, gives, _] in &self.turns {
            while holders.peek().is_some_and(|Reverse(gives)| gives <= held) {
                holders.pop();
            }
            too_many += usize::from(holders.len() >= permits as usize);
            holders.push(Reverse(*gives));
        }
        too_many
    }
}

fn micros(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(turns: &[[u64; 4]], stuck: &[u64]) -> Round {
        let reply = Reply { turns: turns.to_vec(), stuck: stuck.to_vec(), ..Reply::default() };
        Round::of(&[reply], 0, 1_000_000, 2_000_000)
    }

    #[test]
    fn two_at_once_are_seen_and_one_after_the_other_are_not() {
        let apart = [[0, 1_000, 2_000, 3_000], [0, 2_000, 5_000, 6_000]];
        assert_eq!(round(&apart, &[]).too_many(1), 0);
        let at_once = [[0, 1_000, 2_000, 3_000], [0, 1_999, 5_000, 6_000], [0, 4_000, 4_500, 6_000]];
        assert_eq!((round(&at_once, &[]).too_many(1), round(&at_once, &[]).too_many(2)), (2, 0));
    }

    #[test]
    fn a_hand_over_begins_with_the_first_chance() {
        // The second asks while the first has it, and is passed over once.
        let turns = [[0, 0, 10_000, 11_000], [12_000, 13_000, 20_000, 21_000], [5_000, 40_000, 50_000, 51_000]];
        assert_eq!(round(&turns, &[]).hand_over(0.5), 30.0);
        assert_eq!(round(&turns, &[]).longest_wait(), 0.035);
    }

    #[test]
    fn who_still_waits_counts_among_the_longest() {
        let round = round(&[[0, 1_000, 2_000, 3_000]], &[500_000]);
        assert_eq!((round.longest_wait(), round.stuck(), round.rate()), (1.5, 1, 1_000.0));
    }
}
