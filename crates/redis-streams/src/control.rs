//! The run of a worker: reads, gives signs of life, takes what is to be tried again, moves what is due, and ends in an
//! orderly way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis_lua::redis::cmd;
use redis_lua::{Client, Dedicated, Error, Inbox};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, error, info, warn};
use turnstile_core::{Backoff, Clock, ErrorKind, Handler, Owner, Report, Shutdown, SystemClock};

use crate::desk::{Desk, Settled, Term, What};
use crate::error::RunError;
use crate::job::{Job, Jobs, Read};
use crate::keys::{Group, LOOK};
use crate::runner;
use crate::scripts::{BEAT, FETCH, JOIN, LEAVE, MOVE, RECOVER, REPAIR, TAKE};
use crate::settle;
use crate::worker::{Order, Settings, Start};

/// How long a read waits on the server for a job.
const BLOCK: Duration = Duration::from_secs(5);
/// On a cluster, where no other connection can end the wait.
const BLOCK_ON_CLUSTER: Duration = Duration::from_secs(1);
/// Jobs are read ahead as far as they are begun within this time.
const AHEAD: Duration = Duration::from_millis(10);
/// Delayed jobs, and entries of lanes, in one call.
const BATCH: usize = 100;
/// The most jobs that are worked on and not written down.
const MOST_UNWRITTEN: usize = 20_000;

pub(crate) async fn run<H: Handler<Job>>(
    client: Client,
    group: Group,
    settings: Settings,
    handler: Arc<H>,
    shutdown: Shutdown,
) -> Result<Report, RunError> {
    client.ready().await?;
    let term = join(&client, &group, &settings).await?;
    let desk = Desk::new(client, group, settings, handler, term);
    let told = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let settler = tokio::spawn(settle::run(desk.clone(), told.clone()));
    tasks.spawn(follow(desk.clone()));
    tasks.spawn(watch(desk.clone()));
    // However this future ends: handlers are dropped, and what is done is still written down.
    let _ended = (told.clone().drop_guard(), Ended(desk.clone()));
    let mut control = Control::new(desk.clone());
    let result = control.serve(&shutdown).await;
    control.finish(&shutdown, result.is_ok()).await;
    told.cancel();
    let rest = desk.client.response_timeout() * 2;
    if timeout(rest, settler).await.is_err() {
        warn!(queue = %desk.group.queue, "what is done could not be written down: it is done again by others");
    }
    leave(&desk).await;
    result?;
    let report = std::mem::take(&mut *desk.report.lock());
    Ok(report)
}

struct Ended<H>(Arc<Desk<H>>);

impl<H> Drop for Ended<H> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open = false;
        state.term.end();
    }
}

/// Enters the group under a new consumer's name.
async fn join(client: &Client, group: &Group, settings: &Settings) -> Result<Arc<Term>, RunError> {
    let owner = Owner::random().to_string();
    let consumer: Arc<str> = format!("{}:{}", settings.name, &owner[..8]).into();
    let start = if settings.start == Start::New { "$" } else { "0" };
    let ours = settings.order.word();
    let sent = SystemClock.now();
    let call = group.call(&JOIN, &consumer, ours, std::iter::empty()).arg(millis(settings.alive)).arg(start);
    let theirs: String = call.run(client).await?;
    if theirs != ours {
        let (queue, group) = (group.queue.as_str().into(), group.name.clone());
        return Err(RunError::OtherOrder { queue, group, theirs: theirs.into(), ours });
    }
    Ok(Term::new(consumer, sent + settings.alive))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the server will go on refusing this.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Denied | ErrorKind::WrongType | ErrorKind::Unsupported | ErrorKind::Invalid)
}

/// Whether stream or group are not there.
fn is_gone(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("NOGROUP") || text.contains("UNBLOCKED") || text.contains("no such key")
}

/// Hears of what is to be looked for.
async fn follow<H: Handler<Job>>(desk: Arc<Desk<H>>) {
    let inbox = Inbox::new(desk.client.clone());
    loop {
        match inbox.follow(&desk.group.queue, LOOK).await {
            Ok(mut follower) => loop {
                follower.next().await;
                desk.due_in(Duration::ZERO);
            },
            // Signs of life look as well, less often.
            Err(error) => debug!(queue = %desk.group.queue, %error, "no subscription"),
        }
        sleep(desk.settings.alive / 3).await;
    }
}

