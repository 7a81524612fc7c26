//! This crate's own scheduler: one task a partition, which works on its records in the order of their offsets.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_offsets::Epoch;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use turnstile_core::Handler;

use crate::record::{Record, Records};
use crate::scheduler::{Control, Scheduler};
use crate::slot::Slot;
use crate::work::{Settled, Worker};

/// The scheduler of [`GroupBuilder::handler`](crate::GroupBuilder::handler): one record of a partition at a time, for those who
/// put one of their own around it.
pub struct InOrder<H> {
    worker: Arc<Worker<H>>,
    runtime: Option<Handle>,
    // How much waits here is bounded by the polling thread's budget.
    lanes: HashMap<Epoch, UnboundedSender<Records>>,
}

impl<H: Handler<Record>> InOrder<H> {
    /// One that works by this worker.
    #[must_use]
    pub fn new(worker: Worker<H>) -> Self {
        Self { worker: Arc::new(worker), runtime: None, lanes: HashMap::new() }
    }
}

impl<H: Handler<Record>> Scheduler for InOrder<H> {
    fn started(&mut self, control: &Control) {
        self.runtime = Some(control.runtime().clone());
    }

    fn assigned(&mut self, slot: &Arc<Slot>) {
        let Some(runtime) = &self.runtime else { return };
        let (lane, batches) = unbounded_channel();
        self.lanes.insert(slot.epoch(), lane);
        runtime.spawn(work_off(self.worker.clone(), slot.clone(), batches));
    }

    fn submit(&mut self, slot: &Arc<Slot>, records: Records) {
        if let Some(lane) = self.lanes.get(&slot.epoch()) {
            // A task that has ended is one whose slot is halted or on its way out.
            let _ = lane.send(records);
        }
    }

    fn closed(&mut self, slot: &Arc<Slot>) {
        self.lanes.remove(&slot.epoch());
    }
}

impl<H> std::fmt::Debug for InOrder<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InOrder").field("partitions", &self.lanes.len()).finish_non_exhaustive()
    }
}

async fn work_off<H: Handler<Record>>(
    worker: Arc<Worker<H>>,
    slot: Arc<Slot>,
    mut batches: UnboundedReceiver<Records>,
) {
    while let Some(batch) = batches.recv().await {
        let Some(_running) = slot.begin() else { return };
        if worker.work_off(&slot, batch).await != Settled::Done {
            return;
        }
    }
}
