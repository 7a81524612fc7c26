//! The seam between the polling thread, which is the same for all, and the order in which records are worked on.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::consumer::ConsumerGroupMetadata;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::pulse::Pulse;
use crate::record::Records;
use crate::slot::Slot;
use crate::status::StallReason;

/// Decides which record is worked on when, and by whom.
///
/// All methods are called on the polling thread, one at a time: they hand over to tasks or threads of the scheduler's own
/// and return at once. What is done comes back by [`Slot::done`], from anywhere.
///
/// A worker begins with [`Slot::begin`] and keeps what that returns for as long as it is at work; before each record it
/// asks [`Slot::still_ours`]; it drops its work when [`Slot::abandoned`] fires.
pub trait Scheduler: Send + 'static {
    /// The run begins. `control` reaches the polling thread.
    fn started(&mut self, control: &Control) {
        let _ = control;
    }

    /// A partition is ours.
    fn assigned(&mut self, slot: &Arc<Slot>);

    /// Records of it, in the order of their offsets, of which none is done yet.
    fn submit(&mut self, slot: &Arc<Slot>, records: Records);

    /// It is to be given up: begin nothing more of it. [`Slot::draining`] has fired.
    fn draining(&mut self, slot: &Arc<Slot>) {
        let _ = slot;
    }

    /// Why this record of it, the lowest that is not done, is not done: asked when it holds up its partition for longer than
    /// [`stalled_after`](crate::GroupBuilder::stalled_after).
    fn holds_up(&mut self, slot: &Arc<Slot>, offset: i64) -> Option<StallReason> {
        let _ = (slot, offset);
        None
    }

    /// It is ours no more, after draining or by loss: forget what is left of it.
    fn closed(&mut self, slot: &Arc<Slot>);
}

/// What may be asked of the polling thread, from anywhere. It is done at its next turn, which this wakes it for.
#[derive(Debug, Clone)]
pub struct Control {
    /// Nothing once the run is over: what was asked is dropped, and who waits for an answer finds out.
    asked: Arc<Mutex<Option<Vec<Ask>>>>,
    pulse: Arc<Pulse>,
    runtime: Handle,
}

#[derive(Debug)]
pub(crate) enum Ask {
    Commit,
    Pause(Arc<Slot>, bool),
    Rewind(Arc<Slot>),
    Reload(Vec<Arc<Slot>>),
    GroupMetadata(oneshot::Sender<Metadata>),
    Stop(anyhow::Error),
}

/// The group's metadata, which has no `Debug` of its own.
pub(crate) struct Metadata(pub ConsumerGroupMetadata);

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsumerGroupMetadata")
    }
}

impl Control {
    pub(crate) fn new(pulse: Arc<Pulse>, runtime: Handle) -> Self {
        Self { asked: Arc::new(Mutex::new(Some(Vec::new()))), pulse, runtime }
    }

    /// The runtime in which the run was begun: where workers belong.
    #[must_use]
    pub const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Commits what is done, whatever the policy says of the time.
    pub fn commit(&self) {
        self.ask(Ask::Commit);
    }

    /// Fetches no more of the slot's partition until [`resume`](Self::resume).
    pub fn pause(&self, slot: &Arc<Slot>) {
        self.ask(Ask::Pause(slot.clone(), true));
    }

    /// Fetches of it again.
    pub fn resume(&self, slot: &Arc<Slot>) {
        self.ask(Ask::Pause(slot.clone(), false));
    }

    /// Closes the slot and fetches its partition again from its commit point, as a new slot.
    pub fn rewind(&self, slot: &Arc<Slot>) {
        self.ask(Ask::Rewind(slot.clone()));
    }

    /// Closes the slots and begins their partitions again where the group has committed, whatever was done here: for those
    /// who commit in transactions, and do not know what became of one.
    pub fn reload(&self, slots: Vec<Arc<Slot>>) {
        // At once, so that nothing that comes late counts.
        slots.iter().for_each(|slot| _ = slot.close());
        self.ask(Ask::Reload(slots));
    }

    /// Ends the run in an orderly way because of this error, which its report will have.
    pub fn stop(&self, error: anyhow::Error) {
        self.ask(Ask::Stop(error));
    }

    /// This member as the group knows it, for [`send_offsets_to_transaction`]; `None` when the run is over, or there is no
    /// membership or it was just lost. It is good for those slots that are open after it was given: brokers refuse it once the
    /// group has given their partitions to others.
    ///
    /// [`send_offsets_to_transaction`]: rdkafka::producer::Producer::send_offsets_to_transaction
    pub async fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::GroupMetadata(answer));
        answered.await.ok().map(|Metadata(metadata)| metadata)
    }

    /// The same for a thread that may block, which is none of the runtime's.
    #[must_use]
    pub fn group_metadata_blocking(&self) -> Option<ConsumerGroupMetadata> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::GroupMetadata(answer));
        answered.blocking_recv().ok().map(|Metadata(metadata)| metadata)
    }

    fn ask(&self, ask: Ask) {
        if let Some(asked) = &mut *self.asked.lock() {
            asked.push(ask);
        }
        self.pulse.wake();
    }

    pub(crate) fn take(&self) -> Vec<Ask> {
        self.asked.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Who asks for the group's metadata; all else that was asked waits.
    pub(crate) fn take_introductions(&self) -> Vec<oneshot::Sender<Metadata>> {
        let mut asked = self.asked.lock();
        let Some(all) = &mut *asked else { return Vec::new() };
        let (mut introductions, mut rest) = (Vec::new(), Vec::new());
        for ask in all.drain(..) {
            match ask {
                Ask::GroupMetadata(answer) => introductions.push(answer),
                other => rest.push(other),
            }
        }
        *all = rest;
        introductions
    }

    /// The run is over.
    pub(crate) fn close(&self) {
        *self.asked.lock() = None;
    }
}
