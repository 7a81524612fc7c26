//! Leases without a server, for the tests of those who use them.
//!
//! It keeps every promise of a [`LeaseBackend`] within one process, by tokio's clock, so that a test can pause time:
//!
//! ```
//! use std::time::Duration;
//! use turnstile_core::{Lock, LostReason, memory::MemoryServer};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = MemoryServer::new();
//! let lease = server.lock("orders/42").acquire().await?;
//!
//! server.set_reachable(false);                               // what if the network dies?
//! assert_eq!(lease.lost().await, LostReason::Expired);       // the holder is told, 30 s of paused time later
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::{
    BackendError, Clock, ErrorKind, FencingToken, GrantReply, GrantRequest, LeaseBackend, LeaseManager, LeaseOptions,
    ManagedLock, Owner, ReleaseOutcome, ReleaseReply, RenewReply, Renewal, TokioClock,
};

/// A pretended server of exclusive locks. Cheap to clone: clones are the same server.
#[derive(Clone)]
pub struct MemoryServer {
    state: Arc<State>,
}

struct State {
    reachable: AtomicBool,
    keys: Mutex<HashMap<Arc<str>, Key>>,
    clock: TokioClock,
}

#[derive(Default)]
struct Key {
    held: Option<Held>,
    tokens: u64,
    /// Who was refused last and asks again, until then.
    wanted: Option<(Owner, Duration)>,
}

struct Held {
    owner: Owner,
    first_token: u64,
    until: Duration,
}

impl MemoryServer {
    /// A server on which nothing is held.
    #[must_use]
    pub fn new() -> Self {
        let reachable = AtomicBool::new(true);
        Self { state: Arc::new(State { reachable, keys: Mutex::new(HashMap::new()), clock: TokioClock::new() }) }
    }

    /// A manager of leases on it, as another process would have: each with a local queue of its own.
    #[must_use]
    pub fn manager(&self) -> LeaseManager<Self> {
        LeaseManager::with_clock(self.clone(), TokioClock::new())
    }

    /// The lock of that name, of a manager of its own, with the usual options.
    #[must_use]
    pub fn lock(&self, name: &str) -> ManagedLock<Self> {
        self.manager().lock(name.into(), LeaseOptions::default())
    }

    /// Whether requests are answered. Otherwise each fails with [`ErrorKind::Unreachable`].
    pub fn set_reachable(&self, reachable: bool) {
        self.state.reachable.store(reachable, Ordering::Release);
    }

    /// Takes `name` from whoever holds it, as a deleted key would: its holder learns of it with the next renewal.
    pub fn revoke(&self, name: &str) {
        if let Some(key) = self.state.keys.lock().get_mut(name) {
            key.held = None;
        }
    }

    /// Who holds `name`.
    #[must_use]
    pub fn owner(&self, name: &str) -> Option<Owner> {
        self.with_key(&name.into(), |key, _| key.held.as_ref().map(|held| held.owner)).ok().flatten()
    }

    fn with_key<T>(&self, name: &Arc<str>, act: impl FnOnce(&mut Key, Duration) -> T) -> Result<T, BackendError> {
        if !self.state.reachable.load(Ordering::Acquire) {
            return Err(BackendError::new(ErrorKind::Unreachable, "the memory server was made unreachable"));
        }
        let now = self.state.clock.now();
        let mut keys = self.state.keys.lock();
        let key = keys.entry(name.clone()).or_default();
        if key.held.as_ref().is_some_and(|held| held.until <= now) {
            key.held = None;
        }
        Ok(act(key, now))
    }
}

impl Default for MemoryServer {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl LeaseBackend for MemoryServer {
    type Resource = Arc<str>;
    const STRATEGY: &'static str = "memory";

    async fn grant(&self, request: GrantRequest<'_, Arc<str>>) -> Result<GrantReply, BackendError> {
        self.with_key(request.resource, |key, now| match &mut key.held {
            Some(held) if held.owner == request.owner => {
                held.until = now + request.ttl;
                GrantReply::Granted { first_token: FencingToken::new(held.first_token) }
            }
            Some(held) => {
                if let Some(time) = request.asks_again_within {
                    key.wanted = Some((request.owner, now + time));
                }
                GrantReply::Refused { ends_within: Some(held.until - now), ahead: None }
            }
            None => {
                key.wanted = key.wanted.filter(|&(owner, _)| owner != request.owner);
                let first_token = key.tokens + 1;
                key.tokens += u64::from(request.tokens.get());
                key.held = Some(Held { owner: request.owner, first_token, until: now + request.ttl });
                GrantReply::Granted { first_token: FencingToken::new(first_token) }
            }
        })
    }

    async fn renew(&self, leases: &[Renewal<Arc<str>>]) -> Vec<Result<RenewReply, BackendError>> {
        let renew = |renewal: &Renewal<Arc<str>>| {
            self.with_key(&renewal.resource, |key, now| match &mut key.held {
                Some(held) if held.owner == renewal.owner => {
                    held.until = now + renewal.ttl;
                    RenewReply::Renewed
                }
                _ => RenewReply::NotHeld,
            })
        };
        leases.iter().map(renew).collect()
    }

    async fn release(&self, resource: &Arc<str>, owner: Owner) -> Result<ReleaseReply, BackendError> {
        self.with_key(resource, |key, now| {
            let outcome = match &key.held {
                None => ReleaseOutcome::AlreadyExpired,
                Some(held) if held.owner == owner => {
                    key.held = None;
                    ReleaseOutcome::Released
                }
                Some(_) => ReleaseOutcome::TakenOver,
            };
            let wanted_within = key.wanted.and_then(|(_, until)| until.checked_sub(now));
            ReleaseReply::new(outcome, wanted_within.filter(|time| !time.is_zero()))
        })
    }
}
