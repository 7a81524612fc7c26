//! What handlers and the two threads of the transactions share: records that are done and wait for a transaction, and where
//! the transactions stand.
//!
//! Handlers put records in; the writing thread takes them out by batches, writes their outputs, and hands them on to the
//! committing thread. So there are at most two transactions open: one is written while the other is committed, each by a
//! producer of its own. One that fails takes the one behind it along, and both are done again, in their order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_group::{Control, Record, Running, Seat, Slot, StallReason, Trouble};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::batch::Batch;
use crate::error::RunError;
use crate::outputs::Outputs;
use crate::producer::Producer;
use crate::transform::InTransaction;

/// When a transaction is to be committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub every: Duration,
    pub records: usize,
    pub bytes: usize,
}

/// A step of a transaction, as it is about to be made: see [`TxnBuilder::on_step`](crate::TxnBuilder::on_step).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The transaction is begun.
    Begin,
    /// Its outputs are produced.
    Produce,
    /// Its outputs have arrived, and the input's offsets are to be sent.
    SendOffsets,
    /// It is to be committed.
    Commit,
    /// It is committed, and that is to be noted here.
    Committed,
}

pub(crate) type OnStep = Arc<dyn Fn(Step) + Send + Sync>;

pub(crate) struct Shared {
    pub group: Arc<str>,
    pub limits: Limits,
    pub metadata_limit: usize,
    pub dead_letters: Option<InTransaction>,
    pub on_step: Option<OnStep>,
    control: std::sync::OnceLock<Control>,
    state: Mutex<State>,
    changed: Condvar,
    /// Why nothing is committed.
    troubles: Mutex<Vec<Arc<str>>>,
    /// Bytes of outputs that wait, and who waits for them to become less.
    waiting: AtomicUsize,
    room: Notify,
    pub counts: Counts,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub transactions: AtomicU64,
    pub aborted: AtomicU64,
    pub outputs: AtomicU64,
    pub refused: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    next: u64,
    /// To be done again, the first of them last.
    again: Vec<Batch>,
    /// One has failed: nothing that is under way may be committed.
    broken: bool,
    under_way: usize,
    idle: Vec<Producer>,
    closed: bool,
    failure: Option<RunError>,
}

impl Shared {
    pub fn new(
        group: Arc<str>,
        limits: Limits,
        metadata_limit: usize,
        dead_letters: Option<InTransaction>,
        on_step: Option<OnStep>,
    ) -> Arc<Self> {
        Arc::new(Self {
            group,
            limits,
            metadata_limit,
            dead_letters,
            on_step,
            control: std::sync::OnceLock::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
            troubles: Mutex::default(),
            waiting: AtomicUsize::new(0),
            room: Notify::new(),
            counts: Counts::default(),
        })
    }

    pub fn step(&self, step: Step) {
        if let Some(on_step) = &self.on_step {
            on_step(step);
        }
    }
}

/// For the scheduler and its handlers.
impl Shared {
    pub fn started(&self, control: &Control) {
        let _ = self.control.set(control.clone());
        let state = self.state.lock();
        if let Some(failure) = &state.failure {
            control.stop(anyhow::anyhow!("{failure}"));
        }
    }

    pub fn control(&self) -> Option<&Control> {
        self.control.get()
    }

    /// Waits until there is room for a record's outputs.
    pub async fn room(&self, seat: &impl Seat) {
        if self.waiting.load(Ordering::Acquire) <= 4 * self.limits.bytes {
            return;
        }
        seat.leave();
        while self.waiting.load(Ordering::Acquire) > 4 * self.limits.bytes {
            let freed = self.room.notified();
            if self.waiting.load(Ordering::Acquire) > 4 * self.limits.bytes {
                freed.await;
            }
        }
        seat.back().await;
    }

    /// A slot is ours. If nothing of it is committed, where it begins is to be.
    pub fn assigned(&self, slot: &Arc<Slot>) {
        if !slot.is_new() {
            return;
        }
        let mut state = self.state.lock();
        state.open(self.limits).slot(slot);
        self.changed.notify_all();
    }

