//! One partition during one assignment: its lanes, and the runners that work on them.
//!
//! It is the Leader/Followers pattern (Schmidt, O'Ryan, Kircher and Pyarali, PLoP 2000). One runner at a time leads: it goes
//! through what has come in, and works on each record at once. As long as that is done without waiting, no lane is made and
//! nothing is handed to anybody. When a record's work has to wait, its lane is made, the lead goes to another runner, and this
//! one follows its lane to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_group::{Record, Records, Slot};
use parking_lot::Mutex;
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::AbortHandle;

use crate::adaptive::Gauge;
use crate::limit::{Limit, Parked, Permit};
use crate::options::{NullKeys, Order};
use crate::rate::Rate;
use crate::runner;
use crate::seat::LaneSeat;
use crate::table::Table;
use crate::work::Work;

/// How many settled records the leader keeps before it says so.
const MANY: usize = 256;
/// Work that keeps a thread busy for longer than this is given to other threads, too.
pub(crate) const SLOW: Duration = Duration::from_micros(10);

/// What all partitions have in common.
pub(crate) struct Shared<W> {
    pub work: Arc<W>,
    pub order: Order,
    pub batches: Option<(usize, Duration)>,
    pub rate: Option<Rate>,
    pub gauge: Option<Gauge>,
    pub limit: Arc<Limit>,
    pub runtime: Handle,
}

pub(crate) struct Partition<W> {
    shared: Arc<Shared<W>>,
    slot: Arc<Slot>,
    table: Mutex<Table>,
    /// How many lanes there are, for the leader to see without the lock.
    open: AtomicUsize,
    /// The lead, while it waits for a permit.
    parked: Mutex<Option<Box<Lead>>>,
    queued: AtomicBool,
    /// The work is seen to keep its thread busy: the lead is passed before it is begun, so that other threads help.
    pub slow: AtomicBool,
    runners: Mutex<Runners>,
}

#[derive(Default)]
struct Runners {
    at_work: Slab<Option<AbortHandle>>,
    closed: bool,
}

/// What the one that leads has.
pub(crate) struct Lead {
    inbox: UnboundedReceiver<Records>,
    current: Option<Records>,
    /// Settled at once, and not said so yet.
    pub finished: Vec<Record>,
    pace: Pace,
}

/// How fast units of work are begun.
struct Pace {
    since: Instant,
    units: u32,
    look_at: u32,
}

/// A runner's place among those of its partition; gone when dropped.
pub(crate) struct Registered<W: Work> {
    partition: Arc<Partition<W>>,
    id: usize,
}

