//! The strategy that keeps the lock: the one place in `turnstile lock` that knows which it is.

use std::sync::Arc;

use redis_lock::{Lock, RedisLocks};
use redis_pubsub_lock::FairLocks;

use super::plan::Plan;
use super::printable;
use crate::cli::LockArgs;
use crate::exit::{self, Failure};

pub enum Locks {
    Plain(RedisLocks),
    /// First come, first served over all processes.
    Fair(FairLocks),
}

impl Locks {
    pub async fn connect(args: &LockArgs) -> Result<Self, Failure> {
        let client = args.server.client().await?;
        Ok(if args.fair { Self::Fair(FairLocks::new(client)) } else { Self::Plain(RedisLocks::new(client)) })
    }

    /// The lock that is asked for.
    pub fn lock(&self, args: &LockArgs, names: &[&str], plan: &Plan) -> Result<Arc<dyn Lock>, Failure> {
        let options = plan.options.clone();
        Ok(match (self, names) {
            (Self::Fair(locks), names) => {
                // The command line lets --fair have one name.
                let lock = locks.lock(names.first().copied().unwrap_or_default());
                let lock = lock.map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
                Arc::new(lock.with_options(options))
            }
            (Self::Plain(locks), [name]) if args.shared => Arc::new(locks.read(name)?.with_options(options)),
            (Self::Plain(locks), [name]) => Arc::new(locks.mutex(name)?.with_options(options)),
            (Self::Plain(locks), names) => Arc::new(locks.all(names)?.with_options(options)),
        })
    }

    /// What the holders call themselves, as far as the server tells.
    pub async fn holders(&self, names: &[&str]) -> Vec<String> {
        let mut labels = Vec::new();
        for name in names {
            match self {
                Self::Plain(locks) => {
                    let holders = locks.who(name).await.unwrap_or_default();
                    labels.extend(holders.into_iter().map(|holder| printable(&holder.label)));
                }
                Self::Fair(locks) => {
                    let holder = locks.who(name).await.ok().flatten();
                    labels.extend(holder.map(|holder| printable(&holder.label)));
                }
            }
        }
        labels
    }

    /// Gives everything back, as long as that takes. True when the server confirmed it.
    pub async fn shutdown(&self) -> bool {
        match self {
            Self::Plain(locks) => locks.manager().shutdown().await.is_empty(),
            Self::Fair(locks) => locks.manager().shutdown().await.is_empty(),
        }
    }
}
