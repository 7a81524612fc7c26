//! The polling thread: it owns the consumer, and nothing else touches it.
//!
//! One turn: take what has arrived and hand it to the scheduler; do what was asked for; let partitions rest or go on;
//! commit what is due; look after stalls. Then it sleeps until librdkafka or a worker wakes it. Rebalances come as
//! callbacks in the middle of polling, on this same thread ([`rebalance`]).

mod commit;
mod context;
mod flow;
mod judge;
mod rebalance;
mod topics;
mod watch;

pub use context::log;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use kafka_offsets::{Commit, CommitSchedule, Epoch};
use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::oneshot;
use tokio::sync::watch::Sender;
use turnstile_core::{Backoff, Report, Shutdown};

use self::context::Context;
use self::watch::Heard;
use crate::builder::Settings;
use crate::error::RunError;
use crate::metric;
use crate::pulse::Pulse;
use crate::scheduler::{Ask, Control, Metadata, Scheduler};
use crate::slot::Slot;
use crate::status::{Membership, Status};
use crate::work::Counts;

/// The longest sleep between two turns: wake-ups are hints.
const NAP: Duration = Duration::from_millis(50);
/// How many times in a row a client may fail right away before the run gives up.
const REBUILDS: u32 = 10;
/// How long to wait at the end for what was asked aside.
const PATIENCE: Duration = Duration::from_secs(5);
/// A client that held for this long did not fail right away.
const HELD: Duration = Duration::from_secs(60);

/// One run of a member.
pub(crate) struct Engine {
    settings: Settings,
    pulse: Arc<Pulse>,
    control: Control,
    counts: Arc<Counts>,
    shutdown: Shutdown,
    status: Sender<Status>,
    /// Set by callbacks: the queue may hold more although the poll gave nothing.
    served: AtomicBool,
    // Only the polling thread takes it; a mutex since callbacks reach it by a shared context.
    state: Mutex<State>,
}

struct State {
    scheduler: Option<Box<dyn Scheduler>>,
    partitions: Vec<Partition>,
    /// For commits, which are waited for by a thread of their own.
    consumer: Option<Arc<BaseConsumer<Context>>>,
    committing: Option<Receiver<KafkaResult<()>>>,
    /// Once that has come to its end, everything is to be committed.
    commit_all: bool,
    last_epoch: Option<Epoch>,
    membership: Membership,
    /// How many statistics in a row found us a member without partitions.
    without: u32,
    trouble: Option<Arc<str>>,
    end: Option<End>,
    /// Closed slots whose handlers are to be dropped then.
    abandon: Vec<(Instant, Arc<Slot>)>,
    report: Report,
    watched: Instant,
    /// When the group's coordinator was last in reach.
    reached: Instant,
    heard: Heard,
    topics: topics::Look,
}

/// A partition of ours.
struct Partition {
    slot: Arc<Slot>,
    /// Records of it were taken in this turn, and are not submitted yet.
    taking: bool,
    schedule: CommitSchedule,
    /// Whether the group has committed something.
    committed: bool,
    /// If not, from when on its beginning is to be written down.
    written_from: Instant,
    /// The commit that is under way.
    sent: Option<Commit>,
    /// Fetching rests: too much is in hand, or done beyond the commit point.
    paused: bool,
    brim: Brim,
    /// Fetching rests: the scheduler wants it.
    held: bool,
    /// The partition's end, when last heard of.
    end: Option<i64>,
    /// Whether all of it was fetched then.
    caught_up: bool,
    progress: Progress,
    stalled: bool,
}

/// Whether what is done beyond the commit point nearly fills the commits' metadata, and when that was looked at last.
struct Brim {
    full: bool,
    looked: Instant,
}

/// How far a partition was when it was last looked at, and since when its commit point stands.
struct Progress {
    done: u64,
    commit_point: i64,
    since: Instant,
}

/// How the life of one consumer ends.
enum End {
    /// The run is over.
    Over,
    /// And with an error.
    Failed(RunError),
    /// The consumer is of no use any more, or no member: make another.
    Rebuild(KafkaError),
}

