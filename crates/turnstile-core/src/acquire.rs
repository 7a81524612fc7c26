//! Acquiring: a turn in the local queue, then asking the servers until they grant.
//!
//! Each step that must be undone when its caller goes away is a guard: [`Waiting`] a place in the queue, [`Asking`] the
//! front of it with whatever was sent from there. Time limits simply drop the future.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::manager::Shared;
use crate::release::Release;
use crate::sync::Mutex;
use crate::table::{Entered, Granted, Hold, Nanos, Turn, nanos};
use crate::{
    AcquireError, BackendError, ErrorKind, GrantReply, GrantRequest, Lease, LeaseBackend, LeaseOptions, Owner,
    Resource, keeper,
};

/// Asks once.
pub(crate) async fn once<B: LeaseBackend>(
    shared: &Arc<Shared<B>>,
    resource: &B::Resource,
    options: &Arc<LeaseOptions>,
) -> Result<Option<Lease>, AcquireError> {
    let at_front = match shared.table.enter(resource, options, false) {
        Entered::Front => true,
        Entered::Beside => false,
        Entered::Busy | Entered::Behind { .. } => return Ok(None),
        Entered::ShutDown => return Err(shut_down(resource)),
    };
    let mut asking = Asking::new(shared, resource, options, at_front, false);
    match asking.ask().await {
        Ok(Asked::Granted(lease)) => Ok(Some(lease)),
        Ok(Asked::Refused { .. }) => Ok(None),
        Err(source) => Err(failed(resource, source)),
    }
}

/// Waits for at most `limit`.
pub(crate) async fn within<B: LeaseBackend>(
    shared: &Arc<Shared<B>>,
    resource: &B::Resource,
    options: &Arc<LeaseOptions>,
    limit: Duration,
) -> Result<Lease, AcquireError> {
    let heard = Heard::default();
    let mut work = pin!(waiting(shared, resource, options, &heard));
    if let Ok(result) = timeout(limit, &mut work).await {
        return result;
    }
    let heard = heard.lock().clone();
    // One that did not get to ask goes by what the one at the front heard.
    let heard = heard.or_else(|| shared.table.heard(resource.queue()).map(|heard| heard.map(|()| None)));
    Err(match heard {
        Some(Ok(place)) => {
            let ahead = place.map(|(owner, ahead)| shared.backend.ahead(resource, owner).unwrap_or(ahead));
            AcquireError::TimedOut { name: resource.name().clone(), waited: limit, ahead }
        }
        Some(Err(source)) => failed(resource, source),
        None => failed(
            resource,
            BackendError::new(
                ErrorKind::TimedOut,
                format!(
                    "the servers gave no answer within {limit:?}: see that they are up and can be reached, or wait longer"
                ),
            ),
        ),
    })
}

/// Waits as long as it takes.
pub(crate) async fn waiting<B: LeaseBackend>(
    shared: &Arc<Shared<B>>,
    resource: &B::Resource,
    options: &Arc<LeaseOptions>,
    heard: &Heard,
) -> Result<Lease, AcquireError> {
    let since = shared.now();
    let lease = in_turn(shared, resource, options, heard).await?;
    shared.metrics.waited(shared.now().saturating_sub(since));
    Ok(lease)
}

async fn in_turn<B: LeaseBackend>(
    shared: &Arc<Shared<B>>,
    resource: &B::Resource,
    options: &Arc<LeaseOptions>,
    heard: &Heard,
) -> Result<Lease, AcquireError> {
    let mut at_front = true;
    let after = match shared.table.enter(resource, options, true) {
        Entered::Front => None,
        Entered::Beside => {
            at_front = false;
            None
        }
        Entered::ShutDown | Entered::Busy => return Err(shut_down(resource)),
        Entered::Behind { ticket, turn } => {
            // What stands in front may have been left by a runtime that ended.
            keeper::start(shared);
            let mut waiting = Waiting { shared, queue: resource.queue(), ticket, turn, told: false };
            match waiting.turn().await {
                Turn::Ask { after } => Some(after),
                Turn::Handed(hold) => {
                    shared.metrics.granted.increment(1);
                    return Ok(Lease::new(hold, shared.clone()));
                }
                Turn::Failed(source) => return Err(failed(resource, source)),
                Turn::ShutDown => return Err(shut_down(resource)),
            }
        }
    };
    Asking::new(shared, resource, options, at_front, true).until_granted(after, heard).await
}

/// What the servers said last to one who waits: held by others, with whom they know in their queue and how many stood
/// before it, or a failure.
pub(crate) type Heard = Mutex<Option<Result<Option<(Owner, u64)>, BackendError>>>;

