//! Readers: a member of a consumer group that goes from layout to layout in order.
//!
//! A scheduler around kafka-group's own, or any other: it hands records on as they come, until one is of a layout whose
//! predecessor the *group* has not worked off. Those it keeps, within the group's budget of what may be in hand, until the group
//! has committed each old partition up to its barrier. Whoever works on a partition of the new layout then finds that nothing
//! of the old one is left, in whoever's hands it was.
//!
//! That a record may be of a newer layout than is known here is seen without asking anybody: a barrier lies before it in its
//! partition, or its partition is none of the known layouts. Only when a partition is assigned is the log read to its end once.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_group::rdkafka::consumer::BaseConsumer;
use kafka_group::{Control, Epoch, Records, Scheduler, Slot, Trouble};
use parking_lot::{Condvar, Mutex};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, watermarks};
use crate::error::TopicError;
use crate::follower::Follower;
use crate::journal::committed;
use crate::layout::{Layout, Layouts, epoch_behind, is_barrier};

/// How often it is looked whether a group has come to the barriers, while somebody waits for that.
const LOOK: Duration = Duration::from_millis(50);

/// What a reader follows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Follow {
    /// The Kafka.
    pub cluster: Cluster,
    /// The topic whose layouts are followed: the one that writers name.
    pub topic: String,
    /// The reader's group.
    pub group: String,
    /// Whether the group begins at the end where it has committed nothing. What it begins behind counts as worked off.
    pub from_the_end: bool,
}

impl Follow {
    /// The layouts of this topic, for a member of this group.
    pub fn new(cluster: &Cluster, topic: impl Into<String>, group: impl Into<String>) -> Self {
        Self { cluster: cluster.clone(), topic: topic.into(), group: group.into(), from_the_end: false }
    }

    /// For a group that begins at the end where it has committed nothing.
    #[must_use]
    pub fn from_the_end(mut self) -> Self {
        self.from_the_end = true;
        self
    }
}

/// A scheduler that hands a topic's records on in the order of its layouts.
pub struct Ordered<S: Scheduler> {
    shared: Arc<Shared<S>>,
    follow: Follow,
}

struct Shared<S> {
    books: Mutex<Books<S>>,
    /// There is something to be looked at.
    woken: Condvar,
    over: AtomicBool,
    /// Fires when the layouts name a topic that this member does not read.
    moved: CancellationToken,
    topics: Vec<String>,
}

struct Books<S> {
    scheduler: S,
    slots: HashMap<Epoch, Held>,
    layouts: Layouts,
    /// The newest layout whose predecessors the group has worked off.
    reached: u64,
}

/// A partition, and what is kept of it.
struct Held {
    slot: Arc<Slot>,
    /// The log was read to its end since it was assigned.
    verified: bool,
    /// The layout of the next record.
    at: Option<u64>,
    /// It waits at a record of no known layout.
    strange: bool,
    waiting: VecDeque<Records>,
}

impl<S: Scheduler> Ordered<S> {
    /// Around `scheduler`, for a member that reads these topics.
    pub fn new(scheduler: S, follow: Follow, topics: Vec<String>) -> Self {
        let books = Books { scheduler, slots: HashMap::new(), layouts: Layouts::default(), reached: 0 };
        let shared = Shared {
            books: Mutex::new(books),
            woken: Condvar::new(),
            over: AtomicBool::new(false),
            moved: CancellationToken::new(),
            topics,
        };
        Self { shared: Arc::new(shared), follow }
    }

    /// Fires when the layouts name a topic that this member does not read: it is to end, and another one to begin that does.
    #[must_use]
    pub fn moved(&self) -> CancellationToken {
        self.shared.moved.clone()
    }
}

impl<S: Scheduler> Scheduler for Ordered<S> {
    fn started(&mut self, control: &Control) {
        self.shared.books.lock().scheduler.started(control);
        let (shared, follow, control) = (self.shared.clone(), self.follow.clone(), control.clone());
        let thread = std::thread::Builder::new().name("turnstile-layouts".to_owned());
        let stop = control.clone();
        if let Err(error) = thread.spawn(move || watch(&shared, &follow, &control)) {
            stop.stop(error.into());
        }
    }