impl Engine {
    pub fn new(
        settings: Settings,
        pulse: Arc<Pulse>,
        control: Control,
        counts: Arc<Counts>,
        shutdown: Shutdown,
        status: Sender<Status>,
    ) -> Arc<Self> {
        let state = State {
            scheduler: None,
            partitions: Vec::new(),
            consumer: None,
            committing: None,
            commit_all: false,
            last_epoch: None,
            membership: Membership::Joining,
            without: 0,
            trouble: None,
            end: None,
            abandon: Vec::new(),
            report: Report::default(),
            watched: Instant::now(),
            reached: Instant::now(),
            heard: Heard::Nothing,
            topics: topics::Look::default(),
        };
        Arc::new(Self {
            settings,
            pulse,
            control,
            counts,
            shutdown,
            status,
            served: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    /// The whole run, on the calling thread.
    pub fn run(self: &Arc<Self>, mut scheduler: Box<dyn Scheduler>) -> Result<Report, RunError> {
        let _span = tracing::info_span!("group", group = &*self.settings.group).entered();
        self.pulse.here();
        scheduler.started(&self.control);
        self.state.lock().scheduler = Some(scheduler);
        let ended = self.sessions();
        self.control.close();
        let mut state = self.state.lock();
        state.scheduler = None;
        for (_, slot) in state.abandon.drain(..) {
            slot.abandon();
        }
        let mut report = std::mem::take(&mut state.report);
        report.skipped = self.counts.skipped.load(Ordering::Relaxed);
        report.retries = self.counts.retries.load(Ordering::Relaxed);
        report.dead_letters = self.counts.dead_letters.load(Ordering::Relaxed);
        report.done = report.done.saturating_sub(report.dead_letters);
        report.halted = std::mem::take(&mut self.counts.halted.lock());
        tracing::info!(?report, "the run is over");
        ended.map(|()| report)
    }

    /// One consumer after another, until the run is over.
    fn sessions(self: &Arc<Self>) -> Result<(), RunError> {
        let mut delays = Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).delays();
        let mut failures = 0;
        let mut first = true;
        loop {
            let begun = Instant::now();
            let mut consumer: BaseConsumer<Context> = self
                .settings
                .client
                .create_with_context(Context(self.clone()))
                .map_err(|source| RunError::Client { source })?;
            let pulse = self.pulse.clone();
            consumer.set_nonempty_callback(move || pulse.wake());
            let consumer = Arc::new(consumer);
            self.state.lock().consumer = Some(consumer.clone());
            let end = match if first { self.look_around(&consumer) } else { Ok(()) } {
                Ok(()) => self.session(&consumer),
                Err(error) => End::Failed(error),
            };
            first = false;
            self.give_all_up(&consumer, &end);
            {
                let mut state = self.state.lock();
                (state.consumer, state.committing) = (None, None);
            }
            // Leaves the group, and serves what callbacks that brings: here, unless something that was asked aside hangs.
            let patience = Instant::now() + PATIENCE;
            while Arc::strong_count(&consumer) > 1 && Instant::now() < patience {
                park_timeout(Duration::from_millis(1));
            }
            drop(consumer);
            match end {
                End::Over => return Ok(()),
                End::Failed(error) => return Err(error),
                End::Rebuild(source) => {
                    if begun.elapsed() > HELD {
                        failures = 0;
                        delays = Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).delays();
                    }
                    failures += 1;
                    tracing::warn!(error = %source, failures, "the client is made anew");
                    metric::of_group(metric::REBUILT, &self.settings.group).increment(1);
                    if let Some(error) = self.hopeless(source, failures) {
                        return Err(error);
                    }
                    let until = Instant::now() + delays.next().unwrap_or_default();
                    while Instant::now() < until && !self.shutdown.is_begun() {
                        park_timeout(NAP.min(until.saturating_duration_since(Instant::now())));
                        self.pulse.beat();
                    }
                }
            }
        }
    }

    /// The life of one consumer.
    fn session(&self, consumer: &BaseConsumer<Context>) -> End {
        let topics: Vec<&str> = self.settings.topics.iter().map(|topic| &**topic).collect();
        if let Err(error) = consumer.subscribe(&topics) {
            return End::Rebuild(error);
        }
        self.pulse.beat();
        let mut taken = flow::Taken::default();
        loop {
            let more = match self.poll(consumer, &mut taken) {
                Ok(more) => more,
                Err(end) => return end,
            };
            self.submit(consumer, &mut taken);
            if let Some(end) = self.obey(consumer) {
                return end;
            }
            self.regulate(consumer);
            let next = self.commit(false);
            self.watch();
            self.look_after_topics();
            if let Some(end) = self.state.lock().end.take() {
                return end;
            }
            if self.shutdown.is_begun() {
                return End::Over;
            }
            if !more {
                park_timeout(next.map_or(NAP, |next| next.saturating_duration_since(Instant::now()).min(NAP)));
            }
            if !self.pulse.still_alive() {
                // Stopped for so long that the group has given our partitions to others.
                tracing::warn!(
                    "this process stood still for longer than its session lasts; its partitions are given up"
                );
                self.lose_all();
                return End::Rebuild(KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownMemberId));
            }
        }
    }

