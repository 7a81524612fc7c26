//! How many there were in each tenth of a second, by the clock that all processes share: what throughput over time is drawn of.

use serde::{Deserialize, Serialize};

/// Numbers of tenths of a second, and how many in each, in the order of their first ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tally(Vec<(u64, u64)>);

impl Tally {
    /// A tenth of a second, in nanoseconds.
    pub const EACH: u64 = 100_000_000;

    /// Notes one, at a time by [`clock::now`](super::clock::now): it costs next to nothing when times come in order.
    pub fn note(&mut self, at: u64) {
        self.many(at, 1);
    }

    /// Notes so many.
    pub fn many(&mut self, at: u64, count: u64) {
        let tenth = at / Self::EACH;
        match self.0.iter_mut().rev().find(|(last, _)| *last == tenth) {
            Some((_, all)) => *all += count,
            None => self.0.push((tenth, count)),
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (tenth, count) in &other.0 {
            self.many(tenth * Self::EACH, *count);
        }
    }

    /// When the first whole tenth began, and the counts of all whole ones from there on: what came in the first and in the
    /// last tenth, which are seldom whole, is left out.
    pub fn whole(&self) -> (u64, Vec<u64>) {
        let tenths = self.0.iter().map(|(tenth, _)| *tenth);
        let (Some(first), Some(last)) = (tenths.clone().min(), tenths.max()) else { return (0, Vec::new()) };
        let mut counts = vec![0; usize::try_from((last - first).saturating_sub(1)).unwrap_or(0)];
        for (tenth, count) in &self.0 {
            let place = usize::try_from(tenth.wrapping_sub(first + 1)).unwrap_or(usize::MAX);
            if let Some(all) = counts.get_mut(place) {
                *all += count;
            }
        }
        ((first + 1) * Self::EACH, counts)
    }
}

impl FromIterator<u64> for Tally {
    fn from_iter<T: IntoIterator<Item = u64>>(times: T) -> Self {
        let mut tally = Self::default();
        times.into_iter().for_each(|at| tally.note(at));
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_tenths_are_counted_and_empty_ones_are_told() {
        let tenths = |tenths: &[u64]| tenths.iter().map(|tenth| tenth * Tally::EACH + 5).collect::<Tally>();
        let mut tally = tenths(&[10, 11, 11, 14]);
        tally.add(&tenths(&[9, 12, 12]));
        assert_eq!(tally.whole(), (10 * Tally::EACH, vec![1, 2, 2, 0]));
        assert_eq!(Tally::default().whole(), (0, vec![]));
        assert_eq!(tenths(&[7]).whole().1, Vec::<u64>::new());
    }
}
