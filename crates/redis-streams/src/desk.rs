//! What a worker has in hand: read and not begun, being worked on, settled and not yet written down. And its term: the
//! time for which the group counts it as alive under one consumer's name.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use redis_lua::Client;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnstile_core::{Clock, Report, SystemClock};

use crate::job::{Job, JobId};
use crate::keys::Group;
use crate::metric::Metrics;
use crate::worker::Settings;

/// The time for which a worker is alive under one name. Once the group takes it for dead, that name owns nothing any
/// more, and a new term begins under another.
pub(crate) struct Term {
    pub consumer: Arc<str>,
    /// Fires some time before the end, for handlers.
    cancelled: Mutex<Arc<CancellationToken>>,
    /// Fires when handlers are to be dropped.
    pub abandoned: CancellationToken,
    /// When it ends by the [`SystemClock`], in ns, counted from when the last sign of life that was heard was sent.
    until: AtomicU64,
}

impl Term {
    pub fn new(consumer: Arc<str>, until: Duration) -> Arc<Self> {
        let until = AtomicU64::new(nanos(until));
        Arc::new(Self { consumer, cancelled: Mutex::default(), abandoned: CancellationToken::new(), until })
    }

    /// What is left of it: nothing, once others may have been given what is in hand.
    pub fn left(&self) -> Duration {
        if self.abandoned.is_cancelled() {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.until.load(Ordering::Acquire).saturating_sub(nanos(SystemClock.now())))
    }

    pub fn prolong(&self, until: Duration) {
        self.until.store(nanos(until), Ordering::Release);
        let mut cancelled = self.cancelled.lock();
        if cancelled.is_cancelled() {
            *cancelled = Arc::default();
        }
    }

    pub fn token(&self) -> Arc<CancellationToken> {
        self.cancelled.lock().clone()
    }

    pub fn warn(&self) {
        self.cancelled.lock().cancel();
    }

