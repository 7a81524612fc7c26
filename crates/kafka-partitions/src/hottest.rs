//! The most frequent keys of a stream, in memory that does not grow with the number of keys: Space-Saving (Metwally,
//! Agrawal and El Abbadi, [Efficient computation of frequent and top-k elements in data streams], 2005).
//!
//! A fixed number of counters. A key that has none takes over the smallest, and what that had counted becomes its possible
//! error. So a key's count is never too low, and too high by its error at most, which is no more than all records divided by
//! the counters; each key with a larger share than that is among them.
//!
//! [Efficient computation of frequent and top-k elements in data streams]: https://doi.org/10.1007/978-3-540-30570-5_27

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use serde::Serialize;

/// No more of a key than this is kept; a longer one is told from others by its length and hash.
const KEPT: usize = 64;

/// The counters.
pub struct Hottest {
    capacity: usize,
    seen: u64,
    hasher: RandomState,
    /// By key, the number of its counter.
    table: HashTable<usize>,
    counters: Vec<Counter>,
    /// Numbers of counters, the smallest on top; each counter knows its place here.
    heap: Vec<usize>,
}

struct Counter {
    hash: u64,
    head: Box<[u8]>,
    length: usize,
    records: u64,
    error: u64,
    place: usize,
}

impl Counter {
    fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.length == key.len() && *self.head == key[..key.len().min(KEPT)]
    }
}

/// One of the most frequent keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HotKey {
    /// The key, or the first 64 bytes of it.
    pub key: Box<[u8]>,
    /// How long it is.
    pub length: usize,
    /// At most so many records have it.
    pub records: u64,
    /// By so many that may be too high.
    pub error: u64,
}

impl Hottest {
    /// With so many counters, and at least one: each key with more than one record in that many is found for certain.
    #[must_use]
    pub fn new(counters: usize) -> Self {
        Self {
            capacity: counters.max(1),
            seen: 0,
            hasher: RandomState::new(),
            table: HashTable::new(),
            counters: Vec::new(),
            heap: Vec::new(),
        }
    }

    /// A record with this key.
    pub fn add(&mut self, key: &[u8]) {
        self.seen += 1;
        let hash = self.hasher.hash_one(key);
        if let Some(&number) = self.table.find(hash, |&number| self.counters[number].is(hash, key)) {
            self.counters[number].records += 1;
            self.sink(self.counters[number].place);
            return;
        }
        let head = key[..key.len().min(KEPT)].into();
        let length = key.len();
        let number = if self.counters.len() < self.capacity {
            let number = self.counters.len();
            self.counters.push(Counter { hash, head, length, records: 1, error: 0, place: number });
            self.heap.push(number);
            self.rise(number);
            number
        } else {
            let number = self.heap[0];
            let counter = &mut self.counters[number];
            if let Ok(entry) = self.table.find_entry(counter.hash, |&other| other == number) {
                entry.remove();
            }
            let least = counter.records;
            *counter = Counter { hash, head, length, records: least + 1, error: least, place: counter.place };
            self.sink(0);
            number
        };
        self.table.insert_unique(hash, number, |&number| self.counters[number].hash);
    }

    /// How many records were added.
    #[must_use]
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// The most frequent, the most frequent first.
    #[must_use]
    pub fn top(&self, keys: usize) -> Vec<HotKey> {
        let mut all: Vec<_> = self.counters.iter().collect();
        all.sort_by(|a, b| (b.records, &a.head).cmp(&(a.records, &b.head)));
        let hot = |counter: &&Counter| HotKey {
            key: counter.head.clone(),
            length: counter.length,
            records: counter.records,
            error: counter.error,
        };
        all.iter().take(keys).map(hot).collect()
    }

    fn count(&self, place: usize) -> u64 {
        self.counters[self.heap[place]].records
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.counters[self.heap[a]].place = a;
        self.counters[self.heap[b]].place = b;
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.count((place - 1) / 2) > self.count(place) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2].into_iter().filter(|child| *child < self.heap.len());
            let Some(least) = children.min_by_key(|child| self.count(*child)) else { return };
            if self.count(place) <= self.count(least) {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }
}

impl std::fmt::Debug for Hottest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hottest")
            .field("seen", &self.seen)
            .field("counters", &self.counters.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_within_their_error_and_every_frequent_key_is_found(
            keys in prop::collection::vec(0_u8..40, 1..600),
            counters in 1_usize..20,
        ) {
            let mut hottest = Hottest::new(counters);
            let mut exact: HashMap<Vec<u8>, u64> = HashMap::new();
            for key in &keys {
                // Half of them are long, and differ only at the end.
                let key = if key % 2 == 0 { vec![*key] } else { [vec![7; KEPT + 10], vec![*key]].concat() };
                hottest.add(&key);
                *exact.entry(key).or_default() += 1;
            }
            let least = hottest.seen() / counters as u64;
            let top = hottest.top(usize::MAX);
            prop_assert!(top.len() <= counters && top.is_sorted_by_key(|key| std::cmp::Reverse(key.records)));
            for key in &top {
                prop_assert!(key.error <= least, "{key:?}");
            }
            for (key, records) in &exact {
                let head = &key[..key.len().min(KEPT)];
                // Long ones have the same head: their counts are looked at together.
                let found: Vec<_> = top.iter().filter(|one| *one.key == *head && one.length == key.len()).collect();
                if *records > least {
                    prop_assert!(found.iter().any(|one| one.records >= *records && one.records - one.error <= *records));
                }
            }
        }
    }

    #[test]
    fn memory_is_bounded_with_keys_of_a_megabyte() {
        let mut hottest = Hottest::new(8);
        for at in 0..100_u8 {
            let mut key = vec![1; 1 << 20];
            key[(1 << 20) - 1] = at;
            hottest.add(&key);
            hottest.add(b"hot");
        }
        let top = hottest.top(3);
        assert_eq!((&*top[0].key, top[0].records - top[0].error <= 100, top[0].length), (&b"hot"[..], true, 3));
        assert_eq!((top[1].key.len(), top[1].length), (KEPT, 1 << 20));
        assert!(hottest.counters.len() == 8 && hottest.table.len() == 8);
    }
}