fn shut_down<R: Resource>(resource: &R) -> AcquireError {
    AcquireError::ShutDown { name: resource.name().clone() }
}

fn failed<R: Resource>(resource: &R, source: BackendError) -> AcquireError {
    AcquireError::Backend { name: resource.name().clone(), source }
}

/// A place in the local queue. Dropped, it is left, and a turn that came meanwhile is passed on.
struct Waiting<'a, B: LeaseBackend> {
    shared: &'a Arc<Shared<B>>,
    queue: &'a Arc<str>,
    ticket: u64,
    turn: oneshot::Receiver<Turn>,
    told: bool,
}

impl<B: LeaseBackend> Waiting<'_, B> {
    async fn turn(&mut self) -> Turn {
        let turn = (&mut self.turn).await;
        self.told = true;
        turn.unwrap_or(Turn::ShutDown)
    }
}

impl<B: LeaseBackend> Drop for Waiting<'_, B> {
    fn drop(&mut self) {
        if self.told || self.shared.table.leave(self.queue, self.ticket) {
            return;
        }
        match self.turn.try_recv() {
            Ok(Turn::Ask { after }) => self.shared.table.pass_front(self.queue, after),
            Ok(Turn::Handed(hold)) => drop(Lease::new(hold, self.shared.clone())),
            Ok(Turn::Failed(_) | Turn::ShutDown) | Err(_) => {}
        }
    }
}

/// One who asks the servers. Dropped before it is granted, what was sent is undone and the front is passed on.
struct Asking<'a, B: LeaseBackend> {
    shared: &'a Arc<Shared<B>>,
    resource: &'a B::Resource,
    options: &'a Arc<LeaseOptions>,
    owner: Owner,
    at_front: bool,
    waits: bool,
    /// How many tokens the latest request reserves.
    tokens: NonZeroU32,
    /// When the latest request was sent.
    sent: Nanos,
    in_flight: Option<InFlight>,
    /// Whether the servers may hold something of this owner's: a grant whose reply was lost, or a place in a queue.
    in_doubt: bool,
}

type InFlight = BoxFuture<'static, Result<GrantReply, BackendError>>;

enum Asked {
    Granted(Lease),
    Refused { ends_within: Option<Duration>, ahead: Option<u64> },
}

impl<'a, B: LeaseBackend> Asking<'a, B> {
    fn new(
        shared: &'a Arc<Shared<B>>,
        resource: &'a B::Resource,
        options: &'a Arc<LeaseOptions>,
        at_front: bool,
        waits: bool,
    ) -> Self {
        keeper::start(shared);
        Self {
            shared,
            resource,
            options,
            owner: Owner::random(),
            at_front,
            waits,
            tokens: NonZeroU32::MIN,
            sent: 0,
            in_flight: None,
            in_doubt: false,
        }
    }

    /// Asks until it is granted; `after` a while, for one who comes from the queue.
    async fn until_granted(mut self, after: Option<Duration>, heard: &Heard) -> Result<Lease, AcquireError> {
        let mut delays = self.options.retry.delays();
        let mut delay = || delays.next().unwrap_or_default();
        let mut outage_since = None;
        let mut alone = after.is_none();
        if let Some(after) = after.filter(|after| !after.is_zero()) {
            self.pause(after.min(self.options.retry.longest())).await;
        }
        loop {
            if self.shared.table.is_closing() {
                return Err(shut_down(self.resource));
            }
            if !std::mem::take(&mut alone) && !self.in_doubt {
                self.reserve();
            }
            match self.ask().await {
                Ok(Asked::Granted(lease)) => return Ok(lease),
                Ok(Asked::Refused { ends_within, ahead }) => {
                    outage_since = None;
                    *heard.lock() = Some(Ok(ahead.map(|ahead| (self.owner, ahead))));
                    self.note(Ok(()));
                    let at_most = ends_within.map_or(Duration::MAX, |end| end.saturating_add(Duration::from_millis(1)));
                    let told = ahead.is_some() && ends_within.is_some();
                    self.wait(if told { at_most } else { delay().min(at_most) }).await;
                }
                Err(source) => {
                    let since = *outage_since.get_or_insert(self.sent);
                    let outage = self.shared.now().saturating_sub(since);
                    if !source.kind().is_transient() || outage >= nanos(self.options.max_outage) {
                        if std::mem::take(&mut self.at_front) {
                            self.shared.table.fail_queue(self.resource.queue(), &source);
                        }
                        return Err(failed(self.resource, source));
                    }
                    debug!(name = %self.resource.name(), error = %source, "asking again");
                    *heard.lock() = Some(Err(source.clone()));
                    self.note(Err(source));
                    self.pause(delay()).await;
                }
            }
        }
    }

