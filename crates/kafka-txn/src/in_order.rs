//! In partition order: one task a partition, which hands each record to its transaction as soon as it is done, and goes on
//! with the next while that is committed.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_group::{Control, Epoch, Records, Scheduler, Settled, Slot, StallReason};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::outputs::Outputs;
use crate::transform::Transform;
use crate::work::{Guard, Work};

pub(crate) struct InOrder<T> {
    work: Arc<Work<T>>,
    // How much waits here is bounded by the polling thread's budget.
    lanes: HashMap<Epoch, UnboundedSender<Records>>,
    _closes: Guard,
}

impl<T: Transform> InOrder<T> {
    pub fn new(work: Work<T>) -> Self {
        Self { _closes: Guard(work.shared.clone()), work: Arc::new(work), lanes: HashMap::new() }
    }
}

impl<T: Transform> Scheduler for InOrder<T> {
    fn started(&mut self, control: &Control) {
        self.work.shared.started(control);
    }

    fn assigned(&mut self, slot: &Arc<Slot>) {
        self.work.shared.assigned(slot);
        let Some(control) = self.work.shared.control() else { return };
        let (lane, batches) = unbounded_channel();
        self.lanes.insert(slot.epoch(), lane);
        control.runtime().spawn(work_off(self.work.clone(), slot.clone(), batches));
    }

    fn submit(&mut self, slot: &Arc<Slot>, records: Records) {
        if let Some(lane) = self.lanes.get(&slot.epoch()) {
            // A task that has ended is one whose slot is halted or on its way out.
            let _ = lane.send(records);
        }
    }

    fn draining(&mut self, _: &Arc<Slot>) {
        self.work.shared.hurry();
    }

    fn holds_up(&mut self, slot: &Arc<Slot>, offset: i64) -> Option<StallReason> {
        slot.trouble(offset).map(StallReason::Trouble).or_else(|| self.work.shared.holds_up(offset))
    }

    fn closed(&mut self, slot: &Arc<Slot>) {
        self.lanes.remove(&slot.epoch());
    }
}

async fn work_off<T: Transform>(work: Arc<Work<T>>, slot: Arc<Slot>, mut batches: UnboundedReceiver<Records>) {
    let mut outputs = Outputs::default();
    while let Some(batch) = batches.recv().await {
        for record in batch {
            if !slot.is_ours() && !slot.still_ours().await {
                return;
            }
            let work = work.on(&slot, &record, &(), &mut outputs);
            let settled = tokio::select! {
                biased;
                settled = work => settled,
                () = slot.abandoned().cancelled() => return,
            };
            if settled != Settled::Done {
                return;
            }
        }
        // Others are to have their turn, where handlers never wait.
        tokio::task::consume_budget().await;
    }
}
