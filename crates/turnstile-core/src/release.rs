//! Giving back: at once where the caller waits for it, and in the background until it is confirmed or over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::manager::Shared;
use crate::table::{GivenUp, Hold, Nanos};
use crate::{
    BackendError, Backoff, LeaseBackend, LostReason, Owner, ReleaseError, ReleaseOutcome, ReleaseReply, Resource,
};

/// What a shutdown returns at the most; the log has all.
const MOST_UNCONFIRMED: usize = 1_000;

type Reply = Result<ReleaseReply, BackendError>;

/// What is to be given back on the servers. However it ends, by its runtime's end too, the next in the local queue
/// gets its turn.
pub(crate) struct Release<B: LeaseBackend> {
    pub(crate) shared: Arc<Shared<B>>,
    pub(crate) resource: B::Resource,
    pub(crate) owner: Owner,
    /// When it has ended by itself.
    pub(crate) until: Nanos,
    /// Whether the next in the local queue waits for it.
    pub(crate) at_front: bool,
}

/// Gives up a hold whose holder waits for the outcome.
pub(crate) async fn explicit<B: LeaseBackend>(
    shared: Arc<Shared<B>>,
    hold: Arc<Hold>,
) -> Result<ReleaseOutcome, ReleaseError> {
    let Some((release, lost)) = give_up(&shared, &hold) else { return Ok(ReleaseOutcome::Released) };
    let mut attempt = Attempt { reply: release.send(), release: Some(release) };
    let reply = attempt.reply.as_mut().await;
    let Some(mut release) = attempt.release.take() else { return Ok(ReleaseOutcome::Released) };
    match reply {
        Ok(reply) => {
            release.confirmed(reply);
            let held_to_the_end = lost.is_none() || reply.outcome != ReleaseOutcome::Released;
            Ok(if held_to_the_end { reply.outcome } else { ReleaseOutcome::AlreadyExpired })
        }
        Err(source) => {
            let error = release.unconfirmed(source);
            let shared = release.shared.clone();
            if error.source.kind().is_transient() {
                shared.in_background(release.until_confirmed());
            }
            Err(error)
        }
    }
}

/// Gives up a hold that was dropped.
pub(crate) fn in_background<B: LeaseBackend>(shared: &Arc<Shared<B>>, hold: &Hold) {
    if let Some((release, _)) = give_up(shared, hold) {
        shared.in_background(release.until_confirmed());
    }
}

/// Ends a hold. What is left to release on the servers, if anything, and why it was not held to the end, if so.
fn give_up<B: LeaseBackend>(shared: &Arc<Shared<B>>, hold: &Hold) -> Option<(Release<B>, Option<LostReason>)> {
    let Some(GivenUp::Remote { resource, owner, until, lost, unnoticed, at_front }) =
        shared.table.give_up(hold, shared.now())
    else {
        return None;
    };
    shared.metrics.held.decrement(1.0);
    if unnoticed {
        shared.tell_lost(hold, LostReason::Expired);
    }
    Some((Release { shared: shared.clone(), resource, owner, until, at_front }, lost))
}

/// A release that somebody waits for. If they stop waiting, it goes on in the background.
struct Attempt<B: LeaseBackend> {
    reply: BoxFuture<'static, Reply>,
    release: Option<Release<B>>,
}

impl<B: LeaseBackend> Drop for Attempt<B> {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            let reply = std::mem::replace(&mut self.reply, Box::pin(std::future::pending()));
            let shared = release.shared.clone();
            shared.in_background(release.after(reply));
        }
    }
}

impl<B: LeaseBackend> Release<B> {
    fn send(&self) -> BoxFuture<'static, Reply> {
        let (shared, resource, owner) = (self.shared.clone(), self.resource.clone(), self.owner);
        Box::pin(async move { shared.backend.release(&resource, owner).await })
    }

    /// Goes on with a release that is under way.
    async fn after(mut self, reply: BoxFuture<'static, Reply>) {
        match reply.await {
            Ok(reply) => self.confirmed(reply),
            Err(source) => {
                self.unconfirmed(source);
                self.until_confirmed().await;
            }
        }
    }

    /// Sends it, again and again, until it is confirmed or no longer needed.
    pub(crate) async fn until_confirmed(mut self) {
        let mut delays = Backoff::default().delays();
        loop {
            let error = match self.send().await {
                Ok(reply) => return self.confirmed(reply),
                Err(source) => self.unconfirmed(source),
            };
            if !error.source.kind().is_transient() || self.left() == Duration::ZERO {
                warn!(%error, "gave up releasing");
                self.shared.metrics.releases_unconfirmed.increment(1);
                let mut unconfirmed = self.shared.unconfirmed.lock();
                if unconfirmed.len() < MOST_UNCONFIRMED {
                    unconfirmed.push(error);
                }
                return;
            }
            debug!(%error, "releasing again");
            sleep(delays.next().unwrap_or_default().min(self.left())).await;
        }
    }

    fn confirmed(&mut self, reply: ReleaseReply) {
        let at_front = std::mem::take(&mut self.at_front);
        self.shared.table.released(&self.resource, at_front, reply.wanted_within.unwrap_or_default());
    }

    /// The next in the queue need not wait any longer for servers that do not answer.
    fn unconfirmed(&mut self, source: BackendError) -> ReleaseError {
        self.leave_front();
        ReleaseError { name: self.resource.name().clone(), ends_within: self.left(), source }
    }

    fn leave_front(&mut self) {
        if std::mem::take(&mut self.at_front) {
            self.shared.table.pass_front(self.resource.queue(), Duration::ZERO);
        }
    }

    fn left(&self) -> Duration {
        Duration::from_nanos(self.until.saturating_sub(self.shared.now()))
    }
}

impl<B: LeaseBackend> Drop for Release<B> {
    fn drop(&mut self) {
        self.leave_front();
    }
}