    /// A record is done but for its transaction.
    pub fn done(&self, slot: &Arc<Slot>, record: Record, running: Running, outputs: &Outputs) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let batch = state.open(self.limits);
        batch.push(slot, record, running, outputs);
        let news = batch.items.len() == 1 || is_full(batch, self.limits) || !slot.is_active();
        self.waiting.fetch_add(outputs.size(), Ordering::AcqRel);
        if news {
            self.changed.notify_all();
        }
    }

    /// A slot is to be given up: what is done of it is to be committed at once. Or it is gone.
    pub fn hurry(&self) {
        let _state = self.state.lock();
        self.changed.notify_all();
    }

    /// What keeps this offset from being committed, if it is done.
    pub fn holds_up(&self, offset: i64) -> Option<StallReason> {
        let error = self.troubles.lock().last()?.clone();
        Some(StallReason::Trouble(Trouble::Transaction { offset, error }))
    }

    /// Nothing more is to be committed.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        state.again.clear();
        drop(state);
        self.waiting.store(0, Ordering::Release);
        self.room.notify_waiters();
        self.changed.notify_all();
    }

    /// Nothing more can be committed; the run ends with this.
    pub fn fail(&self, failure: RunError) {
        let text = format!("{failure}");
        self.state.lock().failure.get_or_insert(failure);
        self.close();
        if let Some(control) = self.control() {
            control.stop(anyhow::anyhow!(text));
        }
    }

    pub fn failure(&self) -> Option<RunError> {
        self.state.lock().failure.take()
    }

    pub fn is_open(&self) -> bool {
        !self.state.lock().closed
    }
}

/// For the threads.
impl Shared {
    /// The batch that is to be written next, when it is due, and a producer for it. `None` at the end.
    pub fn next(&self) -> Option<(Batch, Producer)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if state.broken && state.under_way == 0 {
                state.broken = false;
            }
            let due = match state.idle.is_empty() || state.broken {
                true => None,
                false => state.due(self.limits),
            };
            if let Some(at) = due {
                if at <= Instant::now() {
                    if let (Some(batch), Some(producer)) = (state.take(), state.idle.pop()) {
                        state.under_way += 1;
                        drop(state);
                        self.waiting.fetch_sub(
                            batch.outputs.size().min(self.waiting.load(Ordering::Acquire)),
                            Ordering::AcqRel,
                        );
                        self.room.notify_waiters();
                        return Some((batch, producer));
                    }
                } else {
                    self.changed.wait_until(&mut state, at);
                    continue;
                }
            }
            self.changed.wait(&mut state);
        }
    }

    /// A producer that is free again; one of them at the beginning.
    pub fn give_back(&self, producer: Producer) {
        self.state.lock().idle.push(producer);
        self.changed.notify_all();
    }

    /// A batch came to its end, by being committed or by being of no use any more.
    pub fn over(&self, producer: Producer) {
        let mut state = self.state.lock();
        state.under_way -= 1;
        state.idle.push(producer);
        drop(state);
        self.changed.notify_all();
    }

    /// A batch is to be done again, and so are all that are under way behind it: they are not to be committed.
    pub fn broken(&self, batch: Option<Batch>) {
        let mut state = self.state.lock();
        state.broken = true;
        state.put_back(batch);
    }

    /// A batch is to be done, before all that wait.
    pub fn first(&self, batch: Batch) {
        self.state.lock().put_back(Some(batch));
    }

    pub fn is_broken(&self) -> bool {
        self.state.lock().broken
    }

    /// Says what keeps records from being committed, until what this returns is dropped.
    pub fn trouble(&self, what: impl Into<Arc<str>>) -> Troubled<'_> {
        let what = what.into();
        self.troubles.lock().push(what.clone());
        Troubled { shared: self, what }
    }

    /// Waits for so long, or until the end.
    pub fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.closed && !self.changed.wait_until(&mut state, until).timed_out() {}
    }
}

/// While this is there, what is done waits, for this reason.
pub(crate) struct Troubled<'a> {
    shared: &'a Shared,
    what: Arc<str>,
}

impl Drop for Troubled<'_> {
    fn drop(&mut self) {
        self.shared.troubles.lock().retain(|one| !Arc::ptr_eq(one, &self.what));
    }
}

impl State {
    /// The batch that records are put in.
    fn open(&mut self, limits: Limits) -> &mut Batch {
        if self.waiting.back().is_none_or(|last| is_full(last, limits)) {
            self.next += SPACE;
            self.waiting.push_back(Batch::new(self.next));
        }
        let last = self.waiting.len() - 1;
        &mut self.waiting[last]
    }

    /// When the next batch is to be written.
    fn due(&self, limits: Limits) -> Option<Instant> {
        if !self.again.is_empty() {
            return Some(Instant::now());
        }
        let first = self.waiting.front()?;
        let at_once =
            self.waiting.len() > 1 || is_full(first, limits) || first.slots.iter().any(|slot| !slot.is_active());
        Some(if at_once { first.since } else { first.since + limits.every })
    }

    fn take(&mut self) -> Option<Batch> {
        self.again.pop().or_else(|| self.waiting.pop_front())
    }

    fn put_back(&mut self, batch: Option<Batch>) {
        self.again.extend(batch.filter(|_| !self.closed));
        self.again.sort_by_key(|batch| std::cmp::Reverse(batch.seq));
    }
}

/// Numbers between those of two batches, for what is taken out of the first.
const SPACE: u64 = 1 << 32;

fn is_full(batch: &Batch, limits: Limits) -> bool {
    batch.items.len() >= limits.records || batch.outputs.size() >= limits.bytes
}
