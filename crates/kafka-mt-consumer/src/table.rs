//! The lanes of a partition that have something in hand: by key, exactly.
//!
//! A lane has no copy of its key: the record that it is at has it. A lane of which nothing is left is gone.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::task::Waker;

use hashbrown::{DefaultHashBuilder, HashTable};
use kafka_group::Record;

#[derive(Default)]
pub(crate) struct Table {
    lanes: HashTable<Lane>,
    hasher: DefaultHashBuilder,
}

struct Lane {
    /// The first of those that are worked on.
    at: Record,
    /// Those behind. Most lanes have none.
    behind: Option<Box<Behind>>,
}

#[derive(Default)]
struct Behind {
    records: VecDeque<Record>,
    /// Who waits for so many of them.
    gatherer: Option<(usize, Waker)>,
}

impl Table {
    /// How many lanes there are.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    fn hash(&self, record: &Record) -> u64 {
        self.hasher.hash_one(record.key())
    }

    fn find(&mut self, record: &Record) -> Option<&mut Lane> {
        let hash = self.hash(record);
        self.lanes.find_mut(hash, |lane| lane.at.key() == record.key())
    }

    /// Puts a record at the end of its lane; gives it back if there is none.
    pub fn join(&mut self, record: Record) -> Option<Record> {
        let Some(lane) = self.find(&record) else { return Some(record) };
        let behind = lane.behind.get_or_insert_default();
        // It may wait for long, and is not to keep all those that came with it.
        behind.records.push_back(record.compact());
        if behind.gatherer.as_ref().is_some_and(|(enough, _)| behind.records.len() >= *enough)
            && let Some((_, waker)) = behind.gatherer.take()
        {
            waker.wake();
        }
        None
    }

    /// Makes the lane of a record that is being worked on. There is none yet.
    pub fn open(&mut self, at: Record) {
        let (hash, hasher) = (self.hash(&at), &self.hasher);
        self.lanes.insert_unique(hash, Lane { at, behind: None }, |lane| hasher.hash_one(lane.at.key()));
    }

    /// The next record of the lane that is at this one, which is settled; if there is none, the lane is gone.
    pub fn advance(&mut self, settled: &Record) -> Option<Record> {
        let lane = self.find(settled)?;
        if let Some(next) = lane.behind.as_mut().and_then(|behind| behind.records.pop_front()) {
            lane.at = next.clone();
            return Some(next);
        }
        let hash = self.hash(settled);
        if let Ok(lane) = self.lanes.find_entry(hash, |lane| lane.at.key() == settled.key()) {
            lane.remove();
        }
        None
    }

    /// Moves records from behind this one to it, until there are `enough`; if there are fewer, `waker` is woken when there
    /// are more.
    pub fn gather(&mut self, unit: &mut Vec<Record>, enough: usize, waker: &Waker) -> bool {
        let Some(lane) = unit.first().and_then(|at| self.find(at)) else { return true };
        let behind = lane.behind.get_or_insert_default();
        let missing = enough.saturating_sub(unit.len());
        unit.extend(behind.records.drain(..missing.min(behind.records.len())));
        let missing = enough.saturating_sub(unit.len());
        behind.gatherer = (missing > 0).then(|| (missing, waker.clone()));
        missing == 0
    }

    /// The record that a lane is at which has this offset in hand, and how many are behind it.
    pub fn at(&self, offset: i64) -> Option<(Record, usize)> {
        let lane = self.lanes.iter().find(|lane| lane.at.offset() == offset)?;
        Some((lane.at.clone(), lane.behind.as_ref().map_or(0, |behind| behind.records.len())))
    }
}
