//! A worker among the others of its group: it enters, hears of what is to be looked for, watches its own time, enters again
//! under another name when that was over, and leaves.

use std::sync::Arc;
use std::time::Duration;

use redis_lua::{Client, Inbox};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};
use turnstile_core::{Backoff, Clock, Handler, Owner, Shutdown, SystemClock};

use super::{Control, is_final, millis};
use crate::desk::{Desk, Term};
use crate::error::RunError;
use crate::job::Job;
use crate::keys::{Group, LOOK};
use crate::scripts::{JOIN, LEAVE};
use crate::worker::{Settings, Start};

/// Enters the group under a new consumer's name.
pub(super) async fn join(client: &Client, group: &Group, settings: &Settings) -> Result<Arc<Term>, RunError> {
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

/// Leaves the group; whatever is still in its name goes to others.
pub(super) async fn leave<H: Handler<Job>>(desk: &Desk<H>) {
    let term = desk.term();
    let call = desk.group.call(&LEAVE, &term.consumer, desk.settings.order.word(), std::iter::empty());
    match call.run::<u64>(&desk.client).await {
        Ok(jobs) => desk.report.lock().handed_back += jobs,
        Err(error) => {
            warn!(queue = %desk.group.queue, %error, "could not leave the group: what was in hand goes to others when this worker counts as dead");
        }
    }
}

/// Hears of what is to be looked for.
pub(super) async fn follow<H: Handler<Job>>(desk: Arc<Desk<H>>) {
    let inbox = Inbox::new(desk.client.clone());
    loop {
        match inbox.follow(&desk.group.queue, LOOK).await {
            Ok(mut follower) => loop {
                follower.next().await;
                desk.state().told = true;
                desk.due_in(Duration::ZERO);
                desk.look.notify_one();
            },
            // Signs of life look as well, less often.
            Err(error) => debug!(queue = %desk.group.queue, %error, "no subscription"),
        }
        sleep(desk.settings.alive / 3).await;
    }
}

/// Sees to it that no handler goes on once others may have its job.
pub(super) async fn watch<H: Handler<Job>>(desk: Arc<Desk<H>>) {
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

impl<H: Handler<Job>> Control<H> {
    /// This worker counts as dead: under another name, with nothing in hand.
    pub(super) async fn begin_again(&mut self, shutdown: &Shutdown) -> Result<(), RunError> {
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
                    (self.recover_until, self.moves, self.delayed) = (None, false, None);
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
}
