//! rslock, async-redis-lock and distkit, each as its documentation shows, to be told what to do: see `../README.md`.

// The same as the programs of ours have.
#[path = "../../../src/peers/serve.rs"]
#[allow(dead_code)] // `line`, which only those call that give orders
mod serve;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_redis_lock::{Locker, Options};
use async_trait::async_trait;
use distkit::DistkitRedisKey;
use distkit::lock::{LockOptions, Mutex, MutexGuard};
use redis::aio::ConnectionManager;
use rslock::{LockGuard, LockManager};
use serve::Taker;
use tokio::sync::OnceCell;

/// For how long a lock is granted, where it has to be said or is shorter.
const TTL: Duration = Duration::from_secs(30);
const VERSIONS: &str = "rslock 0.10.0 async-redis-lock 0.4.0 distkit 0.7.1";

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let urls = match (args.next().as_deref(), args.next()) {
        (Some("redis"), Some(urls)) => urls.split(',').map(str::to_owned).collect::<Vec<_>>(),
        _ => bail!("say `redis URL,…`"),
    };
    let first = urls.first().cloned().context("there is no server")?;
    let manager = LockManager::new(urls);
    let (locker, connections) = (OnceCell::new(), OnceCell::new());
    serve::serve(VERSIONS, async |kind: &str, name: &str, _| {
        let taker: Box<dyn Taker> = match kind {
            "rslock" => Box::new(Rslock { manager: manager.clone(), name: name.to_owned(), guard: None }),
            "async-redis-lock" => {
                let locker: &Locker = locker.get_or_try_init(|| Locker::from_redis_url(&first)).await?;
                Box::new(AsyncRedisLock { locker: locker.clone(), name: name.to_owned(), lock: None })
            }
            "distkit" => {
                let connect = || async { redis::Client::open(first.as_str())?.get_connection_manager().await };
                let connection: &ConnectionManager = connections.get_or_try_init(connect).await?;
                let key = DistkitRedisKey::try_from(name.to_owned())?;
                Box::new(Distkit { mutex: Mutex::new(LockOptions::new(key, connection.clone())), guard: None })
            }
            kind => bail!("nothing is called {kind}"),
        };
        Ok(taker)
    })
    .await
}

/// `acquire` as in its README. Who waits asks again within 200 ms, by chance, which is its default.
struct Rslock {
    manager: LockManager,
    name: String,
    guard: Option<LockGuard>,
}

#[async_trait]
impl Taker for Rslock {
    async fn acquire(&mut self) -> Result<()> {
        self.guard = Some(self.manager.acquire(self.name.as_str(), TTL).await?);
        Ok(())
    }

    async fn release(&mut self) -> Result<()> {
        self.guard.take().context("it is not held")?.release().await;
        Ok(())
    }
}

/// Its defaults (asks again each 100 ms, 3 s renewed each second), but for giving up after a second.
struct AsyncRedisLock {
    locker: Locker,
    name: String,
    lock: Option<async_redis_lock::Lock>,
}

#[async_trait]
impl Taker for AsyncRedisLock {
    async fn acquire(&mut self) -> Result<()> {
        let options = Options::new().timeout(None);
        self.lock = Some(self.locker.acquire_with_options(&options, self.name.as_str()).await?);
        Ok(())
    }

    async fn release(&mut self) -> Result<()> {
        Ok(self.lock.take().context("it is not held")?.release().await?)
    }
}

/// Its defaults: asks again each 50 ms, 30 s renewed each 10. A mutex has one owner, so each task has one of its own.
struct Distkit {
    mutex: std::sync::Arc<Mutex>,
    guard: Option<MutexGuard>,
}

#[async_trait]
impl Taker for Distkit {
    async fn acquire(&mut self) -> Result<()> {
        self.guard = Some(self.mutex.lock().await?);
        Ok(())
    }

    async fn release(&mut self) -> Result<()> {
        self.guard.take().context("it is not held")?.release().await?;
        Ok(())
    }
}
