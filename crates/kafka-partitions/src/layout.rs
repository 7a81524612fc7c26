//! A topic's layouts: into which partitions of which topic its records go, one after another.
//!
//! Each has an epoch. Where one ends and the next begins is fixed by a *barrier* in each partition of the old one: an offset,
//! with a record that says so. So the epoch of any record follows from its partition and offset, and nothing has to be written
//! into the records themselves.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::partitioner::Partitioner;

/// The version of what is written into the log of layouts.
const VERSION: u32 = 1;
const BARRIER: &[u8] = b"\0turnstile.barrier/";

/// Where records go, from one change to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Layout {
    /// Which one it is, from 1 on.
    pub epoch: u64,
    /// The topic that the records are in; another than the one that the layouts are of, after a move.
    pub topic: String,
    /// How many of its partitions are used. It may have more.
    pub partitions: i32,
    /// How a key becomes a partition.
    pub partitioner: Partitioner,
    /// Whether it is in use.
    pub state: State,
    /// The offset of the barrier in each partition of the layout before it: what lies below came before.
    pub barriers: Vec<i64>,
}

/// How far a layout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// It is being prepared; records go where they went.
    Planned,
    /// The one before it is closed: its writers are being fenced, and wait.
    Closing,
    /// Records go there; or went, if there is a newer one.
    Open,
    /// It was given up before it was opened.
    Withdrawn,
}

impl Layout {
    /// The partition of this key; `None` where any will do.
    #[must_use]
    pub fn partition(&self, key: Option<&[u8]>) -> Option<i32> {
        self.partitioner.partition(key, self.partitions)
    }
}

/// All that is known of a topic's layouts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Layouts {
    /// By epoch.
    pub all: BTreeMap<u64, Layout>,
    /// The names of its writers.
    pub writers: BTreeSet<String>,
    /// Something in the log is of a newer version of this software, and cannot be read.
    pub newer: Option<u32>,
}

/// What a record of the log says.
#[derive(Serialize, Deserialize)]
struct Entry {
    v: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<Layout>,
}

impl Layouts {
    /// The one that records go to now.
    #[must_use]
    pub fn current(&self) -> Option<&Layout> {
        self.all.values().rev().find(|layout| layout.state == State::Open)
    }

    /// The one that is to follow it, while a change is under way.
    #[must_use]
    pub fn pending(&self) -> Option<&Layout> {
        let next = self.all.get(&(self.current()?.epoch + 1))?;
        matches!(next.state, State::Planned | State::Closing).then_some(next)
    }

    /// Those that were opened, the oldest first.
    pub fn opened(&self) -> impl DoubleEndedIterator<Item = &Layout> {
        self.all.values().filter(|layout| layout.state == State::Open)
    }

    /// The epoch of the record at this place; `None` if it is of none that is known.
    #[must_use]
    pub fn epoch_at(&self, topic: &str, partition: i32, offset: i64) -> Option<u64> {
        let mut found = None;
        let mut before: Option<&Layout> = None;
        for layout in self.opened() {
            if layout.topic == topic && partition < layout.partitions {
                let barrier = before
                    .filter(|before| before.topic == topic)
                    .and_then(|_| layout.barriers.get(usize::try_from(partition).ok()?));
                if barrier.is_none_or(|barrier| offset > *barrier) {
                    found = Some(layout.epoch);
                }
            }
            before = Some(layout);
        }
        found
    }

    /// Takes in a record of the log.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Ok(key) = std::str::from_utf8(key) else { return };
        if let Some(writer) = key.strip_prefix("writer/") {
            if value.is_some() {
                self.writers.insert(writer.to_owned());
            } else {
                self.writers.remove(writer);
            }
            return;
        }
        let Ok(entry) = serde_json::from_slice::<Entry>(value.unwrap_or_default()) else {
            // A layout that cannot be read is one of a version that has other fields.
            if key.starts_with("layout/") && value.is_some() {
                self.newer = Some(VERSION + 1);
            }
            return;
        };
        if entry.v > VERSION {
            self.newer = Some(entry.v);
        } else if let Some(layout) = entry.layout {
            self.all.insert(layout.epoch, layout);
        }
    }
}

/// The key and value that a layout has in the log.
pub(crate) fn entry(layout: &Layout) -> (String, String) {
    let entry = Entry { v: VERSION, layout: Some(layout.clone()) };
    // Numbers and texts always have a form in JSON.
    (format!("layout/{}", layout.epoch), serde_json::to_string(&entry).unwrap_or_default())
}

