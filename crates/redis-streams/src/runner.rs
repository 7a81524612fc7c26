//! Runners take ready jobs through the handler, one after another. Each that finds more work starts the next runner, up to
//! the worker's concurrency: so quick jobs need few of them, and slow ones get as many as there may be.

use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt;
use redis_lua::Key;
use tracing::{Instrument, debug_span, error, info, warn};
use turnstile_core::{AtLimit, Attempt, Handler, Outcome};

use crate::desk::{Desk, Settled, State, Term, What};
use crate::job::{FOR, Job};

/// Starts a runner if there is something to run.
pub(crate) fn kick<H: Handler<Job>>(desk: &Arc<Desk<H>>) {
    start(desk, &mut desk.state());
}

fn start<H: Handler<Job>>(desk: &Arc<Desk<H>>, state: &mut State) {
    if state.open && !state.starting && !state.ready.is_empty() && state.running < desk.settings.concurrency {
        (state.starting, state.running) = (true, state.running + 1);
        tokio::spawn(run(desk.clone()));
    }
}

async fn run<H: Handler<Job>>(desk: Arc<Desk<H>>) {
    let mut first = true;
    while let Some((term, job)) = next(&desk, std::mem::take(&mut first)) {
        if let Some(settled) = work(&desk, &term, job).await {
            desk.settle(&term, settled);
        }
        tokio::task::coop::consume_budget().await;
    }
}

fn next<H: Handler<Job>>(desk: &Arc<Desk<H>>, first: bool) -> Option<(Arc<Term>, Job)> {
    let mut state = desk.state();
    state.starting &= !first;
    // After a pause of the whole process nothing is begun before the control has looked whether it is still ours.
    let job = if state.open && !state.term.left().is_zero() { state.ready.pop_front() } else { None };
    match job {
        Some(job) => {
            start(desk, &mut state);
            Some((state.term.clone(), job))
        }
        None => {
            state.running -= 1;
            let room = desk.wanted_room_is_there(&mut state) || !state.open;
            drop(state);
            if room {
                desk.look.notify_one();
            }
            None
        }
    }
}

/// Takes one job through the handler. `None` if it stays in hand, or is no longer ours.
async fn work<H: Handler<Job>>(desk: &Desk<H>, term: &Arc<Term>, job: Job) -> Option<Settled> {
    if job.field(FOR).is_some_and(|group| group != desk.group.name.as_bytes()) {
        return Some(Settled { job, what: What::NotMeant });
    }
    let retries = &desk.settings.retries;
    let before = NonZeroU32::new(job.deliveries.get() - 1);
    if retries.at_limit() == AtLimit::DeadLetter && before.is_some_and(|before| !retries.allows_after(before)) {
        let text = "no worker came to an end with it: each died, or was taken for dead, while it was at this job";
        return Some(Settled { job, what: What::Dead(text.into()) });
    }
    let Some(outcome) = attempt(desk, term, &job).await else {
        // Dropped: handed back at shutdown; when the term is over, there is nothing to hand back.
        let deliveries = job.deliveries.get() - 1;
        return Some(Settled { job, what: What::Back(deliveries) });
    };
    let foreign = job.effects.lock().iter().find_map(|effect| {
        let tag = Key::raw(&effect.key).slot_tag();
        (tag != desk.group.queue.slot_tag()).then(|| effect.key.clone())
    });
    let outcome = match (outcome, foreign) {
        (Outcome::Done, Some(key)) => Outcome::retry(anyhow!(
            "an effect on {key:?}, which is not of the queue's hash tag {{{}}}: take a key by `Name::key`",
            desk.group.queue.slot_tag()
        )),
        (outcome, _) => outcome,
    };
    let what = match outcome {
        Outcome::Done => What::Done,
        Outcome::Skip(reason) => {
            info!(queue = %desk.group.queue, job = %job.id, reason, "skipped");
            What::Skipped
        }
        Outcome::DeadLetter(error) => What::Dead(format!("{error:#}")),
        Outcome::Retry { error, .. } if !retries.allows_after(job.deliveries) => match retries.at_limit() {
            AtLimit::DeadLetter => What::Dead(format!("{error:#}")),
            _ => {
                halt(desk, job, error);
                return None;
            }
        },
        Outcome::Retry { after, error } => {
            let nth = usize::try_from(job.deliveries.get() - 1).unwrap_or(usize::MAX).min(64);
            let delay = after.or_else(|| retries.delays().nth(nth)).unwrap_or_default();
            let error = format!("{error:#}");
            warn!(queue = %desk.group.queue, job = %job.id, attempt = job.deliveries, ?delay, error, "trying again");
            What::Again(delay)
        }
        Outcome::Stop(error) => {
            desk.stop(error);
            What::Back(job.deliveries.get() - 1)
        }
        _ => What::Again(Duration::ZERO),
    };
    Some(Settled { job, what })
}

/// One attempt; `None` if it was dropped because it is not wanted any more.
async fn attempt<H: Handler<Job>>(desk: &Desk<H>, term: &Term, job: &Job) -> Option<Outcome> {
    let token = term.token();
    let work = AssertUnwindSafe(desk.handler.handle(job, Attempt::new(job.deliveries, &token))).catch_unwind();
    let limited = async {
        match desk.settings.timeout {
            None => Ok(work.await),
            Some(limit) => tokio::time::timeout(limit, work).await,
        }
    };
    let span = debug_span!("job", queue = %desk.group.queue, id = %job.id, attempt = job.deliveries);
    let watched = async {
        tokio::select! {
            biased;
            outcome = limited => Some(outcome),
            () = term.abandoned.cancelled() => None,
        }
    };
    let outcome = if span.is_disabled() { watched.await } else { watched.instrument(span).await };
    Some(match outcome? {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Outcome::retry(anyhow!("the handler panicked: {text}"))
        }
        Err(_) => {
            Outcome::retry(anyhow!("it took longer than the {:?} it has", desk.settings.timeout.unwrap_or_default()))
        }
    })
}

/// Leaves a job in hand, for somebody to look.
pub(crate) fn halt<H>(desk: &Desk<H>, job: Job, cause: anyhow::Error) {
    let place = format!("{}, job {}", desk.group.queue, job.id);
    error!(queue = %desk.group.queue, job = %job.id, error = format!("{cause:#}"), "halted: it stays in hand until the worker ends");
    desk.report.lock().halted.push((place.into(), cause));
    desk.state().halted.push(job);
}