impl<W: Work> Partition<W> {
    pub fn new(shared: Arc<Shared<W>>, slot: Arc<Slot>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            slot,
            table: Mutex::default(),
            open: AtomicUsize::new(0),
            parked: Mutex::default(),
            queued: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            runners: Mutex::default(),
        })
    }

    pub fn shared(&self) -> &Arc<Shared<W>> {
        &self.shared
    }

    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Whether a record has a lane with others, which it is to wait for.
    pub fn has_lane(&self, record: &Record) -> bool {
        match self.shared.order {
            Order::Key(nulls) => nulls == NullKeys::Partition || record.key().is_some(),
            Order::Partition | Order::Unordered => false,
        }
    }

    /// A runner that leads.
    pub fn spawn(self: &Arc<Self>, lead: Box<Lead>, seat: LaneSeat) {
        let id = {
            let mut runners = self.runners.lock();
            if runners.closed {
                return;
            }
            runners.at_work.insert(None)
        };
        let registered = Registered { partition: self.clone(), id };
        let task = self.shared.runtime.spawn(runner::run(registered, lead, seat)).abort_handle();
        // It may have ended already, or be one of those that are to end.
        let mut runners = self.runners.lock();
        if let Some(place) = runners.at_work.get_mut(id) {
            *place = Some(task);
        }
    }

    /// Gives the lead to another runner, now or when there is a permit for one.
    pub fn pass(self: &Arc<Self>, lead: Box<Lead>) {
        let limit = &self.shared.limit;
        let permit = match Limit::take(limit) {
            Some(permit) => permit,
            None => {
                *self.parked.lock() = Some(lead);
                let Some(permit) = limit.park(self.clone()) else { return };
                // There is one after all, unless one of our own runners has taken the lead.
                let Some(lead) = self.parked.lock().take() else { return };
                return self.spawn(lead, LaneSeat::new(limit.clone(), Some(permit)));
            }
        };
        self.spawn(lead, LaneSeat::new(limit.clone(), Some(permit)));
    }

    /// The lead, if it waits for a permit and a runner that has one may keep it.
    pub fn take_lead(&self) -> Option<Box<Lead>> {
        let waits = self.parked.lock().is_some();
        let keeps = waits && self.shared.limit.may_keep(self.runners.lock().at_work.len());
        if keeps { self.parked.lock().take() } else { None }
    }

    /// The next record that is to be begun; those whose lane is at work are put there.
    pub fn next(&self, lead: &mut Lead) -> Option<Record> {
        loop {
            let record = lead.next()?;
            if self.open.load(Ordering::Relaxed) == 0 || !self.has_lane(&record) {
                return Some(record);
            }
            let record = self.table.lock().join(record);
            if record.is_some() {
                return record;
            }
        }
    }

    /// Says what the leader has settled.
    pub fn flush(&self, lead: &mut Lead) {
        if !lead.finished.is_empty() {
            self.finish(&mut lead.finished);
        }
    }

    pub fn finish(&self, records: &mut Vec<Record>) {
        self.shared.work.finished(&self.slot, records);
        records.clear();
    }

    /// Makes the lane of a record that is at work.
    pub fn open(&self, at: &Record) {
        if self.has_lane(at) {
            let mut table = self.table.lock();
            table.open(at.clone());
            self.open.store(table.len(), Ordering::Relaxed);
        }
    }

    /// The next record of the lane of one that is settled.
    pub fn advance(&self, settled: &Record) -> Option<Record> {
        if !self.has_lane(settled) {
            return None;
        }
        let mut table = self.table.lock();
        let next = table.advance(settled);
        self.open.store(table.len(), Ordering::Relaxed);
        next
    }

    /// Gathers a batch of a lane.
    pub async fn gather(&self, unit: &mut Vec<Record>, enough: usize, wait: Duration) {
        let enough_came =
            std::future::poll_fn(|context| match self.table.lock().gather(unit, enough, context.waker()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            });
        tokio::select! {
            () = enough_came => {}
            () = tokio::time::sleep(wait) => {}
            () = self.slot.draining().cancelled() => {}
        }
    }

    /// What a lane is at that has this offset, and how many are behind it.
    pub fn at(&self, offset: i64) -> Option<(Record, usize)> {
        self.table.lock().at(offset)
    }

    /// The slot is closed: whoever is still at work is dropped when it is abandoned.
    pub fn close(self: &Arc<Self>) {
        let lead = self.parked.lock().take();
        drop(lead);
        let at_work = {
            let mut runners = self.runners.lock();
            runners.closed = true;
            runners.at_work.len()
        };
        if at_work > 0 {
            let partition = self.clone();
            self.shared.runtime.spawn(async move {
                partition.slot.abandoned().cancelled().await;
                let tasks: Vec<_> =
                    partition.runners.lock().at_work.iter().filter_map(|(_, task)| task.clone()).collect();
                tasks.iter().for_each(AbortHandle::abort);
            });
        }
    }
}

impl<W: Work> Parked for Partition<W> {
    fn queued(&self) -> &AtomicBool {
        &self.queued
    }

    fn resume(self: Arc<Self>, permit: Permit) -> Option<Permit> {
        let Some(lead) = self.parked.lock().take() else { return Some(permit) };
        self.spawn(lead, LaneSeat::new(self.shared.limit.clone(), Some(permit)));
        None
    }
}

impl<W: Work> std::ops::Deref for Registered<W> {
    type Target = Arc<Partition<W>>;

    fn deref(&self) -> &Arc<Partition<W>> {
        &self.partition
    }
}

impl<W: Work> Drop for Registered<W> {
    fn drop(&mut self) {
        let task = self.partition.runners.lock().at_work.try_remove(self.id);
        drop(task);
    }
}

impl Lead {
    pub fn new(inbox: UnboundedReceiver<Records>) -> Box<Self> {
        let pace = Pace { since: Instant::now(), units: 0, look_at: 1 };
        Box::new(Self { inbox, current: None, finished: Vec::new(), pace })
    }

    fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(record) = self.current.as_mut().and_then(Iterator::next) {
                return Some(record);
            }
            self.current = Some(self.inbox.try_recv().ok()?);
        }
    }

    /// Waits for records; `false` when there will be none.
    pub async fn fetch(&mut self) -> bool {
        self.current = self.inbox.recv().await;
        self.current.is_some()
    }

    /// Begins to watch the pace.
    pub fn begin(&mut self) {
        (self.pace.since, self.pace.units) = (Instant::now(), 0);
    }

    /// One more was begun, and is settled or waits. Whether the work keeps the thread busy, if that was looked at: it is
    /// with some, and `now` at the latest.
    pub fn tick(&mut self, now: bool) -> Option<bool> {
        let pace = &mut self.pace;
        pace.units += 1;
        (now || pace.units >= pace.look_at).then(|| {
            let (since, units) = (std::mem::replace(&mut pace.since, Instant::now()), std::mem::take(&mut pace.units));
            pace.look_at = (pace.look_at * 2).min(16);
            pace.since.saturating_duration_since(since) > SLOW * units
        })
    }

    /// Whether it is time to say what was settled.
    pub fn is_full(&self) -> bool {
        self.finished.len() >= MANY
    }
}
