//! The run of a worker: what it does when. Its reads, its chores, its place in the group and its end are in files of their
//! own.

mod chores;
mod ending;
mod membership;
mod reading;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use redis_lua::{Client, Dedicated, Error};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, warn};
use turnstile_core::{Backoff, ErrorKind, Handler, Report, Shutdown};

use self::membership::{follow, join, leave, watch};
use self::reading::{Rate, Reading};
use crate::desk::Desk;
use crate::error::RunError;
use crate::job::Job;
use crate::keys::Group;
use crate::settle;
use crate::worker::Settings;

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
    /// Whether it is for us to move delayed jobs, and when the next is due.
    moves: bool,
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
            moves: false,
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
            let (stopped, fenced, due, told) = {
                let mut state = desk.state();
                (state.stopped, state.fenced, state.due, std::mem::take(&mut state.told))
            };
            if told && self.moves {
                self.delayed = Some(Instant::now());
            }
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
}
