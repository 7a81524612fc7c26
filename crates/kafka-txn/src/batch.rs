//! What one transaction is to have: records that are done, their outputs, and their slots.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use kafka_group::{Record, Running, Slot};
use kafka_offsets::Commit;

use crate::outputs::Outputs;

/// One record that is done but for its transaction.
pub(crate) struct Item {
    /// Where its slot is among the batch's.
    slot: usize,
    pub record: Record,
    /// Which of the batch's outputs are its own.
    pub outputs: Range<usize>,
    /// How often one of its outputs was refused for no reason that is known.
    pub refused: u32,
    /// The polling thread waits for this before it gives the slot up.
    _running: Running,
}

/// Records for one transaction.
pub(crate) struct Batch {
    /// In which order batches are to be committed.
    pub seq: u64,
    /// When the first came in.
    pub since: Instant,
    pub slots: Vec<Arc<Slot>>,
    pub items: Vec<Item>,
    pub outputs: Outputs,
    /// How many outputs count: others belong to items that are gone.
    pub counted: usize,
    /// How many were taken out of it.
    split: u64,
    /// Before these outputs all others are to have arrived: to find out which one is refused.
    pub cuts: BTreeSet<usize>,
}

/// Into how many parts those are cut of which one is refused.
const PARTS: usize = 16;

impl Batch {
    pub fn new(seq: u64) -> Self {
        let (slots, items, outputs) = (Vec::new(), Vec::new(), Outputs::default());
        Self { seq, since: Instant::now(), slots, items, outputs, counted: 0, split: 0, cuts: BTreeSet::new() }
    }

    /// Takes in a slot, also without a record: then the transaction writes down where it begins.
    pub fn slot(&mut self, slot: &Arc<Slot>) -> usize {
        self.slots.iter().rposition(|known| Arc::ptr_eq(known, slot)).unwrap_or_else(|| {
            self.slots.push(slot.clone());
            self.slots.len() - 1
        })
    }

    pub fn push(&mut self, slot: &Arc<Slot>, record: Record, running: Running, outputs: &Outputs) {
        let slot = self.slot(slot);
        let first = self.outputs.len();
        self.outputs.append(outputs);
        let outputs = first..self.outputs.len();
        self.counted += outputs.len();
        self.items.push(Item { slot, record, outputs, refused: 0, _running: running });
    }

    /// Forgets what belongs to slots that are ours no more.
    pub fn forget_closed(&mut self) {
        let open: Vec<_> = self.slots.iter().map(|slot| slot.commit_point().is_some()).collect();
        if open.contains(&false) {
            // The slots' places stay, so that items still find theirs.
            self.items.retain(|item| open[item.slot]);
            self.counted = self.items.iter().map(|item| item.outputs.len()).sum();
        }
    }

    /// Whether there is nothing to commit in it.
    pub fn is_void(&self) -> bool {
        self.items.is_empty() && self.slots.iter().all(|slot| slot.commit_point().is_none() || !slot.is_new())
    }

    /// Of these outputs one is refused, or all together are too much: they are to be sent in smaller parts. Whether there are
    /// any that are smaller.
    pub fn cut(&mut self, refused: Range<usize>) -> bool {
        let before = self.cuts.len();
        let step = (refused.len() / PARTS).max(1);
        self.cuts.extend(refused.clone().step_by(step).chain([refused.end]));
        self.cuts.len() > before
    }

    /// Takes out an item, into a batch of its own behind this one.
    pub fn split_off(&mut self, index: usize, outputs: &Outputs) -> Self {
        let item = self.items.remove(index);
        self.counted -= item.outputs.len();
        self.split += 1;
        let mut alone = Self::new(self.seq + self.split);
        alone.push(&self.slots[item.slot], item.record, item._running, outputs);
        alone
    }

    /// What to commit of each slot when all its items are done; `None` if it has items of a slot that is ours no more.
    pub fn commits(&self, limit: usize) -> Option<Vec<(Arc<Slot>, Commit)>> {
        let mut commits = Vec::with_capacity(self.slots.len());
        for (index, slot) in self.slots.iter().enumerate() {
            let mut items = self.items.iter().filter(|item| item.slot == index).peekable();
            let Some(mut tracker) = slot.offsets(Clone::clone) else {
                if items.peek().is_some() {
                    return None;
                }
                continue;
            };
            for item in items {
                let _ = tracker.complete(item.record.offset(), slot.epoch());
            }
            commits.push((slot.clone(), Commit::of(&tracker, limit)));
        }
        Some(commits)
    }

    /// The transaction is committed: all of it is done.
    pub fn done(&self) {
        for (index, slot) in self.slots.iter().enumerate() {
            slot.done_all(self.items.iter().filter(|item| item.slot == index).map(|item| &item.record));
        }
    }
}
