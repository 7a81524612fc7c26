//! A partition that is ours, from its assignment to its end: what is in hand, what is done, and whether it is still ours.
//!
//! Schedulers and handlers hold it; the polling thread alone changes its phase. A new assignment of the same partition is
//! a new slot with a higher [`Epoch`], so whatever comes late for an old one finds it closed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use kafka_offsets::{Completed, Epoch, OffsetTracker};
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::pulse::Pulse;
use crate::record::{Fetched, Record};
use crate::status::Trouble;

const ACTIVE: u8 = 0;
const DRAINING: u8 = 1;
const CLOSED: u8 = 2;

/// One assignment of one partition to this member.
pub struct Slot {
    topic: Arc<str>,
    partition: i32,
    epoch: Epoch,
    phase: AtomicU8,
    running: AtomicUsize,
    /// Done one after another, and not in the books yet: all below this offset, and the bytes that they have.
    done_below: AtomicI64,
    done_bytes: AtomicU64,
    /// Somebody waits for less to be in hand.
    waited_for: AtomicBool,
    /// What the group has committed, where somebody else than the polling thread does; negative if nothing.
    committed: AtomicI64,
    books: Mutex<Books>,
    draining: CancellationToken,
    cancelled: CancellationToken,
    closed: CancellationToken,
    pulse: Arc<Pulse>,
}

/// What is in hand and what is done.
struct Books {
    /// Gone once the slot is closed.
    tracker: Option<OffsetTracker>,
    /// What was fetched lies below it.
    position: i64,
    /// What is taken over of [`Slot::done_below`] and [`Slot::done_bytes`].
    done_below: i64,
    done_bytes: u64,
    in_hand: Amount,
    /// The polling thread waits until no more than this is in hand.
    wake_at: Option<Amount>,
    done: u64,
    /// By offset.
    troubles: BTreeMap<i64, Trouble>,
}

impl Books {
    fn complete(&mut self, record: &Record, epoch: Epoch) -> Completed {
        let Some(tracker) = &mut self.tracker else { return Completed::Stale };
        let completed = tracker.complete(record.offset(), epoch);
        if completed == Completed::Done {
            self.done += 1;
            self.in_hand.records = self.in_hand.records.saturating_sub(1);
            self.in_hand.bytes = self.in_hand.bytes.saturating_sub(record.size() as u64);
        }
        completed
    }
}

/// A number of records and of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// How many records.
    pub records: u64,
    /// How many bytes their keys, values and headers have.
    pub bytes: u64,
}

impl Amount {
    /// Whether neither is above the other's.
    pub(crate) const fn within(self, other: Self) -> bool {
        self.records <= other.records && self.bytes <= other.bytes
    }
}

impl Slot {
    pub(crate) fn new(
        topic: Arc<str>,
        partition: i32,
        epoch: Epoch,
        tracker: OffsetTracker,
        pulse: Arc<Pulse>,
    ) -> Self {
        let cancelled = CancellationToken::new();
        Self {
            topic,
            partition,
            epoch,
            phase: AtomicU8::new(ACTIVE),
            running: AtomicUsize::new(0),
            done_below: AtomicI64::new(-1),
            done_bytes: AtomicU64::new(0),
            waited_for: AtomicBool::new(false),
            committed: AtomicI64::new(-1),
            books: Mutex::new(Books {
                done_below: -1,
                done_bytes: 0,
                position: tracker.commit_point(),
                tracker: Some(tracker),
                in_hand: Amount { records: 0, bytes: 0 },
                wake_at: None,
                done: 0,
                troubles: BTreeMap::new(),
            }),
            draining: CancellationToken::new(),
            cancelled,
            closed: CancellationToken::new(),
            pulse,
        }
    }