/// Sees to it that no handler goes on once others may have its job.
async fn watch<H: Handler<Job>>(desk: Arc<Desk<H>>) {
    let warning = desk.settings.alive / 10;
    loop {
        let term = desk.term();
        let left = term.left();
        if left.is_zero() {
            if !term.abandoned.is_cancelled() {
                warn!(queue = %desk.group.queue, "no sign of life got through in time: what is in hand may be others' now");
                term.end();
                desk.state().fenced = true;
                desk.look.notify_one();
            }
            sleep(warning).await;
        } else if left <= warning {
            term.warn();
            sleep(left).await;
        } else {
            sleep(left - warning).await;
        }
    }
}

type Reading = BoxFuture<'static, (Option<Dedicated>, Result<Vec<Job>, Error>)>;

struct Control<H> {
    desk: Arc<Desk<H>>,
    reading: Option<Reading>,
    connection: Option<Dedicated>,
    /// The id of the connection that is reading, by which another can end its wait; zero if there is none.
    waits: Arc<AtomicU64>,
    /// Fires to end the wait for new jobs.
    enough: CancellationToken,
    _enough: DropGuard,
    read_failed: Backoffs,
    /// When to give the next sign of life.
    beat: Instant,
    beat_failed: Backoffs,
    /// When a delayed job is due, if it is for us to move it.
    delayed: Option<Instant>,
    /// Until when jobs may turn up whose reply was lost.
    recover_until: Option<Instant>,
    /// Where in the lanes to look next.
    lane: Vec<u8>,
    rate: Rate,
}

struct Backoffs {
    delays: Option<Box<dyn Iterator<Item = Duration> + Send>>,
}

impl Backoffs {
    const fn new() -> Self {
        Self { delays: None }
    }

    fn next(&mut self) -> Duration {
        let delays = self
            .delays
            .get_or_insert_with(|| Box::new(Backoff::new(Duration::from_millis(10), Duration::from_secs(1)).delays()));
        delays.next().unwrap_or_default()
    }

    fn reset(&mut self) {
        self.delays = None;
    }
}

/// How many jobs are worked on in the time for which it is worth reading ahead.
struct Rate {
    since: Instant,
    worked: u64,
    ahead: usize,
}

impl Rate {
    fn ahead(&mut self, worked: u64, most: usize) -> usize {
        let elapsed = self.since.elapsed();
        if elapsed >= AHEAD {
            let jobs = u128::from(worked - self.worked) * AHEAD.as_micros() / elapsed.as_micros().max(1);
            // Where they take longer than that, each read ahead would wait for another's end.
            self.ahead = usize::try_from(jobs).unwrap_or(usize::MAX).min(most);
            (self.since, self.worked) = (Instant::now(), worked);
        }
        self.ahead
    }
}

impl<H: Handler<Job>> Control<H> {
    fn new(desk: Arc<Desk<H>>) -> Self {
        let enough = CancellationToken::new();
        Self {
            reading: None,
            connection: None,
            waits: Arc::default(),
            _enough: enough.clone().drop_guard(),
            enough,
            read_failed: Backoffs::new(),
            beat: Instant::now(),
            beat_failed: Backoffs::new(),
            delayed: None,
            recover_until: None,
            lane: b"-".to_vec(),
            rate: Rate { since: Instant::now(), worked: 0, ahead: 0 },
            desk,
        }
    }

