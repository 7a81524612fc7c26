//! What is done with each record, in whatever order.

use std::sync::Arc;

use kafka_group::{Record, Seat, Settled, Slot, Worker};

use crate::outputs::Outputs;
use crate::shared::Shared;
use crate::transform::{Collect, Transform, collect};

pub(crate) struct Work<T> {
    pub worker: Worker<Collect<T>>,
    pub shared: Arc<Shared>,
}

impl<T: Transform> Work<T> {
    /// Handles the record, in memory that `outputs` have; if something has become of it, that is for a transaction to commit.
    pub async fn on(&self, slot: &Arc<Slot>, record: &Record, seat: &impl Seat, outputs: &mut Outputs) -> Settled {
        self.shared.room(seat).await;
        let Some(running) = slot.begin() else { return Settled::HandedBack };
        outputs.clear();
        let settled = collect(outputs, self.worker.settle(slot, record, seat)).await;
        if settled == Settled::Done {
            self.shared.done(slot, record.clone(), running, outputs);
        }
        settled
    }
}

/// Closes what is shared when the scheduler that has this is dropped: the run is over.
pub(crate) struct Guard(pub Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.close();
    }
}