    /// Asks for tokens to hand on, where others wait behind.
    fn reserve(&mut self) {
        let others_wait = self.resource.is_exclusive() && self.shared.table.others_wait(self.resource.queue());
        self.tokens = if others_wait { self.options.token_range() } else { NonZeroU32::MIN };
    }

    /// Asks once.
    async fn ask(&mut self) -> Result<Asked, BackendError> {
        let (shared, resource, owner) = (self.shared.clone(), self.resource.clone(), self.owner);
        let (ttl, tokens) = (self.options.ttl, self.tokens);
        let asks_again_within = self.waits.then(|| self.options.retry.longest());
        self.sent = self.shared.now();
        let request = self.in_flight.insert(Box::pin(async move {
            shared.backend.grant(GrantRequest { resource: &resource, owner, ttl, tokens, asks_again_within }).await
        }));
        let reply = request.as_mut().await;
        self.in_flight = None;
        match reply {
            Ok(GrantReply::Granted { first_token }) => {
                let now = self.shared.now();
                let deadline = self.shared.deadline(self.sent, ttl);
                if now >= deadline {
                    self.in_doubt = true;
                    return Err(BackendError::new(
                        ErrorKind::TimedOut,
                        format!("the grant took longer than the time to live of {ttl:?}: choose a longer one"),
                    ));
                }
                Ok(Asked::Granted(self.granted(first_token.get(), tokens.get(), now, deadline)))
            }
            Ok(GrantReply::Refused { ends_within, ahead }) => {
                self.in_doubt |= ahead.is_some();
                Ok(Asked::Refused { ends_within, ahead })
            }
            Err(error) => {
                self.in_doubt |= error.kind().is_transient();
                Err(error)
            }
        }
    }

    fn granted(&mut self, first: u64, count: u32, now: Nanos, deadline: Nanos) -> Lease {
        let hold: Arc<Hold> = self.shared.table.granted(Granted {
            resource: self.resource.clone(),
            owner: self.owner,
            options: self.options.clone(),
            tokens: first..first + u64::from(count),
            sent: self.sent,
            now,
            deadline,
            at_front: self.at_front,
        });
        self.at_front = false;
        self.in_doubt = false;
        self.shared.metrics.granted.increment(1);
        self.shared.metrics.held.increment(1.0);
        Lease::new(hold, self.shared.clone())
    }

    /// Waits for the strategy's sign that asking is worth it, or for a release in this process.
    async fn wait(&mut self, at_most: Duration) {
        let poke = self.shared.table.poke(self.resource.queue());
        tokio::select! {
            () = self.shared.backend.wait(self.resource, self.owner, at_most) => {}
            () = poke.notified() => {}
            () = self.shared.table.closed.cancelled() => {}
        }
    }

    /// Waits, unless the manager is shut down.
    async fn pause(&mut self, delay: Duration) {
        let poke = self.shared.table.poke(self.resource.queue());
        tokio::select! {
            () = sleep(delay) => {}
            () = poke.notified() => {}
            () = self.shared.table.closed.cancelled() => {}
        }
    }

    /// Tells those behind in the local queue what the servers said.
    fn note(&self, heard: Result<(), BackendError>) {
        if self.at_front {
            self.shared.table.note(self.resource.queue(), heard);
        }
    }
}

impl<B: LeaseBackend> Drop for Asking<'_, B> {
    fn drop(&mut self) {
        let at_front = self.at_front;
        if self.in_flight.is_none() && !self.in_doubt {
            if at_front {
                self.shared.table.pass_front(self.resource.queue(), Duration::ZERO);
            }
            return;
        }
        let ttl = nanos(self.options.ttl);
        let until = self.sent + ttl;
        let shared = self.shared.clone();
        let release = Release { shared, resource: self.resource.clone(), owner: self.owner, until, at_front };
        self.shared.in_background(undo(release, self.in_flight.take(), self.in_doubt, ttl));
    }
}

/// Lets a request run to its end, then gives back what it may have brought.
async fn undo<B: LeaseBackend>(mut release: Release<B>, in_flight: Option<InFlight>, in_doubt: bool, ttl: Nanos) {
    if let Some(request) = in_flight {
        let brought_nothing = match request.await {
            Ok(GrantReply::Refused { ahead, .. }) => ahead.is_none(),
            Ok(GrantReply::Granted { .. }) => false,
            Err(error) => !error.kind().is_transient(),
        };
        if brought_nothing && !in_doubt {
            return;
        }
        // It may have been carried out as late as now.
        release.until = release.until.max(release.shared.now() + ttl);
    }
    release.until_confirmed().await;
}