    /// Until the shutdown begins, a handler says stop, or the server will go on refusing.
    async fn serve(&mut self, shutdown: &Shutdown) -> Result<(), RunError> {
        let desk = self.desk.clone();
        loop {
            let (stopped, fenced, due) = {
                let state = desk.state();
                (state.stopped, state.fenced, state.due)
            };
            if stopped || shutdown.is_begun() {
                return Ok(());
            }
            if fenced {
                self.begin_again(shutdown).await?;
                continue;
            }
            if Instant::now() >= self.beat {
                self.give_sign().await?;
                continue;
            }
            if due.is_some_and(|due| Instant::now() >= due) && self.take().await? {
                continue;
            }
            if self.delayed.is_some_and(|due| Instant::now() >= due) {
                self.move_delayed().await?;
                continue;
            }
            self.read();
            let due = match self.can_take() {
                true => due,
                false => None,
            };
            let next = [Some(self.beat), due, self.delayed].into_iter().flatten().min().unwrap_or(self.beat);
            tokio::select! {
                biased;
                () = shutdown.begun() => {}
                (connection, result) = async {
                    match &mut self.reading {
                        Some(reading) => reading.await,
                        None => std::future::pending().await,
                    }
                } => {
                    self.have_read(connection, result)?;
                    // The jobs first, then the next read.
                    tokio::task::yield_now().await;
                }
                () = desk.look.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Whether there is room for what is to be tried; it comes before new jobs.
    fn can_take(&self) -> bool {
        let mut state = self.desk.state();
        let there = self.desk.room(&state, self.rate.ahead) > 0;
        if !there && state.due.is_some() && state.wanted_room.is_none() {
            state.wanted_room = Some((self.rate.ahead, 1));
        }
        there
    }

    /// Begins to read, if there is room and nothing is being read.
    fn read(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let desk = self.desk.clone();
        let (count, term) = {
            let mut state = desk.state();
            let ahead = self.rate.ahead(state.worked, desk.settings.batch * 8);
            let (room, least) = (desk.room(&state, ahead), (ahead / 2).max(1));
            if room < least || state.to_settle.len() > MOST_UNWRITTEN {
                state.wanted_room = Some((ahead, least));
                return;
            }
            if state.lost_reply {
                state.lost_reply = false;
                self.recover_until = Some(Instant::now() + BLOCK + desk.client.response_timeout() * 2);
                if self.beat_failed.delays.is_none() {
                    self.beat = Instant::now();
                }
                return;
            }
            (room.min(desk.settings.batch), state.term.clone())
        };
        let connection = self.connection.take();
        let waits = self.waits.clone();
        let delay = self.read_failed.delays.is_some().then(|| self.read_failed.next());
        let enough = self.enough.clone();
        self.reading = Some(
            async move {
                if let Some(delay) = delay {
                    sleep(delay).await;
                }
                let mut connection = match connection {
                    Some(connection) => connection,
                    None => match connect(&desk.client, &waits).await {
                        Ok(connection) => connection,
                        Err(error) => return (None, Err(error)),
                    },
                };
                let read = match desk.settings.order {
                    Order::None => read_any(&desk, &term, &mut connection, count).await,
                    _ => read_in_order(&desk, &term, &mut connection, count, &enough).await,
                };
                match read {
                    Ok(jobs) => (Some(connection), Ok(jobs)),
                    Err(error) => (None, Err(error)),
                }
            }
            .boxed(),
        );
    }

    fn have_read(&mut self, connection: Option<Dedicated>, result: Result<Vec<Job>, Error>) -> Result<(), RunError> {
        self.reading = None;
        self.connection = connection;
        match result {
            Ok(jobs) => {
                self.read_failed.reset();
                if !jobs.is_empty() {
                    self.desk.receive(&self.desk.term(), jobs);
                    runner::kick(&self.desk);
                }
                Ok(())
            }
            Err(error) => self.failed(error, "nothing can be read for now"),
        }
    }

    /// What to make of an error: the end, a new term, or patience.
    fn failed(&mut self, error: Error, what: &str) -> Result<(), RunError> {
        if is_gone(&error) {
            warn!(queue = %self.desk.group.queue, group = &*self.desk.group.name, %error, "stream or group were deleted: they are made anew, and what the stream still holds is read from its oldest on");
            self.desk.state().fenced = true;
            return Ok(());
        }
        if is_final(&error) {
            error!(queue = %self.desk.group.queue, %error, "the worker ends");
            return Err(error.into());
        }
        warn!(queue = %self.desk.group.queue, %error, "{what}");
        self.desk.state().lost_reply |= error.outcome_unknown();
        self.read_failed.next();
        Ok(())
    }

    /// Ends a read that waits, and gives what it brought to the desk.
    async fn end_read(&mut self) -> Result<(), RunError> {
        let Some(reading) = self.reading.take() else { return Ok(()) };
        self.enough.cancel();
        let id = self.waits.load(Ordering::Acquire);
        if id != 0 {
            let ended: Result<bool, _> = self.desk.client.run(cmd("CLIENT").arg("UNBLOCK").arg(id)).await;
            if let Err(error) = ended {
                debug!(queue = %self.desk.group.queue, %error, "the wait cannot be ended, so it is left");
            }
        }
        let patience =
            self.desk.client.response_timeout() + Duration::from_secs(u64::from(self.desk.client.is_cluster()));
        let result = timeout(patience, reading).await;
        self.enough = CancellationToken::new();
        self._enough = self.enough.clone().drop_guard();
        match result {
            Ok((connection, result)) => self.have_read(connection, result),
            Err(_) => {
                self.desk.state().lost_reply = true;
                Ok(())
            }
        }
    }

    /// A sign of life, and what comes with it.
    async fn give_sign(&mut self) -> Result<(), RunError> {
        let desk = self.desk.clone();
        let every = desk.settings.alive / 3;
        let (term, order) = (desk.term(), desk.settings.order.word());
        let sent = SystemClock.now();
        let call = desk.group.call(&BEAT, &term.consumer, order, std::iter::empty()).arg(millis(desk.settings.alive));
        let (alive, due, delayed, orphans, gone): (i64, i64, i64, u64, u64) = match call.run(&desk.client).await {
            Ok(reply) => reply,
            Err(error) => {
                self.beat = Instant::now() + self.beat_failed.next().min(every);
                return self.failed(error, "no sign of life for now");
            }
        };
        self.beat_failed.reset();
        self.beat = Instant::now() + every;
        if alive != 1 {
            if alive < 0 {
                warn!(queue = %desk.group.queue, group = &*desk.group.name, "the group was deleted: it is made anew, and what the stream still holds is read from its oldest on");
            }
            desk.state().fenced = true;
            return Ok(());
        }
        term.prolong(sent + desk.settings.alive);
        runner::kick(&desk);
        desk.note_gone(gone);
        if orphans > 0 {
            info!(queue = %desk.group.queue, jobs = orphans, "left behind by workers that are dead");
            desk.metrics.taken_over.increment(orphans);
        }
        if let Ok(due) = u64::try_from(due) {
            desk.due_in(Duration::from_millis(due));
        }
        self.delayed = u64::try_from(delayed).ok().map(|delay| Instant::now() + Duration::from_millis(delay));
        if desk.settings.order != Order::None {
            self.repair(&term).await;
        }
        if desk.state().lost_reply {
            desk.state().lost_reply = false;
            self.recover_until = Some(Instant::now() + BLOCK + desk.client.response_timeout() * 2);
        }
        if let Some(until) = self.recover_until {
            self.recover(&term).await?;
            if Instant::now() >= until {
                self.recover_until = None;
            }
        }
        Ok(())
    }

    /// Looks for jobs that were given to this worker and never arrived.
    async fn recover(&mut self, term: &Term) -> Result<(), RunError> {
        self.end_read().await?;
        let desk = &self.desk;
        let in_hand: Vec<String> = desk.state().in_hand.iter().map(ToString::to_string).collect();
        let call = desk.group.call(&RECOVER, &term.consumer, desk.settings.order.word(), std::iter::empty());
        match in_hand.iter().fold(call, |call, id| call.arg(id)).run::<u64>(&desk.client).await {
            Ok(0) => {}
            Ok(found) => {
                info!(queue = %desk.group.queue, jobs = found, "found jobs that were given to this worker in a reply that was lost");
                desk.due_in(Duration::ZERO);
            }
            Err(error) => {
                debug!(queue = %desk.group.queue, %error, "could not look for jobs whose reply was lost");
                desk.state().lost_reply = true;
            }
        }
        Ok(())
    }

    async fn repair(&mut self, term: &Term) {
        let desk = &self.desk;
        let call = desk.group.call(&REPAIR, &term.consumer, desk.settings.order.word(), std::iter::empty());
        match call.arg(&self.lane[..]).arg(BATCH).run::<(Vec<u8>, u64)>(&desk.client).await {
            Ok((lane, gone)) => {
                self.lane = lane;
                desk.note_gone(gone);
            }
            Err(error) => debug!(queue = %desk.group.queue, %error, "the lanes were not looked at"),
        }
    }

    /// Takes what is to be tried. Whether it did anything.
    async fn take(&mut self) -> Result<bool, RunError> {
        let desk = self.desk.clone();
        let (room, term) = {
            let mut state = desk.state();
            let room = desk.room(&state, self.rate.ahead);
            if room > 0 {
                state.due = None;
            }
            (room, state.term.clone())
        };
        if room == 0 {
            return Ok(false);
        }
        let call = desk.group.call(&TAKE, &term.consumer, desk.settings.order.word(), std::iter::empty());
        let (alive, gone, next, jobs): (bool, u64, i64, Jobs) = match call.arg(room.min(BATCH)).run(&desk.client).await
        {
            Ok(reply) => reply,
            Err(error) => {
                desk.due_in(self.beat_failed.next());
                return self.failed(error, "what is to be tried again cannot be taken for now").map(|()| true);
            }
        };
        desk.state().fenced |= !alive;
        desk.note_gone(gone);
        if let Ok(next) = u64::try_from(next) {
            desk.due_in(Duration::from_millis(next));
        }
        desk.receive(&term, jobs.0);
        runner::kick(&desk);
        // A delayed job may be why it was told to look.
        if self.delayed.is_some() {
            self.delayed = Some(Instant::now());
        }
        Ok(true)
    }

    async fn move_delayed(&mut self) -> Result<(), RunError> {
        let desk = self.desk.clone();
        let term = desk.term();
        let call = desk.group.call(&MOVE, &term.consumer, desk.settings.order.word(), std::iter::empty());
        match call.arg(BATCH).run::<(u64, i64)>(&desk.client).await {
            Ok((_, next)) => {
                let next = u64::try_from(next).map_or(desk.settings.alive / 3, Duration::from_millis);
                self.delayed = Some(Instant::now() + next);
                Ok(())
            }
            Err(error) => {
                self.delayed = Some(Instant::now() + Duration::from_millis(250));
                self.failed(error, "delayed jobs cannot be moved for now")
            }
        }
    }

    /// This worker counts as dead: under another name, with nothing in hand.
    async fn begin_again(&mut self, shutdown: &Shutdown) -> Result<(), RunError> {
        let desk = self.desk.clone();
        desk.term().end();
        self.end_read().await?;
        self.connection = None;
        let mut delays = Backoff::new(Duration::from_millis(10), Duration::from_secs(1)).delays();
        loop {
            match join(&desk.client, &desk.group, &desk.settings).await {
                Ok(term) => {
                    info!(queue = %desk.group.queue, consumer = &*term.consumer, "works under a new name");
                    desk.begin(term);
                    (self.recover_until, self.delayed) = (None, None);
                    self.beat = Instant::now();
                    return Ok(());
                }
                Err(RunError::Redis(error)) if !is_final(&error) => {
                    warn!(queue = %desk.group.queue, %error, "cannot enter the group for now");
                    tokio::select! {
                        () = sleep(delays.next().unwrap_or_default()) => {}
                        () = shutdown.begun() => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Nothing more is begun; what handlers are at may finish within the limit, and the rest goes back.
    async fn finish(&mut self, shutdown: &Shutdown, orderly: bool) {
        let desk = self.desk.clone();
        desk.state().open = false;
        let limit = if orderly { shutdown.limit() } else { Duration::ZERO };
        let end = Instant::now() + limit;
        if let Err(error) = self.end_read().await {
            debug!(queue = %desk.group.queue, %error, "the last read failed");
        }
        let term = desk.term();
        let not_begun = std::mem::take(&mut desk.state().ready);
        self.hand_back(&term, not_begun);
        loop {
            if desk.state().running == 0 {
                break;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left <= limit / 5 {
                term.warn();
            }
            if left.is_zero() {
                break;
            }
            if Instant::now() >= self.beat {
                self.recover_until = None;
                if self.give_sign().await.is_err() || desk.state().fenced {
                    break;
                }
            }
            let next =
                [self.beat, end, end - limit / 5].into_iter().filter(|at| *at > Instant::now()).min().unwrap_or(end);
            let _ = timeout(
                next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
                desk.look.notified(),
            )
            .await;
        }
        // Whoever is still at it is dropped, and hands its job back.
        term.end();
        let dropped = async {
            while desk.state().running > 0 {
                let _ = timeout(Duration::from_millis(1), desk.look.notified()).await;
            }
        };
        // A handler that does not await cannot be dropped: its job goes to others all the same.
        if timeout(Duration::from_millis(500), dropped).await.is_err() {
            warn!(queue = %desk.group.queue, "handlers are still at work and do not await: others do their jobs again");
        }
        let halted = std::mem::take(&mut desk.state().halted);
        self.hand_back(&term, halted);
    }

    fn hand_back(&self, term: &Arc<Term>, jobs: impl IntoIterator<Item = Job>) {
        for job in jobs {
            let deliveries = job.deliveries.get() - 1;
            self.desk.settle(term, Settled { job, what: What::Back(deliveries) });
        }
    }
}

/// Leaves the group; whatever is still in its name goes to others.
async fn leave<H: Handler<Job>>(desk: &Desk<H>) {
    let term = desk.term();
    let call = desk.group.call(&LEAVE, &term.consumer, desk.settings.order.word(), std::iter::empty());
    match call.run::<u64>(&desk.client).await {
        Ok(jobs) => desk.report.lock().handed_back += jobs,
        Err(error) => {
            warn!(queue = %desk.group.queue, %error, "could not leave the group: what was in hand goes to others when this worker counts as dead");
        }
    }
}

async fn connect(client: &Client, waits: &AtomicU64) -> Result<Dedicated, Error> {
    let mut connection = client.dedicated(Some(BLOCK + client.response_timeout())).await?;
    // On a cluster a connection is many; where rights forbid it, the wait is simply left.
    let id = match client.is_cluster() {
        true => 0,
        false => connection.run(cmd("CLIENT").arg("ID")).await.unwrap_or_default(),
    };
    waits.store(id, Ordering::Release);
    Ok(connection)
}

fn block(client: &Client) -> u64 {
    millis(if client.is_cluster() { BLOCK_ON_CLUSTER } else { BLOCK })
}

async fn read_any<H>(desk: &Desk<H>, term: &Term, connection: &mut Dedicated, count: usize) -> Result<Vec<Job>, Error> {
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg(&*desk.group.name).arg(&*term.consumer).arg("COUNT").arg(count);
    read.arg("BLOCK").arg(block(&desk.client)).arg("STREAMS").arg(desk.group.queue.as_key()).arg(">");
    connection.run::<Read>(&read).await.map(|read| read.0)
}

async fn read_in_order<H>(
    desk: &Desk<H>,
    term: &Term,
    connection: &mut Dedicated,
    count: usize,
    enough: &CancellationToken,
) -> Result<Vec<Job>, Error> {
    let order = desk.settings.order.word();
    loop {
        let call = desk.group.call(&FETCH, &term.consumer, order, std::iter::empty());
        let (status, last, jobs): (i64, String, Jobs) =
            call.arg(count).arg(desk.settings.lanes).run(&desk.client).await?;
        if status == 0 {
            desk.state().fenced = true;
            return Ok(Vec::new());
        }
        if !jobs.0.is_empty() || enough.is_cancelled() {
            return Ok(jobs.0);
        }
        // All that was read waits in lanes; or these are full, and something has to be done first.
        if status == 2 {
            tokio::select! {
                () = sleep(Duration::from_millis(20)) => continue,
                () = enough.cancelled() => return Ok(Vec::new()),
            }
        }
        let mut wait = cmd("XREAD");
        wait.arg("COUNT")
            .arg(1)
            .arg("BLOCK")
            .arg(block(&desk.client))
            .arg("STREAMS")
            .arg(desk.group.queue.as_key())
            .arg(last);
        connection.run::<redis_lua::redis::Value>(&wait).await?;
        if enough.is_cancelled() {
            return Ok(Vec::new());
        }
    }
}