/// The key of a writer in the log.
pub(crate) fn writer_key(name: &str) -> String {
    format!("writer/{name}")
}

/// The key of the barrier that ends the layout before this epoch.
pub(crate) fn barrier_key(topic: &str, epoch: u64) -> Vec<u8> {
    [BARRIER, topic.as_bytes(), b"/", epoch.to_string().as_bytes()].concat()
}

/// Whether a record with this key is a barrier, of whatever topic. It holds nothing of the application's.
#[must_use]
pub fn is_barrier(key: Option<&[u8]>) -> bool {
    key.is_some_and(|key| key.starts_with(BARRIER))
}

/// The epoch that begins behind this barrier, if it is one of this topic.
#[cfg_attr(not(feature = "group"), allow(dead_code, reason = "for readers"))]
pub(crate) fn epoch_behind(key: Option<&[u8]>, topic: &str) -> Option<u64> {
    let rest = key?.strip_prefix(BARRIER)?.strip_prefix(topic.as_bytes())?.strip_prefix(b"/")?;
    std::str::from_utf8(rest).ok()?.parse().ok()
}

/// The topic that keeps a topic's layouts.
pub(crate) fn log_of(topic: &str) -> String {
    format!("{topic}.layouts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(epoch: u64, topic: &str, partitions: i32, barriers: &[i64]) -> Layout {
        Layout {
            epoch,
            topic: topic.to_owned(),
            partitions,
            partitioner: Partitioner::default(),
            state: State::Open,
            barriers: barriers.to_vec(),
        }
    }

    fn layouts(all: &[Layout]) -> Layouts {
        let mut layouts = Layouts::default();
        for layout in all {
            let (key, value) = entry(layout);
            layouts.apply(key.as_bytes(), Some(value.as_bytes()));
        }
        layouts
    }

    #[test]
    fn the_epoch_of_a_record_follows_from_its_place() {
        let layouts = layouts(&[
            layout(1, "t", 2, &[]),
            layout(2, "t", 3, &[10, 20]),
            layout(3, "t.3", 1, &[30, 40, 50]),
            layout(4, "t.3", 2, &[5]),
        ]);
        for (topic, partition, offset, epoch) in [
            ("t", 0, 9, Some(1)),
            ("t", 0, 11, Some(2)),
            ("t", 1, 20, Some(1)),
            ("t", 2, 0, Some(2)),
            ("t", 2, 99, Some(2)),
            ("t", 3, 0, None),
            ("t.3", 0, 5, Some(3)),
            ("t.3", 0, 6, Some(4)),
            ("t.3", 1, 0, Some(4)),
            ("t.4", 0, 0, None),
        ] {
            assert_eq!(layouts.epoch_at(topic, partition, offset), epoch, "{topic}/{partition}@{offset}");
        }
        assert_eq!(layouts.current().map(|layout| layout.epoch), Some(4));
    }

    #[test]
    fn a_change_under_way_is_pending_until_it_is_opened_or_withdrawn() {
        let mut next = layout(2, "t", 4, &[]);
        for (state, pending) in
            [(State::Planned, true), (State::Closing, true), (State::Open, false), (State::Withdrawn, false)]
        {
            next.state = state;
            let layouts = layouts(&[layout(1, "t", 2, &[]), next.clone()]);
            assert_eq!(layouts.pending().is_some(), pending, "{state:?}");
            assert_eq!(layouts.current().map(|layout| layout.epoch), Some(if state == State::Open { 2 } else { 1 }));
        }
    }

    #[test]
    fn writers_come_and_go_and_what_is_newer_or_of_others_is_told_apart() {
        let mut layouts = Layouts::default();
        layouts.apply(b"writer/one", Some(b"{}"));
        layouts.apply(b"writer/two", Some(b"{}"));
        layouts.apply(b"writer/one", None);
        layouts.apply(b"\xff", Some(b"x"));
        layouts.apply(b"what", Some(b"x"));
        assert_eq!((layouts.writers.len(), layouts.newer), (1, None));
        layouts.apply(b"layout/1", Some(br#"{"v":7,"layout":null}"#));
        assert_eq!(layouts.newer, Some(7));
    }

    #[test]
    fn a_barrier_is_known_by_its_key() {
        let key = barrier_key("orders", 7);
        assert!(is_barrier(Some(&key)) && !is_barrier(Some(b"orders")) && !is_barrier(None));
        assert_eq!((epoch_behind(Some(&key), "orders"), epoch_behind(Some(&key), "order")), (Some(7), None));
    }
}