    pub fn end(&self) {
        self.warn();
        self.abandoned.cancel();
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What became of a job, to be written down.
pub(crate) struct Settled {
    pub job: Job,
    pub what: What,
}

pub(crate) enum What {
    Done,
    Skipped,
    /// For another group.
    NotMeant,
    Again(Duration),
    Dead(String),
    /// Handed back; so many deliveries count.
    Back(u32),
}

pub(crate) struct Desk<H> {
    pub client: Client,
    pub group: Group,
    pub settings: Settings,
    pub handler: Arc<H>,
    pub metrics: Metrics,
    pub report: Mutex<Report>,
    state: Mutex<State>,
    /// Held while a reply is under way that may bring jobs besides those of a read.
    pub exchange: tokio::sync::Mutex<()>,
    /// There is something to write down.
    pub settled: Notify,
    /// The control has something to look at.
    pub look: Notify,
}

pub(crate) struct State {
    pub term: Arc<Term>,
    pub ready: VecDeque<Job>,
    pub running: usize,
    /// A runner was started and has not looked for a job yet.
    pub starting: bool,
    /// Whether jobs are begun.
    pub open: bool,
    /// Each with which delivery it is: the same job may come again before the last word on it is heard.
    pub in_hand: HashMap<JobId, NonZeroU32>,
    pub to_settle: Vec<Settled>,
    /// Left in hand on purpose, for somebody to look.
    pub halted: Vec<Job>,
    /// How many were worked on, ever.
    pub worked: u64,
    /// The control waits for room: with so many read ahead, for so many.
    pub wanted_room: Option<(usize, usize)>,
    pub due: Option<Instant>,
    /// A message said that there is something to look for.
    pub told: bool,
    pub stopped: bool,
    /// The group took this worker for dead.
    pub fenced: bool,
    /// A reply that may have brought jobs was lost.
    pub lost_reply: bool,
}

impl State {
    /// It is no longer in hand; but it may have come again.
    pub fn forget(&mut self, job: &Job) {
        if self.in_hand.get(&job.id) == Some(&job.deliveries) {
            self.in_hand.remove(&job.id);
        }
    }
}

impl<H> Desk<H> {
    pub fn new(client: Client, group: Group, settings: Settings, handler: Arc<H>, term: Arc<Term>) -> Arc<Self> {
        let metrics = Metrics::new(&group);
        let state = State {
            term,
            ready: VecDeque::new(),
            running: 0,
            starting: false,
            open: true,
            in_hand: HashMap::new(),
            to_settle: Vec::new(),
            halted: Vec::new(),
            worked: 0,
            wanted_room: None,
            due: None,
            told: false,
            stopped: false,
            fenced: false,
            lost_reply: false,
        };
        Arc::new(Self {
            client,
            group,
            settings,
            handler,
            metrics,
            report: Mutex::default(),
            state: Mutex::new(state),
            exchange: tokio::sync::Mutex::default(),
            settled: Notify::new(),
            look: Notify::new(),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn term(&self) -> Arc<Term> {
        self.state.lock().term.clone()
    }

    /// Jobs have come. They count only if they came in this term.
    pub fn receive(&self, term: &Arc<Term>, jobs: Vec<Job>) {
        let mut state = self.state.lock();
        if Arc::ptr_eq(&state.term, term) {
            state.in_hand.extend(jobs.iter().map(|job| (job.id, job.deliveries)));
            state.ready.extend(jobs);
        }
    }

    /// A job was worked on in this term.
    pub fn settle(&self, term: &Arc<Term>, settled: Settled) {
        let mut state = self.state.lock();
        state.worked += 1;
        if !Arc::ptr_eq(&state.term, term) {
            drop(state);
            tracing::warn!(queue = %self.group.queue, job = %settled.job.id, "this worker counted as dead when the job was done: another does it again");
            self.metrics.late.increment(1);
            return;
        }
        state.to_settle.push(settled);
        let first = state.to_settle.len() == 1;
        let room = self.wanted_room_is_there(&mut state);
        drop(state);
        if first {
            self.settled.notify_one();
        }
        if room {
            self.look.notify_one();
        }
    }

    /// How many more jobs may come, with so many read ahead.
    pub fn room(&self, state: &State, ahead: usize) -> usize {
        (self.settings.concurrency + ahead).saturating_sub(state.running + state.ready.len())
    }

    /// Whether what the control waits for is there; it is told once.
    pub fn wanted_room_is_there(&self, state: &mut State) -> bool {
        let there = state.wanted_room.is_some_and(|(ahead, least)| self.room(state, ahead) >= least);
        if there {
            state.wanted_room = None;
        }
        there
    }

    /// A new term: what was in hand is no longer ours.
    pub fn begin(&self, term: Arc<Term>) {
        let mut state = self.state.lock();
        state.term.end();
        let lost = state.in_hand.len();
        state.term = term;
        state.ready.clear();
        state.in_hand.clear();
        state.to_settle.clear();
        state.halted.clear();
        (state.fenced, state.lost_reply, state.due) = (false, false, None);
        drop(state);
        self.metrics.fenced.increment(1);
        self.report.lock().handed_back += u64::try_from(lost).unwrap_or(u64::MAX);
        if lost > 0 {
            tracing::warn!(queue = %self.group.queue, jobs = lost, "what was in hand is others' now");
        }
    }

    pub fn stop(&self, error: anyhow::Error) {
        self.report.lock().stopped_by.get_or_insert(error);
        self.state.lock().stopped = true;
        self.look.notify_one();
    }

    pub fn due_in(&self, delay: Duration) {
        let due = Instant::now() + delay;
        let mut state = self.state.lock();
        if state.due.is_none_or(|earlier| due < earlier) {
            state.due = Some(due);
            drop(state);
            self.look.notify_one();
        }
    }

    /// Says that jobs are lost.
    pub fn note_gone(&self, gone: u64) {
        if gone > 0 {
            tracing::error!(queue = %self.group.queue, jobs = gone, "jobs were removed from the stream by somebody else before they were done, and are lost");
            self.metrics.gone.increment(gone);
        }
    }

    /// What the key of a job's lane is to a script: `k` and the key, or `-`.
    pub fn lane(&self, job: &Job) -> Bytes {
        match job.lane(self.settings.order) {
            Some(key) => [b"k", key].concat().into(),
            None => Bytes::from_static(b"-"),
        }
    }
}
