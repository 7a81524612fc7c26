//! Handlers of several records of a lane at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use kafka_group::{Attempt, Handler, Outcome, Record, Settled, Slot, Worker};

use crate::seat::LaneSeat;
use crate::work::Work;

/// The work of several records of a lane.
#[async_trait]
pub trait BatchHandler: Send + Sync + 'static {
    /// Does the work of all of these, which are in their order, and says what became of them.
    ///
    /// A batch of which anything but [`Outcome::Done`] became, or whose handler panicked, is taken apart: each of its records
    /// is given by itself, as a batch of one, with its own retries and its own end among the dead letters. So one that never
    /// works takes no other with it. What the batch has done by then is done again: it should bear repetition.
    async fn handle(&self, records: &[Record], attempt: Attempt<'_>) -> Outcome;
}

/// A batch handler, for one record.
pub(crate) struct Single<H>(pub Arc<H>);

#[async_trait]
impl<H: BatchHandler> Handler<Record> for Single<H> {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self.0.handle(std::slice::from_ref(record), attempt).await
    }
}

pub(crate) struct Batches<H> {
    pub handler: Arc<H>,
    pub worker: Worker<Single<H>>,
}

impl<H: BatchHandler> Work for Batches<H> {
    async fn work(&self, slot: &Arc<Slot>, records: &[Record], seat: &LaneSeat) -> Settled {
        if records.len() > 1 {
            let attempt = Attempt::new(std::num::NonZeroU32::MIN, slot.cancelled());
            let work = AssertUnwindSafe(self.handler.handle(records, attempt)).catch_unwind();
            if let Ok(Outcome::Done) = work.await {
                return Settled::Done;
            }
        }
        for record in records {
            if !slot.still_ours().await {
                return Settled::HandedBack;
            }
            let settled = self.worker.settle(slot, record, seat).await;
            if settled != Settled::Done {
                return settled;
            }
            // Those behind it may keep it waiting.
            let _ = slot.done(record);
        }
        Settled::Done
    }
}
