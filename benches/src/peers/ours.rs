//! Our locks and semaphores, and by hand the least that can be called a lock.

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis_lock::{Client, RedisLocks};
use redis_pubsub_lock::FairLocks;
use redis_redlock::Redlock;
use redis_semaphore::Semaphores;
use tokio::sync::OnceCell;
use turnstile_core::{Lease, Lock, Owner};

use super::serve::{Taker, serve};

/// How long whoever is refused by hand sleeps before it asks again.
const POLL: std::time::Duration = std::time::Duration::from_millis(1);

/// All kinds on these servers; each is connected when it is first wanted.
struct Kinds {
    urls: Vec<String>,
    clients: OnceCell<Vec<Client>>,
    locks: OnceCell<RedisLocks>,
    fair: OnceCell<FairLocks>,
    redlock: OnceCell<Redlock>,
    semaphores: OnceCell<Semaphores>,
    /// Their connections, and the digest of [`DELETE`].
    raw: OnceCell<(Vec<MultiplexedConnection>, String)>,
}

impl Kinds {
    async fn clients(&self) -> Result<&Vec<Client>> {
        let connect = async || {
            let mut clients = Vec::new();
            for url in &self.urls {
                clients.push(Client::connect(url.as_str()).await?);
            }
            anyhow::Ok(clients)
        };
        self.clients.get_or_try_init(connect).await
    }

    async fn first(&self) -> Result<Client> {
        self.clients().await?.first().cloned().context("there is no server")
    }

    async fn open(&self, kind: &str, name: &str, permits: u32) -> Result<Box<dyn Taker>> {
        let lease = |lock: Box<dyn Lock>| -> Result<Box<dyn Taker>> { Ok(Box::new(Ours { lock, lease: None })) };
        match kind {
            "redis-lock" => {
                let locks = self.locks.get_or_try_init(async || anyhow::Ok(RedisLocks::new(self.first().await?)));
                lease(Box::new(locks.await?.lock(name)?))
            }
            "redis-pubsub-lock" => {
                let locks = self.fair.get_or_try_init(async || anyhow::Ok(FairLocks::new(self.first().await?)));
                lease(Box::new(locks.await?.lock(name)?))
            }
            "redis-redlock" => {
                let build = async || anyhow::Ok(Redlock::builder(self.clients().await?.clone()).build()?);
                lease(Box::new(self.redlock.get_or_try_init(build).await?.lock(name)?))
            }
            "by-set" | "by-counter" => {
                let open = self.semaphores.get_or_try_init(async || anyhow::Ok(Semaphores::new(self.first().await?)));
                let semaphores = open.await?;
                let by_set = kind == "by-set";
                lease(Box::new(if by_set {
                    semaphores.by_set(name, permits)?
                } else {
                    semaphores.by_counter(name, permits)?
                }))
            }
            "raw" => {
                let connect = async || {
                    let (mut connections, mut delete) = (Vec::new(), String::new());
                    for url in &self.urls {
                        let client = redis::Client::open(url.as_str())?;
                        let mut connection = client.get_multiplexed_async_connection().await?;
                        delete = redis::cmd("SCRIPT").arg("LOAD").arg(DELETE).query_async(&mut connection).await?;
                        connections.push(connection);
                    }
                    anyhow::Ok((connections, delete))
                };
                let (connections, delete) = self.raw.get_or_try_init(connect).await?.clone();
                Ok(Box::new(Raw { connections, delete, key: name.to_owned(), owner: Vec::new() }))
            }
            kind => bail!("nothing is called {kind}"),
        }
    }
}

/// Serves all kinds on these servers.
///
/// # Errors
/// When a server does not answer, or an order is none.
pub async fn serve_ours(urls: &str) -> Result<()> {
    let urls = urls.split(',').map(str::to_owned).collect();
    let kinds = Kinds {
        urls,
        clients: OnceCell::new(),
        locks: OnceCell::new(),
        fair: OnceCell::new(),
        redlock: OnceCell::new(),
        semaphores: OnceCell::new(),
        raw: OnceCell::new(),
    };
    serve("", async |kind: &str, name: &str, permits| kinds.open(kind, name, permits).await).await
}

struct Ours {
    lock: Box<dyn Lock>,
    lease: Option<Lease>,
}

#[async_trait]
impl Taker for Ours {
    async fn acquire(&mut self) -> Result<()> {
        self.lease = Some(self.lock.acquire().await?);
        Ok(())
    }

    async fn release(&mut self) -> Result<()> {
        self.lease.take().context("it is not held")?.release().await?;
        Ok(())
    }
}

/// `SET NX PX`, and a DEL if the value is still one's own; on several servers in parallel, awaited to a majority. No
/// deadline, no renewal, no fencing token, no queue.
struct Raw {
    connections: Vec<MultiplexedConnection>,
    delete: String,
    key: String,
    owner: Vec<u8>,
}

const DELETE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

impl Raw {
    /// Whether a majority says yes.
    async fn majority(&mut self, command: &redis::Cmd) -> Result<bool> {
        let needed = self.connections.len() / 2 + 1;
        let ask = async |connection: &mut MultiplexedConnection| command.query_async::<redis::Value>(connection).await;
        let mut asked: FuturesUnordered<_> = self.connections.iter_mut().map(ask).collect();
        let mut yes = 0;
        while let Some(answer) = asked.next().await {
            yes += usize::from(matches!(answer?, redis::Value::Okay | redis::Value::Int(1)));
            if yes == needed {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[async_trait]
impl Taker for Raw {
    async fn acquire(&mut self) -> Result<()> {
        self.owner = Owner::random().to_hex().as_ref().to_owned();
        let mut set = redis::cmd("SET");
        set.arg(&self.key).arg(&self.owner).arg("NX").arg("PX").arg(30_000);
        while !self.majority(&set).await? {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn release(&mut self) -> Result<()> {
        let mut delete = redis::cmd("EVALSHA");
        delete.arg(&self.delete).arg(1).arg(&self.key).arg(&self.owner);
        anyhow::ensure!(self.majority(&delete).await?, "it was not held any more");
        Ok(())
    }
}