    /// Its topic.
    #[must_use]
    pub const fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Its partition.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition
    }

    /// Which assignment it is: higher than that of any earlier one in this run.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether further records of it may be begun. No once it is being revoked, is lost, or the run ends.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == ACTIVE
    }

    /// Begins to work on records of it; `None` when none may be begun any more. The polling thread waits, up to the
    /// drain limit, for what was begun to be dropped before it gives the partition up.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Option<Running> {
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(self.clone());
        self.is_active().then_some(running)
    }

    /// Waits until this process is known to have been awake all the time, so that the partition is still ours; `false`
    /// when no further record may be begun. To be called before each record; costs a look at a clock.
    ///
    /// A process that was stopped past its session's end may wake up in the middle of its work. It must not go on before
    /// the polling thread has found out.
    pub async fn still_ours(&self) -> bool {
        while self.is_active() {
            if self.pulse.is_fresh() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Whether there is nothing for [`still_ours`](Self::still_ours) to wait for: then it would give `true` at once.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.is_active() && self.pulse.is_fresh()
    }

    /// The record is done: it is not delivered again once the commit point has passed it. Late, after the slot has been
    /// closed, it is counted and has no effect.
    pub fn done(&self, record: &Record) -> Completed {
        let mut books = self.books();
        let completed = books.complete(record, self.epoch);
        self.wake_if_due(books);
        if completed == Completed::Stale {
            self.late(1);
        }
        completed
    }

    /// The same for many records at once, under one lock.
    pub fn done_all<'a>(&self, records: impl IntoIterator<Item = &'a Record>) {
        let mut books = self.books();
        let stale = |record: &&Record| books.complete(record, self.epoch) == Completed::Stale;
        let late = records.into_iter().filter(stale).count();
        self.wake_if_due(books);
        if late > 0 {
            self.late(late as u64);
        }
    }

    /// The record is done, and so is all that was submitted before it. As [`done`](Self::done), and takes no lock: for one
    /// worker that goes through the slot's records in their order.
    pub(crate) fn done_in_turn(&self, record: &Record) {
        if self.phase.load(Ordering::SeqCst) == CLOSED {
            self.late(1);
        }
        // One worker alone writes here. Who reads needs the bytes no later than the records.
        let bytes = self.done_bytes.load(Ordering::Relaxed);
        self.done_bytes.store(bytes + record.size() as u64, Ordering::Relaxed);
        self.done_below.store(record.offset() + 1, Ordering::Release);
        if self.waited_for.load(Ordering::Relaxed) {
            self.note_turn();
        }
    }

    /// Takes what was done in turn into the books at once. Who says so record by record says this at the end.
    pub(crate) fn note_turn(&self) {
        self.wake_if_due(self.books());
    }

    fn late(&self, records: u64) {
        crate::metric::late(&self.topic).increment(records);
    }

    /// The books, with what was done in turn.
    fn books(&self) -> MutexGuard<'_, Books> {
        let mut books = self.books.lock();
        let below = self.done_below.load(Ordering::Acquire);
        if below > books.done_below {
            books.done_below = below;
            let bytes = self.done_bytes.load(Ordering::Relaxed);
            let of_them = bytes - std::mem::replace(&mut books.done_bytes, bytes);
            if let Some(tracker) = &mut books.tracker {
                let records = tracker.complete_below(below, self.epoch);
                books.done += records;
                books.in_hand.records = books.in_hand.records.saturating_sub(records);
                books.in_hand.bytes = books.in_hand.bytes.saturating_sub(of_them);
            }
        }
        books
    }

    fn wake_if_due(&self, mut books: MutexGuard<'_, Books>) {
        if books.wake_at.is_some_and(|mark| books.in_hand.within(mark)) {
            books.wake_at = None;
            self.waited_for.store(false, Ordering::Relaxed);
            drop(books);
            self.pulse.wake();
        }
    }

    /// Whether the group had committed nothing for its partition: then where it begins is to be written down by whoever
    /// commits, so that it is not lost with this member where it begins at the end. For those who commit in transactions.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.committed.load(Ordering::Relaxed) < 0
    }

    /// Notes what was committed in a transaction.
    pub fn note_committed(&self, offset: i64) {
        self.committed.store(offset, Ordering::Relaxed);
    }

    /// What was, if anything.
    pub(crate) fn committed(&self) -> Option<i64> {
        Some(self.committed.load(Ordering::Relaxed)).filter(|offset| *offset >= 0)
    }

    /// Fires when the slot is being revoked or the run ends: begin nothing more, and do not wait for another attempt.
    #[must_use]
    pub const fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Fires when the partition is lost, or when its time to drain is nearly over; handlers get it by their
    /// [`Attempt`](turnstile_core::Attempt).
    #[must_use]
    pub const fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Fires when handlers that are still at work are to be dropped.
    #[must_use]
    pub const fn abandoned(&self) -> &CancellationToken {
        &self.closed
    }

    /// Says what keeps a record from being done, or that nothing does any more.
    pub fn set_trouble(&self, offset: i64, trouble: Option<Trouble>) {
        let mut books = self.books();
        match trouble {
            Some(trouble) => _ = books.troubles.insert(offset, trouble),
            None => _ = books.troubles.remove(&offset),
        }
    }

    /// What keeps that record from being done.
    #[must_use]
    pub fn trouble(&self, offset: i64) -> Option<Trouble> {
        self.books().troubles.get(&offset).cloned()
    }

    /// The lowest offset that is not done; `None` once closed.
    #[must_use]
    pub fn commit_point(&self) -> Option<i64> {
        self.books().tracker.as_ref().map(OffsetTracker::commit_point)
    }

    /// What was submitted and is not done.
    #[must_use]
    pub fn in_hand(&self) -> Amount {
        self.books().in_hand
    }

    /// Looks at the offsets; `None` once closed.
    pub fn offsets<T>(&self, look: impl FnOnce(&OffsetTracker) -> T) -> Option<T> {
        self.books().tracker.as_ref().map(look)
    }
}