    /// Asks the brokers something that may take long, on a thread of its own; the answer wakes this one. There is none if
    /// that goes wrong.
    fn aside<T: Send + 'static>(
        &self,
        state: &State,
        name: &str,
        work: impl FnOnce(&BaseConsumer<Context>) -> T + Send + 'static,
    ) -> Receiver<T> {
        let (answer, answered) = channel();
        if let Some(consumer) = state.consumer.clone() {
            let pulse = self.pulse.clone();
            let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                let result = work(&consumer);
                drop(consumer);
                // Nobody waits any more once the partitions are gone.
                let _ = answer.send(result);
                pulse.wake();
            });
            if let Err(error) = spawned {
                tracing::error!(%error, name, "no thread to be had");
            }
        }
        answered
    }

    /// Does what was asked for by [`Control`].
    fn obey(&self, consumer: &BaseConsumer<Context>) -> Option<End> {
        for ask in self.control.take() {
            match ask {
                Ask::Commit => _ = self.commit(true),
                Ask::GroupMetadata(answer) => introduce(consumer, answer),
                Ask::Pause(slot, rest) => self.hold(consumer, &slot, rest),
                Ask::Rewind(slot) => {
                    if let Some(point) = slot.commit_point() {
                        self.restart(&mut self.state.lock(), consumer, &slot, point);
                    }
                }
                Ask::Reload(slots) => self.reload(consumer, &slots),
                Ask::Stop(error) => {
                    tracing::error!(error = format!("{error:#}"), "a handler ends the run");
                    self.state.lock().report.stopped_by.get_or_insert(error);
                    return Some(End::Over);
                }
            }
        }
        None
    }
}

/// Says who we are to the group. Not once the membership is lost: the name is empty then, and brokers would take a
/// transaction's offsets without looking whose they are.
fn introduce(consumer: &BaseConsumer<Context>, answer: oneshot::Sender<Metadata>) {
    let metadata = consumer.group_metadata();
    if let Some(metadata) = metadata.filter(|_| !consumer.assignment_lost()) {
        // Who asked may have gone.
        let _ = answer.send(Metadata(metadata));
    }
}

impl State {
    fn find(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        let is = |ours: &&mut Partition| ours.slot.partition() == partition && **ours.slot.topic() == *topic;
        self.partitions.iter_mut().find(is)
    }

    fn of(&mut self, slot: &Arc<Slot>) -> Option<&mut Partition> {
        self.partitions.iter_mut().find(|ours| Arc::ptr_eq(&ours.slot, slot))
    }

    fn next_epoch(&mut self) -> Epoch {
        *self.last_epoch.insert(self.last_epoch.map_or(Epoch::FIRST, Epoch::next))
    }
}

/// A list of those partitions.
fn list<'a>(slots: impl IntoIterator<Item = &'a Arc<Slot>>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for slot in slots {
        list.add_partition(slot.topic(), slot.partition());
    }
    list
}
