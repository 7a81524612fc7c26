//! What is done with a record, or with several of a lane: the seam for those who bring their own.

use std::sync::Arc;

use kafka_group::{Handler, Record, Settled, Slot, Worker};

use crate::seat::LaneSeat;

/// The work that [`Lanes`](crate::Lanes) give out.
///
/// A lane has one unit of it at a time, and begins the next when that is settled as [`Settled::Done`]. Whether the records
/// are *done*, so that they may be committed, is a question of its own: [`finished`](Self::finished) says so at once, unless
/// it is written otherwise; who writes results and offsets in one transaction says [`Slot::done_all`] after its commit.
pub trait Work: Send + Sync + 'static {
    /// Works on records, of one lane and in their order, until something has become of all of them: on one, unless there are
    /// [`batches`](crate::LaneOptions::batches). While it only waits, it leaves its `seat` to others.
    ///
    /// [`Settled::Halted`] holds up the lane for good, and no other; after [`Settled::HandedBack`] nothing more of the lane is
    /// begun. The future is dropped when the slot is [`abandoned`](Slot::abandoned).
    fn work(&self, slot: &Arc<Slot>, records: &[Record], seat: &LaneSeat) -> impl Future<Output = Settled> + Send;

    /// These were settled as done, in no order of different lanes. To be left empty.
    fn finished(&self, slot: &Arc<Slot>, records: &mut Vec<Record>) {
        slot.done_all(&*records);
        records.clear();
    }
}

/// The work of a handler, with its retries and dead letters: for [`Lanes`](crate::Lanes) within another scheduler.
pub struct Handled<H>(pub Worker<H>);

impl<H: Handler<Record>> Work for Handled<H> {
    #[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice, for each record at work")]
    fn work(&self, slot: &Arc<Slot>, records: &[Record], seat: &LaneSeat) -> impl Future<Output = Settled> + Send {
        async move {
            for record in records {
                let settled = self.0.settle(slot, record, seat).await;
                if settled != Settled::Done {
                    return settled;
                }
            }
            Settled::Done
        }
    }
}
