//! The scheduler: a partition's records to its runners, and what holds one up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use kafka_group::{Control, Epoch, Key, Records, Scheduler, Slot, StallReason};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::adaptive::Gauge;
use crate::limit::Limit;
use crate::options::{LaneOptions, Order};
use crate::partition::{Lead, Partition, Shared};
use crate::rate::Rate;
use crate::seat::LaneSeat;
use crate::work::Work;

/// A [`Scheduler`] that gives records to many workers, in the order that was asked for.
///
/// For [`GroupBuilder::scheduled`](kafka_group::GroupBuilder::scheduled), where [`ParallelBuilder`](crate::ParallelBuilder)
/// with a handler is not enough.
pub struct Lanes<W> {
    work: Arc<W>,
    options: LaneOptions,
    shared: Option<Arc<Shared<W>>>,
    /// How much waits here is bounded by the polling thread's budget.
    partitions: HashMap<Epoch, (UnboundedSender<Records>, Arc<Partition<W>>)>,
}

impl<W: Work> Lanes<W> {
    /// Lanes that give out this work.
    pub fn new(work: W, options: LaneOptions) -> Self {
        Self { work: Arc::new(work), options, shared: None, partitions: HashMap::new() }
    }
}

impl<W> std::fmt::Debug for Lanes<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<W: Work> Scheduler for Lanes<W> {
    fn started(&mut self, control: &Control) {
        let (now, most) = (Instant::now(), self.options.concurrency.get());
        let gauge = self.options.adaptive.map(|how| Gauge::new(how, most, now));
        let limit = Limit::new(gauge.as_ref().map_or(most, Gauge::limit));
        self.shared = Some(Arc::new(Shared {
            work: self.work.clone(),
            order: self.options.order,
            batches: self.options.batches.map(|(records, wait)| (records.get(), wait)),
            rate: self.options.rate.map(|rate| Rate::new(rate, now)),
            gauge,
            limit,
            runtime: control.runtime().clone(),
        }));
    }

    fn assigned(&mut self, slot: &Arc<Slot>) {
        let Some(shared) = &self.shared else { return };
        let (sender, inbox) = unbounded_channel();
        let partition = Partition::new(shared.clone(), slot.clone());
        shared.limit.partition(true);
        partition.spawn(Lead::new(inbox), LaneSeat::new(shared.limit.clone(), None));
        self.partitions.insert(slot.epoch(), (sender, partition));
    }

    fn submit(&mut self, slot: &Arc<Slot>, records: Records) {
        if let Some((inbox, _)) = self.partitions.get(&slot.epoch()) {
            // Nobody listens where the slot is halted, or on its way out.
            let _ = inbox.send(records);
        }
    }

    fn holds_up(&mut self, slot: &Arc<Slot>, offset: i64) -> Option<StallReason> {
        let (_, partition) = self.partitions.get(&slot.epoch())?;
        let Order::Key(_) = self.options.order else { return None };
        let (record, behind) = partition.at(offset)?;
        let trouble = slot.trouble(offset);
        Some(StallReason::Lane { key: record.key().map(Key::of), offset, behind, trouble })
    }

    fn closed(&mut self, slot: &Arc<Slot>) {
        if let Some((_, partition)) = self.partitions.remove(&slot.epoch()) {
            partition.shared().limit.partition(false);
            partition.close();
        }
    }
}
