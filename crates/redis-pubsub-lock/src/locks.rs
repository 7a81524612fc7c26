//! The front door: fair locks by name, on one Redis.

use std::sync::Arc;
use std::time::Duration;

use redis_lua::{Client, Heartbeats, Inbox, Name, NameError, process_label};
use turnstile_core::{LeaseManager, LeaseOptions, ManagedLock};

use crate::LookError;
use crate::backend::{BEAT, FairBackend};
use crate::look::{Holder, Waiter, look};
use crate::resource::FairResource;
use crate::watch::Watch;

/// A fair lock on one Redis: a [`Lock`](turnstile_core::Lock). Cheap to clone.
pub type FairLock = ManagedLock<FairBackend>;

/// Makes fair locks on one Redis. Make one for a process and server, and clone it: its waiters share one connection for their
/// wake-ups and one call a second for their signs of life, and its leases are renewed together.
#[derive(Clone)]
pub struct FairLocks {
    manager: LeaseManager<FairBackend>,
    options: Arc<LeaseOptions>,
}

impl FairLocks {
    /// Fair locks on the servers of `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::builder(client).build()
    }

    /// The same with choices.
    pub fn builder(client: Client) -> FairLocksBuilder {
        FairLocksBuilder { client, holder: None, heartbeat: Duration::from_secs(1) }
    }

    /// The lock of this name: one holder at a time, and who came first is next. It sends nothing yet.
    ///
    /// # Errors
    /// When `name` is not one.
    pub fn lock(&self, name: impl AsRef<str>) -> Result<FairLock, NameError> {
        Ok(self.manager.lock(self.resource(name)?, self.options.clone()))
    }

    /// Who holds the lock of this name, by the server's word.
    ///
    /// It may have changed when the answer arrives: to look at, not to decide by.
    ///
    /// # Errors
    /// When `name` is not one, its queue is of another version, or the server does not answer or refuses.
    pub async fn who(&self, name: impl AsRef<str>) -> Result<Option<Holder>, LookError> {
        Ok(look(self.client(), &self.resource(name)?).await?.0)
    }

    /// Who waits for the lock of this name, the next first, by the server's word.
    ///
    /// It may have changed when the answer arrives: to look at, not to decide by.
    ///
    /// # Errors
    /// As of [`who`](Self::who).
    pub async fn queue(&self, name: impl AsRef<str>) -> Result<Vec<Waiter>, LookError> {
        Ok(look(self.client(), &self.resource(name)?).await?.1)
    }

    /// Watches the lock of this name, from when this returns on. To watch does not need the lock.
    ///
    /// Events come by pub/sub, at most once: what is published while the connection is away is gone, of which
    /// [`LockEvent::Gap`](crate::LockEvent::Gap) tells. To look at, not to decide by. Pub/sub knows no database
    /// numbers: locks of that name in other databases of the server are heard too.
    ///
    /// # Errors
    /// When `name` is not one, or there is no subscription to be had.
    ///
    /// # Cancelling
    /// Nothing is left behind; the same when the [`Watch`] is dropped.
    pub async fn watch(&self, name: impl AsRef<str>) -> Result<Watch, LookError> {
        let resource = self.resource(name)?;
        let follower = self.manager.backend().inbox.follow(resource.lock_name(), "events").await?;
        Ok(Watch::new(follower, self.manager.clone(), resource))
    }

    /// The manager of the leases: to shut it down, or for other locks on it.
    #[must_use]
    pub fn manager(&self) -> &LeaseManager<FairBackend> {
        &self.manager
    }

    fn client(&self) -> &Client {
        &self.manager.backend().client
    }

    fn resource(&self, name: impl AsRef<str>) -> Result<FairResource, NameError> {
        let name = Name::new(name)?;
        let events = self.manager.backend().inbox.beside(&name, "events");
        Ok(FairResource::new(name, events))
    }
}

/// Choices for [`FairLocks`].
#[derive(Debug)]
#[must_use = "builder does nothing itself, use .build()"]
pub struct FairLocksBuilder {
    client: Client,
    holder: Option<String>,
    heartbeat: Duration,
}

impl FairLocksBuilder {
    /// What [`FairLocks::who`] and [`FairLocks::queue`] tell others of this process: by default its host name and process id.
    /// Control characters become spaces.
    pub fn holder(mut self, label: impl Into<String>) -> Self {
        self.holder = Some(label.into().replace(char::is_control, " "));
        self
    }

    /// How often waiters show that they are there, and check that no message was missed: each second by default, at least
    /// each 50 ms and at most each hour.
    ///
    /// One without a sign of life for three times that loses its place; one that was granted the lock by who released it
    /// has two times that to take it.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every.clamp(Duration::from_millis(50), Duration::from_secs(3600));
        self
    }

    /// Ready.
    #[must_use]
    pub fn build(self) -> FairLocks {
        let label = self.holder.unwrap_or_else(process_label);
        let inbox = Inbox::new(self.client.clone());
        let beats = Heartbeats::new(self.client.clone(), inbox.clone(), self.heartbeat, &BEAT);
        let backend = FairBackend { client: self.client, inbox, beats, label };
        FairLocks { manager: LeaseManager::new(backend), options: Arc::default() }
    }
}
