//! One task acquires a lock over five nodes, again and again: redis-redlock, and by hand the commands in parallel, awaited to
//! a majority.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis_redlock::{Client, Lock, Redlock};
use turnstile_core::{Owner, OwnerHex};
use turnstile_testkit::redis::{Redis, Server};

use crate::raw::{Raw, RawLock};
use crate::redis_lock::LABEL;

/// How many nodes there are.
pub const NODES: usize = 5;
const MAJORITY: usize = NODES / 2 + 1;
/// Between two acquires, so that what the slowest nodes still have to do is not in the next.
const PAUSE: Duration = Duration::from_millis(1);

/// Five servers, and both sides connected to them.
pub struct Nodes {
    servers: Vec<Server>,
    ours: Redlock,
    raw: Vec<Raw>,
}

impl Nodes {
    /// Starts the servers and connects to them.
    ///
    /// # Errors
    /// When no servers can be had.
    pub async fn start() -> Result<Self> {
        let (mut servers, mut clients, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..NODES {
            let server = Redis::start().await?;
            clients.push(Client::connect(server.url()).await?);
            raw.push(Raw::connect(&server.url()).await?);
            servers.push(server);
        }
        let ours = Redlock::builder(clients).holder(LABEL).build()?;
        Ok(Self { servers, ours, raw })
    }

    /// How long each acquire takes for so long, in µs. It is given back in between, untimed.
    ///
    /// # Errors
    /// When there is no majority.
    pub async fn ours(&self, length: Duration) -> Result<Vec<f64>> {
        let lock = self.ours.lock("ours")?;
        let work = async move {
            let (mut took, begun) = (Vec::new(), Instant::now());
            while begun.elapsed() < length {
                let start = Instant::now();
                let lease = lock.acquire().await?;
                took.push(start.elapsed().as_secs_f64() * 1e6);
                lease.release().await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(took)
        };
        tokio::spawn(work).await?
    }

    /// The same by hand.
    ///
    /// # Errors
    /// When there is no majority.
    pub async fn by_hand(&self, length: Duration) -> Result<Vec<f64>> {
        let mut locks: Vec<RawLock> = self.raw.iter().map(|raw| raw.lock("hand")).collect();
        let work = async move {
            let (mut took, begun) = (Vec::new(), Instant::now());
            while begun.elapsed() < length {
                let start = Instant::now();
                let ask = async |mut lock: RawLock| lock.try_acquire().await.map(|owner| (lock, owner));
                let mut asked: FuturesUnordered<_> = locks.drain(..).map(ask).collect();
                let mut held = Vec::new();
                while let Some(answer) = asked.next().await {
                    let (lock, owner) = answer?;
                    held.push((lock, owner.context("nobody else should have it")?));
                    if held.len() == MAJORITY {
                        took.push(start.elapsed().as_secs_f64() * 1e6);
                    }
                }
                let release = async |(mut lock, owner): (RawLock, OwnerHex)| lock.release(owner).await.map(|()| lock);
                locks = try_join_all(held.into_iter().map(release)).await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(took)
        };
        tokio::spawn(work).await?
    }

    /// Plain `SET NX PX` in parallel, awaited to a majority: how long each takes, in µs.
    ///
    /// # Errors
    /// When a node does not answer.
    pub async fn plain(&self, length: Duration) -> Result<Vec<f64>> {
        let mut connections: Vec<_> = self.raw.iter().map(Raw::connection).collect();
        let work = async move {
            let (mut took, begun) = (Vec::new(), Instant::now());
            while begun.elapsed() < length {
                let start = Instant::now();
                let mut asked: FuturesUnordered<_> = connections.iter_mut().map(set).collect();
                let mut answers = 0;
                while let Some(answer) = asked.next().await {
                    answer?;
                    answers += 1;
                    if answers == MAJORITY {
                        took.push(start.elapsed().as_secs_f64() * 1e6);
                    }
                }
                drop(asked);
                try_join_all(connections.iter_mut().map(delete)).await?;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(took)
        };
        tokio::spawn(work).await?
    }

    /// Ours while this node hangs (SIGSTOP). It goes on afterwards, and answers again when this returns.
    ///
    /// # Errors
    /// When there is no majority.
    pub async fn ours_with_one_hung(&self, node: usize, length: Duration) -> Result<Vec<f64>> {
        let node = self.servers.get(node % NODES).context("no such node")?;
        node.stop().await?;
        let took = self.ours(length).await;
        node.cont().await?;
        // What it has missed is done, and its connection is there again.
        self.ours(Duration::from_millis(500)).await?;
        took
    }
}

async fn set(connection: &mut MultiplexedConnection) -> Result<()> {
    let owner = Owner::random().to_hex();
    let done: Option<String> = redis::cmd("SET")
        .arg("{plain}")
        .arg(owner.as_ref())
        .arg("NX")
        .arg("PX")
        .arg(30_000)
        .query_async(connection)
        .await?;
    done.map(drop).context("nobody else should have it")
}

async fn delete(connection: &mut MultiplexedConnection) -> Result<()> {
    Ok(redis::cmd("DEL").arg("{plain}").exec_async(connection).await?)
}
