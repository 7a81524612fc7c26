//! The front door: locks by name, on one Redis.

use std::sync::Arc;
use std::time::Duration;

use redis_lua::{Client, Name, NameError};
use thiserror::Error;
use turnstile_core::{LeaseManager, LeaseOptions, ManagedLock};

use crate::backend::{LockBackend, Replicas};
use crate::holder::Holder;
use crate::resource::LockResource;

/// A lock on one Redis: a [`Lock`](turnstile_core::Lock). Cheap to clone.
pub type RedisLock = ManagedLock<LockBackend>;

/// Names that cannot be locked as asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LockError {
    /// A name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No name at all.
    #[error("no name was given: name at least one thing to lock")]
    NoName,
    /// Names that a Redis Cluster cannot lock in one step.
    #[error(
        "{first:?} and {other:?} may live on different nodes of the cluster: give both names one hash tag, as in \
         \"{{tenant}}:a\" and \"{{tenant}}:b\""
    )]
    Slots {
        /// One name.
        first: String,
        /// One of another slot.
        other: String,
    },
}

/// Makes locks on one Redis. Make one for a process and server, and clone it: locks of one `RedisLocks` share a local
/// queue and renew their leases together.
#[derive(Clone)]
pub struct RedisLocks {
    manager: LeaseManager<LockBackend>,
    options: Arc<LeaseOptions>,
}

impl RedisLocks {
    /// Locks on the servers of `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::builder(client).build()
    }

    /// The same with choices.
    pub fn builder(client: Client) -> RedisLocksBuilder {
        RedisLocksBuilder { backend: LockBackend::new(client) }
    }

    /// The lock of this name: one holder at a time, and no reader.
    ///
    /// # Errors
    /// When `name` is not one.
    pub fn lock(&self, name: impl AsRef<str>) -> Result<RedisLock, LockError> {
        Ok(self.on(LockResource::exclusive(Name::new(name)?)))
    }

    /// The reader's side of the lock of this name: any number of readers, and no writer.
    ///
    /// Each reader has a lease of its own. While a writer waits, new readers are refused, so that it gets its turn.
    ///
    /// # Errors
    /// When `name` is not one.
    pub fn read(&self, name: impl AsRef<str>) -> Result<RedisLock, LockError> {
        Ok(self.on(LockResource::shared(Name::new(name)?)))
    }

    /// The locks of all these names at once, by one lease: all or none, so that no two callers can block each other
    /// for good. It excludes the [`lock`](Self::lock) and the readers of each.
    ///
    /// # Errors
    /// When there is no name, one is none, or, on a cluster, they do not share a hash tag.
    pub fn all<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<RedisLock, LockError> {
        let names = names.into_iter().map(Name::new).collect::<Result<Vec<_>, _>>()?;
        let first = names.first().ok_or(LockError::NoName)?;
        if self.client().is_cluster()
            && let Some(other) = names.iter().find(|name| name.slot() != first.slot())
        {
            return Err(LockError::Slots { first: first.to_string(), other: other.to_string() });
        }
        Ok(self.on(LockResource::several(names).ok_or(LockError::NoName)?))
    }

    /// Who holds the lock of this name, by the server's word: nobody, one, or several readers.
    ///
    /// It may have changed when the answer arrives: to look at, not to decide by.
    ///
    /// # Errors
    /// When `name` is not one, or the server does not answer or refuses.
    pub async fn who(&self, name: impl AsRef<str>) -> Result<Vec<Holder>, WhoError> {
        Ok(self.manager.backend().who(&Name::new(name)?).await?)
    }

    /// The manager of the leases: to shut it down, or for other locks on it.
    #[must_use]
    pub fn manager(&self) -> &LeaseManager<LockBackend> {
        &self.manager
    }

    fn client(&self) -> &Client {
        &self.manager.backend().client
    }

    fn on(&self, resource: LockResource) -> RedisLock {
        self.manager.lock(resource, self.options.clone())
    }
}

/// Why it could not be told who holds a lock.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WhoError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The server does not answer, or refuses.
    #[error(transparent)]
    Redis(#[from] redis_lua::Error),
}

/// Choices for [`RedisLocks`].
#[derive(Debug)]
#[must_use = "builder does nothing itself, use .build()"]
pub struct RedisLocksBuilder {
    backend: LockBackend,
}

impl RedisLocksBuilder {
    /// What [`RedisLocks::who`] tells others of this process: by default its host name and process id. Control
    /// characters become spaces.
    pub fn holder(mut self, label: impl Into<String>) -> Self {
        self.backend = self.backend.holder(label);
        self
    }

    /// Counts a grant only when `count` replicas have it (`WAIT`), and asks again, or undoes it, when they have not
    /// within `within`. This makes it less likely that a fail-over forgets a grant; it does not rule it out.
    ///
    /// Not on a cluster. `WAIT` holds up all that is sent over the same connection: give such locks a [`Client`] of their own, with a
    /// [`response_timeout`](redis_lua::ClientBuilder::response_timeout) above `within`.
    pub fn replicas(mut self, count: u32, within: Duration) -> Self {
        self.backend.replicas = Some(Replicas { count, within });
        self
    }

    /// Ready.
    #[must_use]
    pub fn build(self) -> RedisLocks {
        RedisLocks { manager: LeaseManager::new(self.backend), options: Arc::default() }
    }
}
