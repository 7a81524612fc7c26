//! A set of offsets that grows at its upper end and is emptied in any order: 64 offsets a word, words without a member
//! left out.
//!
//! As long as the offsets are dense, a word stands where its number says, and is found at once. A hole is found by a second
//! guess from the upper end, more of them by binary search. The lowest word always has a member, so the lowest
//! member is at hand. Words that were emptied elsewhere stay until they are many; so the memory is in proportion to the
//! words that have members, however far they lie apart.

use std::collections::VecDeque;

/// Emptied words are removed once there are this many of them (16 KiB) and they are three quarters of all.
const MANY: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Word {
    /// Offset / 64.
    number: i64,
    bits: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    words: VecDeque<Word>,
    /// How many words have no member. Never the first.
    emptied: usize,
    members: u64,
}

fn split(offset: i64) -> (i64, u64) {
    (offset >> 6, 1 << (offset & 63))
}

impl Ring {
    /// How many offsets are in it.
    pub fn len(&self) -> u64 {
        self.members
    }

    /// The lowest offset.
    pub fn first(&self) -> Option<i64> {
        self.words.front().map(|word| (word.number << 6) + i64::from(word.bits.trailing_zeros()))
    }

    /// Adds an offset that is higher than all that were ever added.
    pub fn push(&mut self, offset: i64) {
        let (number, bit) = split(offset);
        match self.words.back_mut() {
            Some(last) if last.number == number => {
                self.emptied -= usize::from(last.bits == 0);
                last.bits |= bit;
            }
            _ => self.words.push_back(Word { number, bits: bit }),
        }
        self.members += 1;
    }

    pub fn contains(&self, offset: i64) -> bool {
        let (number, bit) = split(offset);
        self.find(number).is_some_and(|at| self.words[at].bits & bit != 0)
    }

    /// Whether it was there.
    pub fn remove(&mut self, offset: i64) -> bool {
        let (number, bit) = split(offset);
        let Some(at) = self.find(number) else { return false };
        let word = &mut self.words[at];
        if word.bits & bit == 0 {
            return false;
        }
        word.bits ^= bit;
        self.members -= 1;
        if word.bits == 0 {
            self.emptied(at);
        }
        true
    }

    /// Removes all below `end`; how many there were.
    pub fn remove_below(&mut self, end: i64) -> u64 {
        let (number, bit) = split(end);
        let before = self.members;
        while let Some(word) = self.words.front_mut()
            && word.number <= number
        {
            let gone = if word.number == number { word.bits & (bit - 1) } else { word.bits };
            word.bits ^= gone;
            self.members -= u64::from(gone.count_ones());
            if word.bits != 0 {
                break;
            }
            // The first word is never one of those without a member; those behind it may be.
            self.words.pop_front();
            while self.words.front().is_some_and(|word| word.bits == 0) {
                self.words.pop_front();
                self.emptied -= 1;
            }
        }
        before - self.members
    }

    /// All offsets, rising.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        self.words.iter().flat_map(|word| {
            let base = word.number << 6;
            let mut bits = word.bits;
            std::iter::from_fn(move || {
                let lowest = (bits != 0).then(|| bits.trailing_zeros())?;
                bits &= bits - 1;
                Some(base + i64::from(lowest))
            })
        })
    }

    #[inline]
    fn find(&self, number: i64) -> Option<usize> {
        let from_front = usize::try_from(number - self.words.front()?.number).ok()?;
        if self.words.get(from_front).is_some_and(|word| word.number == number) {
            return Some(from_front);
        }
        let from_back = usize::try_from(self.words.back()?.number - number).ok()?;
        if let Some(at) = (self.words.len() - 1).checked_sub(from_back)
            && self.words[at].number == number
        {
            return Some(at);
        }
        self.words.binary_search_by_key(&number, |word| word.number).ok()
    }

    fn emptied(&mut self, at: usize) {
        self.emptied += 1;
        if at == 0 {
            while self.words.front().is_some_and(|word| word.bits == 0) {
                self.words.pop_front();
                self.emptied -= 1;
            }
        } else if self.emptied >= MANY && self.emptied >= self.words.len() / 4 * 3 {
            self.words.retain(|word| word.bits != 0);
            self.emptied = 0;
        }
    }

    #[cfg(test)]
    pub fn words(&self) -> usize {
        self.words.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_takes_no_memory() {
        let mut ring = Ring::default();
        for nth in 0..1000 {
            ring.push(nth * 1_000_000_000);
        }
        assert_eq!(ring.words(), 1000);
        for nth in (0..1000).step_by(3).chain((0..1000).skip(1).step_by(3)) {
            assert!(ring.remove(nth * 1_000_000_000) && !ring.remove(nth * 1_000_000_000 + 1));
        }
        assert!(ring.iter().eq((2..1000).step_by(3).map(|nth| nth * 1_000_000_000)));
        assert_eq!(ring.first(), Some(2_000_000_000));
    }

    #[test]
    fn one_member_that_stays_does_not_keep_the_memory_of_those_that_went() {
        let mut ring = Ring::default();
        for offset in 0..1_000_000 {
            ring.push(offset);
            assert!(offset % 300_000 == 0 || ring.remove(offset));
        }
        assert!(ring.words() <= MANY * 2, "{}", ring.words());
        assert!(ring.iter().eq([0, 300_000, 600_000, 900_000]));
        for (offset, next) in [(0, Some(300_000)), (600_000, Some(300_000)), (300_000, Some(900_000)), (900_000, None)]
        {
            assert!(ring.contains(offset) && ring.remove(offset) && !ring.contains(offset));
            assert_eq!(ring.first(), next);
        }
        assert_eq!((ring.len(), ring.words(), ring.emptied), (0, 0, 0));
    }

    #[test]
    fn removing_all_below_is_removing_each_of_them() {
        for holes in [1, 3, 64, 200] {
            for end in [0, 1, 63, 64, 65, 500, 639, 640, 5000] {
                let mut ring = Ring::default();
                (0..1000).for_each(|nth| ring.push(nth * holes));
                for nth in (0..1000).filter(|nth| (100..300).contains(nth) || nth % 7 == 0) {
                    ring.remove(nth * holes);
                }
                let mut each = ring.clone();
                let below: Vec<_> = ring.iter().take_while(|offset| *offset < end).collect();
                assert!(below.iter().all(|offset| each.remove(*offset)));
                assert_eq!(ring.remove_below(end), below.len() as u64);
                assert!(ring.iter().eq(each.iter()), "{holes} {end}");
                assert_eq!((ring.len(), ring.emptied, ring.first()), (each.len(), each.emptied, each.first()));
            }
        }
    }

    #[test]
    fn a_last_word_that_was_emptied_is_used_again() {
        let mut ring = Ring::default();
        for offset in [0, 64] {
            ring.push(offset);
        }
        assert!(ring.remove(64));
        ring.push(65);
        assert_eq!((ring.emptied, ring.words()), (0, 2));
        assert!(ring.contains(65) && !ring.contains(64) && ring.remove(0));
        assert_eq!((ring.first(), ring.words()), (Some(65), 1));
    }
}
