//! Writes down what became of jobs, many in one call: while a call is under way, what is done meanwhile gathers.

use std::sync::Arc;
use std::time::Duration;

use redis_lua::redis::{FromRedisValue, ParsingError, Value, cmd, from_redis_value};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use turnstile_core::{Backoff, ErrorKind, Handler};

use crate::desk::{Desk, Settled, Term, What};
use crate::job::{Job, Jobs};
use crate::runner;
use crate::scripts::{SETTLE, TRIM};

/// The most in one call: some milliseconds of the server's time.
const BATCH: usize = 1_000;
/// How long what is done waits for company, while more is in hand.
const LINGER: Duration = Duration::from_millis(1);
/// How often acknowledged jobs are removed.
const TRIM_EVERY: Duration = Duration::from_millis(100);
/// So many acknowledged jobs may stay behind one that takes its time, before each is removed by itself.
const MOST_KEPT: i64 = 1_000;
/// The longest error text of a dead letter, in bytes.
const ERROR_LIMIT: usize = 4096;

/// Which command forgets what is acknowledged where trimming from the oldest on will not do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forget {
    No,
    Delete,
    /// Redis 8.2 and later: what all groups have acknowledged.
    AckDelete,
}

impl Forget {
    const fn word(self) -> &'static str {
        match self {
            Self::No => "-",
            Self::Delete => "XDEL",
            Self::AckDelete => "XACKDEL",
        }
    }
}

struct Settler<H> {
    desk: Arc<Desk<H>>,
    forget: Forget,
    ack_deletes: bool,
    /// Acknowledged since the last trim, which was then.
    untrimmed: bool,
    trimmed: Instant,
}

/// Until `end`, and then until nothing is left to write down.
pub(crate) async fn run<H: Handler<Job>>(desk: Arc<Desk<H>>, end: CancellationToken) {
    let ack_deletes = match desk.client.run::<Vec<Value>>(cmd("COMMAND").arg("INFO").arg("XACKDEL")).await {
        Ok(commands) => commands.iter().any(|command| !matches!(command, Value::Nil)),
        Err(_) => false,
    };
    let mut settler = Settler { desk, forget: Forget::No, ack_deletes, untrimmed: false, trimmed: Instant::now() };
    loop {
        let (batch, term) = settler.gathered();
        if batch.is_empty() {
            let quiet = if settler.untrimmed { TRIM_EVERY } else { Duration::from_secs(3600) };
            let idle = tokio::select! {
                () = settler.desk.settled.notified() => false,
                () = end.cancelled() => settler.desk.state().to_settle.is_empty(),
                () = sleep(quiet) => true,
            };
            if idle && settler.untrimmed {
                settler.trim().await;
            }
            if idle && end.is_cancelled() {
                return;
            }
            if settler.more_in_hand() && !end.is_cancelled() {
                sleep(LINGER).await;
            }
            continue;
        }
        settler.write(&term, batch).await;
        if settler.untrimmed && settler.trimmed.elapsed() >= TRIM_EVERY {
            settler.trim().await;
        }
    }
}

impl<H: Handler<Job>> Settler<H> {
    /// Whether jobs are in hand that are not done.
    fn more_in_hand(&self) -> bool {
        let state = self.desk.state();
        state.in_hand.len() > state.to_settle.len()
    }

    fn gathered(&self) -> (Vec<Settled>, Arc<Term>) {
        let mut state = self.desk.state();
        let most = state.to_settle.len().min(BATCH);
        let batch: Vec<Settled> = match most < state.to_settle.len() {
            true => state.to_settle.drain(..most).collect(),
            false => std::mem::take(&mut state.to_settle),
        };
        (batch, state.term.clone())
    }

