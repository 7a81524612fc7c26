//! The front door: locks by name, over a quorum of nodes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis_lua::Name;
use tokio::time::timeout;
use turnstile_core::quorum::{Quorum, QuorumNode};
use turnstile_core::{LeaseManager, LeaseOptions, ManagedLock, ReleaseError};

use crate::builder::RedlockBuilder;
use crate::holder::{Holder, WhoError, together};
use crate::node::Node;
use crate::{Client, LockError, LockResource};

/// A lock over a quorum: a [`Lock`](turnstile_core::Lock). Cheap to clone.
pub type RedlockLock = ManagedLock<Quorum<Node>>;

/// Makes locks over a quorum of independent Redis servers. Make one for a process and its nodes, and clone it: locks of
/// one `Redlock` share a local queue and renew their leases together.
#[derive(Clone)]
pub struct Redlock {
    manager: LeaseManager<Quorum<Node>>,
    options: Arc<LeaseOptions>,
}

impl Redlock {
    /// Locks over these nodes, which are to fail independently of one another: an odd number of servers, none a replica
    /// of another. Each client has its own password.
    pub fn builder(clients: impl IntoIterator<Item = Client>) -> RedlockBuilder {
        RedlockBuilder::new(clients.into_iter().collect())
    }

    pub(crate) fn new(manager: LeaseManager<Quorum<Node>>) -> Self {
        Self { manager, options: Arc::default() }
    }

    /// The lock of this name: one holder at a time, and no reader.
    ///
    /// # Errors
    /// When `name` is not one.
    pub fn lock(&self, name: impl AsRef<str>) -> Result<RedlockLock, LockError> {
        Ok(self.on(LockResource::exclusive(Name::new(name)?)))
    }

    /// The reader's side of the lock of this name: any number of readers, and no holder of the [`lock`](Self::lock).
    ///
    /// Readers that hold it at the same time may have the same token.
    ///
    /// # Errors
    /// When `name` is not one.
    pub fn read(&self, name: impl AsRef<str>) -> Result<RedlockLock, LockError> {
        Ok(self.on(LockResource::shared(Name::new(name)?)))
    }

    /// The locks of all these names at once, by one lease: all or none. It excludes the [`lock`](Self::lock) and the
    /// readers of each.
    ///
    /// # Errors
    /// When there is no name, or one is none.
    pub fn all<S: AsRef<str>>(&self, names: impl IntoIterator<Item = S>) -> Result<RedlockLock, LockError> {
        let names = names.into_iter().map(Name::new).collect::<Result<Vec<_>, _>>()?;
        Ok(self.on(LockResource::several(names).ok_or(LockError::NoName)?))
    }

    /// Who holds the lock of this name, by the nodes' word: whoever has the most nodes first.
    ///
    /// It may have changed when the answers arrive: to look at, not to decide by. It waits for all nodes, each for at most
    /// a second.
    ///
    /// # Errors
    /// When `name` is not one, or fewer nodes answer than are needed to lock.
    pub async fn who(&self, name: impl AsRef<str>) -> Result<Vec<Holder>, WhoError> {
        let name = Name::new(name)?;
        let quorum = self.manager.backend();
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        for answer in join_all(quorum.nodes().map(|node| ask(node, &name))).await {
            match answer {
                Ok(holders) => answers.push(holders),
                Err(failure) => failures.push(failure),
            }
        }
        let (answered, needed, nodes) = (answers.len(), quorum.needed(), quorum.nodes().len());
        if answered < needed {
            return Err(WhoError::NoQuorum { answered, needed, nodes, failures: failures.join("; ") });
        }
        Ok(together(answers, needed))
    }

    /// The manager of the leases, for other locks on it.
    #[must_use]
    pub fn manager(&self) -> &LeaseManager<Quorum<Node>> {
        &self.manager
    }

    /// Shuts the manager down (see [`LeaseManager::shutdown`]), and waits until late answers are undone on all nodes that
    /// answer, or have ended by themselves.
    ///
    /// # Cancelling
    /// What goes on in the background does so. New leases stay refused.
    pub async fn shutdown(&self) -> Vec<ReleaseError> {
        let unconfirmed = self.manager.shutdown().await;
        self.manager.backend().settle().await;
        unconfirmed
    }

    fn on(&self, resource: LockResource) -> RedlockLock {
        self.manager.lock(resource, self.options.clone())
    }
}

/// How long one node is waited for that is asked who holds a lock.
const LIMIT: Duration = Duration::from_secs(1);

async fn ask(node: &Node, name: &Name) -> Result<Vec<redis_lock::Holder>, String> {
    match timeout(LIMIT, node.backend().who(name)).await {
        Ok(answer) => answer.map_err(|error| format!("{}: {error}", node.address())),
        Err(_) => Err(format!("{}: no answer within {LIMIT:?}", node.address())),
    }
}
