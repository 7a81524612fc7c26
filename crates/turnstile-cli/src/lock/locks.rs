//! The strategy that keeps it: the one place here that knows which it is.

use std::sync::Arc;

use redis_lock::{BackendError, Client, Lock, RedisLocks};
use redis_pubsub_lock::FairLocks;
use redis_redlock::Redlock;
use redis_semaphore::Semaphores;

use super::plan::Plan;
use super::printable;
use crate::cli::{LockArgs, SemaphoreArgs};
use crate::exit::{self, Failure};

/// What is asked for.
pub enum Wanted<'a> {
    Lock(&'a LockArgs),
    Permits(&'a SemaphoreArgs),
}

pub enum Locks {
    Plain(RedisLocks),
    /// First come, first served over all processes.
    Fair(FairLocks),
    /// Over several servers.
    Quorum(Redlock),
    /// Several at a time.
    Semaphore(Semaphores),
}

impl Locks {
    pub async fn connect(wanted: &Wanted<'_>) -> Result<Self, Failure> {
        Ok(match wanted {
            Wanted::Permits(args) => Self::Semaphore(Semaphores::new(args.server.client().await?)),
            Wanted::Lock(args) if !args.redlock.is_empty() => {
                // One server instead would be another lock.
                if args.redlock.iter().any(|url| url.trim().is_empty()) {
                    let text = "--redlock: a URL is empty: give three or five, with commas between, or unset \
                                TURNSTILE_REDLOCK_URLS to lock on the one server of --url";
                    return Err(Failure::new(exit::USAGE, text));
                }
                // Some of them may be down.
                let clients: Result<Vec<_>, _> = args.redlock.iter().map(Client::new).collect();
                let locks = Redlock::builder(clients.map_err(BackendError::from)?).build();
                Self::Quorum(locks.map_err(|error| Failure::new(exit::USAGE, format!("--redlock: {error}")))?)
            }
            Wanted::Lock(args) if args.fair => Self::Fair(FairLocks::new(args.server.client().await?)),
            Wanted::Lock(args) => Self::Plain(RedisLocks::new(args.server.client().await?)),
        })
    }

    /// The lock that is asked for.
    pub fn lock(&self, wanted: &Wanted<'_>, names: &[&str], plan: &Plan) -> Result<Arc<dyn Lock>, Failure> {
        let options = plan.options.clone();
        let shared = matches!(wanted, Wanted::Lock(LockArgs { shared: true, .. }));
        // Where the command line lets it have one name only.
        let name = names.first().copied().unwrap_or_default();
        Ok(match (self, wanted) {
            (Self::Semaphore(semaphores), Wanted::Permits(args)) => {
                let limit = args.limit.unwrap_or(args.weight);
                let make = if args.counter { Semaphores::by_counter } else { Semaphores::by_set };
                let semaphore = make(semaphores, name, limit)?;
                let semaphore = if args.any_limit { semaphore.by_any_limit() } else { semaphore };
                let semaphore = semaphore.weighing(args.weight)?.with_options(options);
                Arc::new(if args.unfair { semaphore.unfair() } else { semaphore })
            }
            (Self::Semaphore(_), Wanted::Lock(_)) => {
                return Err(Failure::new(exit::SOFTWARE, "a semaphore is no lock"));
            }
            (Self::Fair(locks), _) => {
                let lock = locks.lock(name).map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
                Arc::new(lock.with_options(options))
            }
            (Self::Quorum(locks), _) => {
                let lock = if shared { locks.read(name) } else { locks.all(names) };
                Arc::new(lock?.with_options(options))
            }
            (Self::Plain(locks), _) if shared => Arc::new(locks.read(name)?.with_options(options)),
            (Self::Plain(locks), _) if names.len() == 1 => Arc::new(locks.lock(name)?.with_options(options)),
            (Self::Plain(locks), _) => Arc::new(locks.all(names)?.with_options(options)),
        })
    }

    /// What the holders call themselves, as far as the server tells.
    pub async fn holders(&self, names: &[&str]) -> Vec<String> {
        let mut labels = Vec::new();
        for name in names {
            match self {
                Self::Plain(locks) => {
                    labels.extend(locks.who(name).await.unwrap_or_default().into_iter().map(|holder| holder.label));
                }
                Self::Fair(locks) => labels.extend(locks.who(name).await.ok().flatten().map(|holder| holder.label)),
                Self::Quorum(locks) => {
                    labels.extend(locks.who(name).await.unwrap_or_default().into_iter().map(|holder| holder.label));
                }
                Self::Semaphore(semaphores) => {
                    let state = semaphores.state(name).await;
                    labels.extend(state.into_iter().flat_map(|state| state.holders).map(|holder| holder.label));
                }
            }
        }
        labels.iter().map(|label| printable(label)).collect()
    }

    /// Gives everything back, as long as that takes. True when the server confirmed it.
    pub async fn shutdown(&self) -> bool {
        let unconfirmed = match self {
            Self::Plain(locks) => locks.manager().shutdown().await,
            Self::Fair(locks) => locks.manager().shutdown().await,
            Self::Quorum(locks) => locks.shutdown().await,
            Self::Semaphore(semaphores) => semaphores.manager().shutdown().await,
        };
        unconfirmed.is_empty()
    }
}
