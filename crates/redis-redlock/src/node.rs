//! One node: the lock of redis-lock on one server, and whether that server may vote.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis_lock::{Client, LockBackend, LockResource};
use turnstile_core::quorum::QuorumNode;
use turnstile_core::{
    BackendError, ErrorKind, FencingToken, GrantReply, GrantRequest, LeaseBackend, Owner, ReleaseReply, RenewReply,
    Renewal,
};

use crate::identity::{Identities, run_of};

/// One node of a [`Redlock`](crate::Redlock).
#[derive(Debug)]
pub struct Node {
    backend: LockBackend,
    at: usize,
    identities: Arc<Identities>,
    delayed_restart: Option<Duration>,
    /// The connection on which the server said which one it is.
    known_on: AtomicU64,
    /// When it may vote, if it was restarted a short time ago.
    votes_from: Mutex<Option<Instant>>,
}

impl Node {
    pub(crate) fn new(
        backend: LockBackend,
        at: usize,
        identities: Arc<Identities>,
        delayed_restart: Option<Duration>,
    ) -> Self {
        let (known_on, votes_from) = (AtomicU64::new(0), Mutex::new(None));
        Self { backend, at, identities, delayed_restart, known_on, votes_from }
    }

    /// The client that it asks.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.backend.client()
    }

    pub(crate) const fn backend(&self) -> &LockBackend {
        &self.backend
    }

    /// Whether it may vote, and the connection of which this is true. It sends something for a new connection only.
    async fn may_vote(&self, ttl: Duration) -> Result<u64, BackendError> {
        let mut connection = self.client().connection_number();
        if connection == 0 || connection != self.known_on.load(Ordering::Acquire) {
            connection = self.get_to_know().await?;
        }
        if self.identities.has_twins() {
            let text = "two of the nodes are one and the same server, and it would vote twice: list each node once";
            return Err(BackendError::new(ErrorKind::Invalid, text));
        }
        if let Some(longest) = self.delayed_restart {
            if ttl > longest {
                let text = format!(
                    "a time to live of {ttl:?} is more than the {longest:?} that restarted nodes are kept out: ask for less, \
                     or give `delayed_restart` more, in all processes"
                );
                return Err(BackendError::new(ErrorKind::Invalid, text));
            }
            let wait = self.votes_from.lock().map(|from| from.saturating_duration_since(Instant::now()));
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                let text = format!("was restarted, may have forgotten locks, and votes in {wait:.1?}");
                return Err(BackendError::new(ErrorKind::NotReady, text));
            }
        }
        Ok(connection)
    }

    /// Asks which server it is.
    #[cold]
    async fn get_to_know(&self) -> Result<u64, BackendError> {
        let client = self.client();
        client.ready().await?;
        let connection = client.connection_number();
        let run = match run_of(client).await {
            Ok(run) => run,
            // Without the right to ask it is only less well guarded, unless it was asked to be.
            Err(error) if error.kind() == ErrorKind::Denied && self.delayed_restart.is_none() => Default::default(),
            Err(error) => return Err(error.into()),
        };
        if connection == 0 || client.connection_number() != connection {
            return Err(replaced());
        }
        if let Some(longest) = self.delayed_restart {
            let left = longest.saturating_sub(run.up.unwrap_or_default());
            *self.votes_from.lock() = Some(Instant::now() + left);
        }
        self.identities.note(self.at, run.id);
        self.known_on.store(connection, Ordering::Release);
        Ok(connection)
    }
}

fn replaced() -> BackendError {
    BackendError::new(ErrorKind::NotReady, "the connection was replaced meanwhile; ask again")
}

#[async_trait]
impl LeaseBackend for Node {
    type Resource = LockResource;
    const STRATEGY: &'static str = "redis-redlock";

    async fn grant(&self, request: GrantRequest<'_, LockResource>) -> Result<GrantReply, BackendError> {
        let connection = self.may_vote(request.ttl).await?;
        let reply = self.backend.grant(request).await?;
        // On another connection, it may have been another run of the server that granted it.
        if self.delayed_restart.is_some() && self.client().connection_number() != connection {
            return Err(replaced());
        }
        Ok(reply)
    }

    async fn renew(&self, leases: &[Renewal<LockResource>]) -> Vec<Result<RenewReply, BackendError>> {
        self.backend.renew(leases).await
    }

    async fn release(&self, resource: &LockResource, owner: Owner) -> Result<ReleaseReply, BackendError> {
        self.backend.release(resource, owner).await
    }
}

#[async_trait]
impl QuorumNode for Node {
    fn address(&self) -> &str {
        self.client().address()
    }

    async fn raise(&self, resource: &LockResource, token: FencingToken) -> Result<(), BackendError> {
        self.backend.raise(resource, token).await
    }
}