    fn assigned(&mut self, slot: &Arc<Slot>) {
        let mut books = self.shared.books.lock();
        books.scheduler.assigned(slot);
        let held = Held { slot: slot.clone(), verified: false, at: None, strange: false, waiting: VecDeque::new() };
        books.slots.insert(slot.epoch(), held);
        self.shared.woken.notify_all();
    }

    fn submit(&mut self, slot: &Arc<Slot>, records: Records) {
        let mut books = self.shared.books.lock();
        if let Some(held) = books.slots.get_mut(&slot.epoch()) {
            held.waiting.push_back(records);
            books.hand_on(slot.epoch(), &self.follow.topic);
            if books.waits() {
                self.shared.woken.notify_all();
            }
        }
    }

    fn draining(&mut self, slot: &Arc<Slot>) {
        self.shared.books.lock().scheduler.draining(slot);
    }

    fn closed(&mut self, slot: &Arc<Slot>) {
        let mut books = self.shared.books.lock();
        books.slots.remove(&slot.epoch());
        books.scheduler.closed(slot);
    }
}

impl<S: Scheduler> Books<S> {
    /// Whether anybody waits for the group or the log.
    fn waits(&self) -> bool {
        self.slots.values().any(|held| !held.verified || !held.waiting.is_empty())
    }

    /// Hands on what may be worked on.
    fn hand_on(&mut self, epoch: Epoch, topic: &str) {
        let Self { scheduler, slots, layouts, reached } = self;
        let Some(held) = slots.get_mut(&epoch) else { return };
        if !held.verified {
            return;
        }
        while let Some(mut records) = held.waiting.pop_front() {
            let Some(first) = records.first() else { continue };
            let at = held.at.or_else(|| layouts.epoch_at(held.slot.topic(), held.slot.partition(), first.offset()));
            held.at = at;
            // A topic without layouts has one, of which nobody has to know.
            let at = at.unwrap_or(if layouts.all.is_empty() { 0 } else { u64::MAX });
            let strange = at == u64::MAX;
            if strange != held.strange {
                held.strange = strange;
                let error = "it is in no known layout: written by a producer that does not follow them".into();
                held.slot
                    .set_trouble(first.offset(), strange.then(|| Trouble::Halted { offset: first.offset(), error }));
            }
            if at > *reached {
                held.waiting.push_front(records);
                return;
            }
            let Some(barrier) = records.keys().position(is_barrier) else {
                scheduler.submit(&held.slot, records);
                continue;
            };
            if barrier > 0 {
                scheduler.submit(&held.slot, records.take_first(barrier));
            }
            if let Some(barrier) = records.next() {
                // Nobody is to work on it: it is done, and the commit passes it once what lies before it is done.
                let _ = held.slot.done(&barrier);
                held.at = epoch_behind(barrier.key(), topic).or(held.at);
            }
            if records.len() > 0 {
                held.waiting.push_front(records);
            }
        }
    }
}

/// Reads the log, and asks how far the group is, when somebody waits for it.
fn watch<S: Scheduler>(shared: &Arc<Shared<S>>, follow: &Follow, control: &Control) {
    let mut reader = Reader { follow, follower: None, group: None, reached: 0 };
    // Topics of layouts that this member does not read; they may not be there yet.
    let mut missing: Vec<String> = Vec::new();
    while !shared.over.load(Ordering::Relaxed) {
        let (unverified, waits) = {
            let mut books = shared.books.lock();
            if !books.waits() {
                shared.woken.wait_for(&mut books, LOOK);
            }
            let unverified = books.slots.iter().filter(|(_, held)| !held.verified).map(|(epoch, _)| *epoch);
            (unverified.collect::<Vec<_>>(), books.waits())
        };
        let seen = match reader.look(!unverified.is_empty(), waits) {
            Ok(seen) => seen,
            Err(error @ (TopicError::Denied { .. } | TopicError::Newer { .. } | TopicError::Option { .. })) => {
                control.stop(error.into());
                return;
            }
            Err(error) => {
                tracing::warn!(topic = %follow.topic, %error, "the layouts cannot be followed; tried again");
                std::thread::sleep(LOOK);
                continue;
            }
        };
        if let Some((layouts, reached)) = &seen {
            // Those of the past may have been deleted.
            let ahead = layouts.opened().chain(layouts.pending()).filter(|layout| layout.epoch >= *reached);
            missing =
                ahead.map(|layout| &layout.topic).filter(|topic| !shared.topics.contains(topic)).cloned().collect();
        }
        if missing.iter().any(|topic| reader.is_there(topic)) {
            shared.moved.cancel();
        }
        let mut books = shared.books.lock();
        if let Some((layouts, reached)) = seen {
            books.reached = books.reached.max(reached);
            books.layouts = layouts;
        }
        for epoch in unverified {
            if let Some(held) = books.slots.get_mut(&epoch) {
                held.verified = true;
            }
        }
        let all: Vec<_> = books.slots.keys().copied().collect();
        for epoch in all {
            books.hand_on(epoch, &follow.topic);
        }
        if books.waits() {
            drop(books);
            // The sooner what is done is committed, the sooner all go on.
            control.commit();
            std::thread::sleep(LOOK);
        }
    }
}

