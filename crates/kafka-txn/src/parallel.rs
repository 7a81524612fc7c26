//! In parallel by key: the lanes of kafka-mt-consumer, whose records are done when their transaction is committed.
//!
//! A lane goes on with its key's next record as soon as one is done but for that; so outputs are in each key's order, and a slow
//! key holds back neither the commit nor other keys: what is done beyond the commit point goes with it as metadata.

use std::sync::Arc;

use kafka_group::{Control, Record, Records, Scheduler, Settled, Slot, StallReason};
use kafka_mt_consumer::{LaneOptions, LaneSeat, Lanes, Work as LaneWork};

use crate::outputs::Outputs;
use crate::shared::Shared;
use crate::transform::Transform;
use crate::work::{Guard, Work};

pub(crate) struct Parallel<T> {
    lanes: Lanes<ByKey<T>>,
    shared: Guard,
}

struct ByKey<T>(Work<T>);

impl<T: Transform> Parallel<T> {
    pub fn new(work: Work<T>, options: LaneOptions) -> Self {
        Self { shared: Guard(work.shared.clone()), lanes: Lanes::new(ByKey(work), options) }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.shared.0
    }
}

impl<T: Transform> LaneWork for ByKey<T> {
    async fn work(&self, slot: &Arc<Slot>, records: &[Record], seat: &LaneSeat) -> Settled {
        let mut outputs = Outputs::default();
        for record in records {
            let settled = self.0.on(slot, record, seat, &mut outputs).await;
            if settled != Settled::Done {
                return settled;
            }
        }
        Settled::Done
    }

    /// That is for the transaction to say.
    fn finished(&self, _: &Arc<Slot>, records: &mut Vec<Record>) {
        records.clear();
    }
}

impl<T: Transform> Scheduler for Parallel<T> {
    fn started(&mut self, control: &Control) {
        self.shared().started(control);
        self.lanes.started(control);
    }

    fn assigned(&mut self, slot: &Arc<Slot>) {
        self.shared().assigned(slot);
        self.lanes.assigned(slot);
    }

    fn submit(&mut self, slot: &Arc<Slot>, records: Records) {
        self.lanes.submit(slot, records);
    }

    fn draining(&mut self, slot: &Arc<Slot>) {
        self.lanes.draining(slot);
        self.shared().hurry();
    }

    fn holds_up(&mut self, slot: &Arc<Slot>, offset: i64) -> Option<StallReason> {
        // Once it is done, it is no lane's any more.
        self.lanes.holds_up(slot, offset).or_else(|| self.shared().holds_up(offset))
    }

    fn closed(&mut self, slot: &Arc<Slot>) {
        self.lanes.closed(slot);
    }
}
