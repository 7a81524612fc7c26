//! Watching a lock: what becomes of it, as the scripts tell it on a channel of its name.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use redis_lua::{Follower, Heard};
use turnstile_core::{FencingToken, LeaseManager};

use crate::backend::FairBackend;
use crate::resource::FairResource;

/// Who held the lock, and by which grant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tenure {
    /// The owner of the lease: 32 hexadecimal digits.
    pub owner: String,
    /// What its process calls itself.
    pub label: String,
    /// The fencing token of the grant.
    pub token: FencingToken,
}

/// What became of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockEvent {
    /// Somebody holds it, and knows.
    Acquired(Tenure),
    /// Its holder gave it back.
    Released(Tenure),
    /// It ended by itself: its holder died, was cut off, or was paused. Told by whoever finds it so: within about a second where
    /// somebody waits for it or watches it.
    Lost(Tenure),
    /// Events may have been missed: the connection was replaced, or this watcher was too slow. Ask
    /// [`who`](crate::FairLocks::who) holds it now.
    Gap,
}

/// The events of one lock, from [`FairLocks::watch`](crate::FairLocks::watch) on: a [`Stream`] without an end.
pub struct Watch(BoxStream<'static, LockEvent>);

impl Watch {
    pub(crate) fn new(follower: Follower, manager: LeaseManager<FairBackend>, resource: FairResource) -> Self {
        manager.backend().beats.watch(&resource);
        let watching = (follower, Watching { manager, resource });
        let events = unfold(watching, async |mut watching| {
            loop {
                // Its check that nothing was missed may have ended with another runtime.
                watching.1.manager.backend().beats.start();
                match watching.0.next().await {
                    Heard::Message(text) => {
                        if let Some(event) = read(&text) {
                            return Some((event, watching));
                        }
                    }
                    _ => return Some((LockEvent::Gap, watching)),
                }
            }
        });
        Self(events.boxed())
    }

    /// The next event.
    ///
    /// # Cancelling
    /// Nothing is lost.
    pub async fn next(&mut self) -> LockEvent {
        match self.0.next().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }
}

impl Stream for Watch {
    type Item = LockEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<LockEvent>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

struct Watching {
    manager: LeaseManager<FairBackend>,
    resource: FairResource,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.manager.backend().beats.unwatch(&self.resource);
    }
}

/// `what owner token since label`, as the scripts write it.
fn read(text: &[u8]) -> Option<LockEvent> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.splitn(5, ' ');
    let (what, owner, token) = (parts.next()?, parts.next()?.to_owned(), parts.next()?.parse().ok()?);
    let tenure = Tenure { owner, token: FencingToken::new(token), label: parts.nth(1).unwrap_or_default().to_owned() };
    match what {
        "acquired" => Some(LockEvent::Acquired(tenure)),
        "released" => Some(LockEvent::Released(tenure)),
        "lost" => Some(LockEvent::Lost(tenure)),
        _ => None,
    }
}