struct Reader<'a> {
    follow: &'a Follow,
    follower: Option<Follower>,
    group: Option<BaseConsumer>,
    reached: u64,
}

impl Reader<'_> {
    /// The layouts, and the newest of them that the group may work on; none if nothing has changed and nobody waits.
    fn look(&mut self, exact: bool, waits: bool) -> Result<Option<(Layouts, u64)>, TopicError> {
        let Follow { cluster, topic, group, .. } = self.follow;
        // A topic may come to its first layout while this runs; somebody waits behind its barrier then.
        let first = self.follower.is_none();
        if first && (exact || waits) {
            self.follower = Follower::open(cluster, topic)?;
        }
        let Some(follower) = &mut self.follower else { return Ok(exact.then(|| (Layouts::default(), 0))) };
        if exact || first {
            follower.catch_up()?;
        } else if !follower.poll(Duration::ZERO) && !waits {
            return Ok(None);
        }
        let layouts = follower.layouts.clone();
        if self.group.is_none() {
            self.group = Some(cluster.consumer(Some(group))?);
        }
        let reached = self.reached(&layouts)?;
        Ok(Some((layouts, reached)))
    }

    /// One after another, from where it was: a layout without records is worked off at once, and says nothing of those before.
    fn reached(&mut self, layouts: &Layouts) -> Result<u64, TopicError> {
        let opened: Vec<_> = layouts.opened().collect();
        let mut reached = self.reached.max(opened.first().map_or(0, |layout| layout.epoch));
        for pair in opened.windows(2) {
            let [old, new] = pair else { continue };
            if new.epoch > reached && self.worked_off(old, new)? {
                reached = new.epoch;
            } else if new.epoch > reached {
                break;
            }
        }
        self.reached = reached;
        Ok(reached)
    }

    /// Whether the group has committed all of the old layout.
    fn worked_off(&self, old: &Layout, new: &Layout) -> Result<bool, TopicError> {
        let Some(client) = &self.group else { return Ok(false) };
        let offsets = match committed(client, &old.topic, old.partitions) {
            Ok(offsets) => offsets,
            Err(error) => return if self.is_gone(&old.topic) { Ok(true) } else { Err(error) },
        };
        for ((partition, offset), barrier) in (0..).zip(offsets).zip(&new.barriers) {
            let past = |offset: i64| offset >= *barrier;
            if offset.is_some_and(past) || (offset.is_none() && self.follow.from_the_end) {
                continue;
            }
            // What is kept no longer does not have to be worked off.
            match watermarks(client, &old.topic, partition) {
                Ok((first, _)) if past(first) => {}
                Ok(_) => return Ok(false),
                Err(error) => return if self.is_gone(&old.topic) { Ok(true) } else { Err(error) },
            }
        }
        Ok(true)
    }

    fn is_gone(&self, topic: &str) -> bool {
        let client = self.group.as_ref();
        client.is_some_and(|client| matches!(crate::cluster::topic(client, topic), Err(TopicError::UnknownTopic(_))))
    }

    fn is_there(&self, topic: &str) -> bool {
        self.group.as_ref().is_some_and(|client| crate::cluster::topic(client, topic).is_ok())
    }
}

impl<S: Scheduler> Drop for Ordered<S> {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.woken.notify_all();
    }
}

impl<S: Scheduler> fmt::Debug for Ordered<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered").field("follow", &self.follow).finish_non_exhaustive()
    }
}