/// The polling thread's side.
impl Slot {
    /// Takes fetched records into the books, and keeps only those that are not done yet. `None` if they lie before what was
    /// fetched already: then nothing was taken.
    pub(crate) fn take(&self, fetched: &mut Fetched) -> Option<()> {
        let mut books = self.books();
        let Books { tracker: Some(tracker), position, in_hand, .. } = &mut *books else {
            fetched.retain(|_, _| false);
            return Some(());
        };
        if fetched.first().is_some_and(|first| first < *position) {
            return None;
        }
        fetched.retain(|offset, size| {
            *position = offset + 1;
            let new = tracker.fetched(offset) == kafka_offsets::Fetched::New;
            if new {
                in_hand.records += 1;
                in_hand.bytes += size as u64;
            }
            new
        });
        Some(())
    }

    /// Asks to be woken once no more than `mark` is in hand; `false` if that is so already.
    pub(crate) fn wake_at(&self, mark: Amount) -> bool {
        let mut books = self.books();
        let waits = !books.in_hand.within(mark);
        books.wake_at = waits.then_some(mark);
        self.waited_for.store(waits, Ordering::Relaxed);
        waits
    }

    /// How many were done in it.
    pub(crate) fn done_count(&self) -> u64 {
        self.books().done
    }

    /// Nothing more is to be begun.
    pub(crate) fn drain(&self) {
        let _ = self.phase.compare_exchange(ACTIVE, DRAINING, Ordering::SeqCst, Ordering::SeqCst);
        self.draining.cancel();
    }

    /// Whether nothing that was begun is still at work.
    pub(crate) fn is_drained(&self) -> bool {
        self.running.load(Ordering::SeqCst) == 0
    }

    /// Handlers are told to come to an end.
    pub(crate) fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// The partition is no longer ours: completions are void from now on. Gives what was left in hand.
    pub(crate) fn close(&self) -> Amount {
        self.phase.store(CLOSED, Ordering::SeqCst);
        self.draining.cancel();
        self.cancelled.cancel();
        let mut books = self.books();
        books.tracker = None;
        books.wake_at = None;
        books.in_hand
    }

    /// Handlers that are still at work are dropped.
    pub(crate) fn abandon(&self) {
        self.closed.cancel();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Work that was begun on a slot; ends when dropped.
#[derive(Debug)]
#[must_use = "dropping it says that the work is over"]
pub struct Running(Arc<Slot>);

impl Drop for Running {
    fn drop(&mut self) {
        let before = self.0.running.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && !self.0.is_active() {
            self.0.pulse.wake();
        }
    }
}