    /// Until it is written down, or the term is over.
    async fn write(&mut self, term: &Arc<Term>, batch: Vec<Settled>) {
        let desk = self.desk.clone();
        let mut delays = Backoff::new(Duration::from_millis(20), Duration::from_secs(1)).delays();
        // Plain acknowledgements first: they are one command.
        let plain = |settled: &Settled| {
            matches!(settled.what, What::Done | What::Skipped | What::NotMeant)
                && settled.job.effects.lock().is_empty()
                && settled.job.lane(desk.settings.order).is_none()
        };
        let (plain, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(plain);
        loop {
            let under_way = desk.exchange.lock().await;
            let result = self.call(term, &plain, &others).run::<Reply>(&desk.client).await;
            match result {
                Ok(reply) if reply.alive => return self.apply(term, plain, others, reply),
                Ok(_) => {
                    let jobs = plain.len() + others.len();
                    warn!(queue = %desk.group.queue, jobs, "this worker counted as dead when jobs were done: others do them again");
                    desk.metrics.late.increment(u64::try_from(jobs).unwrap_or(u64::MAX));
                    desk.state().fenced = true;
                    desk.look.notify_one();
                    return;
                }
                Err(error) if !error.is_transient() && error.kind() != ErrorKind::OutOfMemory => {
                    drop(under_way);
                    return self.cannot_be_written(term, plain, others, error).await;
                }
                Err(error) => {
                    // Jobs of lanes may have come with the reply.
                    desk.state().lost_reply |= error.outcome_unknown() && !others.is_empty();
                    warn!(queue = %desk.group.queue, %error, "what is done cannot be written down yet");
                    if term.left().is_zero() {
                        return;
                    }
                    drop(under_way);
                    sleep(delays.next().unwrap_or_default()).await;
                }
            }
        }
    }

    /// The server will go on refusing this. One job must not hold up the others; one by itself stays in hand.
    async fn cannot_be_written(
        &mut self,
        term: &Arc<Term>,
        plain: Vec<Settled>,
        mut others: Vec<Settled>,
        error: redis_lua::Error,
    ) {
        if plain.is_empty() && others.len() == 1 {
            others.drain(..).for_each(|settled| runner::halt(&self.desk, settled.job, error.clone().into()));
        } else if others.is_empty() {
            tracing::error!(queue = %self.desk.group.queue, jobs = plain.len(), %error, "what is done cannot be acknowledged: it is done again by others");
        } else {
            if !plain.is_empty() {
                Box::pin(self.write(term, plain)).await;
            }
            for settled in others {
                Box::pin(self.write(term, vec![settled])).await;
            }
        }
    }

    fn call(&self, term: &Term, plain: &[Settled], others: &[Settled]) -> redis_lua::Invocation<'static> {
        let desk = &self.desk;
        let done = others.iter().filter(|settled| matches!(settled.what, What::Done));
        let keys = done
            .flat_map(|settled| settled.job.effects.lock().iter().map(|effect| effect.key.clone()).collect::<Vec<_>>());
        // What is to be tried comes first, also where each lane has a next job.
        let take_next = {
            let state = desk.state();
            state.open && state.due.is_none_or(|due| due > Instant::now())
        };
        let mut call = desk
            .group
            .call(&SETTLE, &term.consumer, desk.settings.order.word(), keys)
            .arg(i32::from(take_next))
            .arg(self.forget.word())
            .arg(plain.len());
        for settled in plain {
            call = call.arg(settled.job.id.to_string());
        }
        for Settled { job, what } in others {
            let word = match what {
                What::Done | What::Skipped | What::NotMeant => "ack",
                What::Again(_) => "again",
                What::Dead(_) => "dead",
                What::Back(_) => "back",
            };
            call = call.arg(word).arg(job.id.to_string()).arg(job.deliveries.get()).arg(&desk.lane(job)[..]);
            call = match what {
                What::Done | What::Skipped | What::NotMeant => {
                    let effects = job.effects.lock();
                    // What is skipped has no effect.
                    let effects = if matches!(what, What::Done) { &effects[..] } else { &[] };
                    effects.iter().fold(call.arg(effects.len()), |call, effect| {
                        let call = call.arg(effect.words.len());
                        effect.words.iter().fold(call, |call, word| call.arg(&word[..]))
                    })
                }
                What::Again(delay) => call.arg(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
                What::Dead(error) => {
                    let mut end = error.len().min(ERROR_LIMIT);
                    while !error.is_char_boundary(end) {
                        end -= 1;
                    }
                    let call = call.arg(job.deliveries.get()).arg(&error[..end]).arg(job.fields.len() * 2);
                    job.fields.iter().fold(call, |call, (name, value)| call.arg(&name[..]).arg(&value[..]))
                }
                What::Back(deliveries) => call.arg(*deliveries),
            };
        }
        call
    }

    fn apply(&mut self, term: &Arc<Term>, plain: Vec<Settled>, others: Vec<Settled>, reply: Reply) {
        let desk = &self.desk;
        desk.note_gone(reply.gone);
        let mut failed = Vec::new();
        let mut soonest: Option<Duration> = None;
        {
            let mut report = desk.report.lock();
            let missing = u64::try_from(plain.len()).unwrap_or(u64::MAX).saturating_sub(reply.acknowledged);
            if missing > 0 {
                debug!(queue = %desk.group.queue, jobs = missing, "done, and no longer pending: somebody else acknowledged or removed them");
            }
            let settled = plain.iter().map(|settled| (settled, &Done::Yes));
            for (Settled { job, what }, done) in settled.chain(others.iter().zip(&reply.others)) {
                match done {
                    Done::Yes => {}
                    Done::NotOurs => {
                        debug!(queue = %desk.group.queue, job = %job.id, "settled before, or by somebody else");
                        if matches!(what, What::Again(_) | What::Back(_)) {
                            continue;
                        }
                    }
                    Done::Failed(error) => {
                        failed.push((job.id, error.clone()));
                        continue;
                    }
                }
                self.untrimmed |= !matches!(what, What::Again(_) | What::Back(_));
                match what {
                    What::Done => report.done += 1,
                    What::Skipped => (report.done, report.skipped) = (report.done + 1, report.skipped + 1),
                    What::NotMeant => {}
                    What::Again(delay) => {
                        report.retries += 1;
                        desk.metrics.retries.increment(1);
                        soonest = Some(soonest.map_or(*delay, |soonest| soonest.min(*delay)));
                    }
                    What::Dead(error) => {
                        warn!(queue = %desk.group.queue, job = %job.id, attempts = job.deliveries, error, "set aside");
                        report.dead_letters += 1;
                        desk.metrics.dead_letters.increment(1);
                    }
                    What::Back(_) => report.handed_back += 1,
                }
            }
            let done = plain.iter().chain(&others).filter(|settled| matches!(settled.what, What::Done | What::Skipped));
            desk.metrics.done.increment(u64::try_from(done.count()).unwrap_or(u64::MAX));
            let skipped = plain.iter().chain(&others).filter(|settled| matches!(settled.what, What::Skipped)).count();
            if skipped > 0 {
                desk.metrics.skipped.increment(u64::try_from(skipped).unwrap_or(u64::MAX));
            }
        }
        {
            let mut state = desk.state();
            for settled in plain.iter().chain(&others) {
                if failed.iter().all(|(id, _)| *id != settled.job.id) {
                    state.forget(&settled.job);
                }
            }
            desk.metrics.in_hand.set(u32::try_from(state.in_hand.len()).unwrap_or(u32::MAX));
        }
        for settled in others {
            if let Some((_, error)) = failed.iter().find(|(id, _)| *id == settled.job.id) {
                self.effect_failed(term, settled, error);
            }
        }
        let desk = &self.desk;
        if let Some(delay) = soonest {
            desk.due_in(delay);
        }
        if !reply.next.is_empty() {
            desk.receive(term, reply.next);
            runner::kick(desk);
        }
    }

    /// A failed attempt, by the handler's policy.
    fn effect_failed(&self, term: &Arc<Term>, settled: Settled, error: &str) {
        let desk = &self.desk;
        let job = settled.job;
        warn!(queue = %desk.group.queue, job = %job.id, error, "an effect failed, so the job is not acknowledged");
        job.effects.lock().clear();
        let retries = &desk.settings.retries;
        let nth = usize::try_from(job.deliveries.get() - 1).unwrap_or(usize::MAX).min(64);
        let what = match retries.allows_after(job.deliveries) {
            true => What::Again(retries.delays().nth(nth).unwrap_or_default()),
            false => What::Dead(format!("an effect failed: {error}")),
        };
        desk.settle(term, Settled { job, what });
    }

    async fn trim(&mut self) {
        (self.untrimmed, self.trimmed) = (false, Instant::now());
        if !self.desk.settings.trims {
            return;
        }
        let call = TRIM.keys([&self.desk.group.queue]).arg("-").arg(-1);
        match call.run::<(u64, i64, u64)>(&self.desk.client).await {
            Ok((_, kept, groups)) => {
                self.forget = match (kept, groups) {
                    (_, 2..) if self.ack_deletes => Forget::AckDelete,
                    (kept, 1) if kept > MOST_KEPT && self.ack_deletes => Forget::AckDelete,
                    (kept, 1) if kept > MOST_KEPT => Forget::Delete,
                    _ => Forget::No,
                };
            }
            Err(error) => debug!(queue = %self.desk.group.queue, %error, "not trimmed"),
        }
    }
}

struct Reply {
    alive: bool,
    acknowledged: u64,
    others: Vec<Done>,
    next: Vec<Job>,
    gone: u64,
}

enum Done {
    Yes,
    NotOurs,
    Failed(String),
}

impl FromRedisValue for Reply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (alive, acknowledged, others, next, gone): (bool, u64, Vec<Value>, Jobs, u64) = from_redis_value(value)?;
        let others = others.into_iter().map(|done| match done {
            Value::Int(0) => Ok(Done::NotOurs),
            Value::Int(_) => Ok(Done::Yes),
            other => String::from_redis_value(other).map(Done::Failed),
        });
        Ok(Self { alive, acknowledged, others: others.collect::<Result<_, _>>()?, next: next.0, gone })
    }
}
