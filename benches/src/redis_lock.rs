//! The work that redis-lock and the raw client are given, one round at a time.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use redis_lock::{Client, Lock, RedisLock, RedisLocks};
use tokio::task::JoinSet;
use turnstile_core::Owner;
use turnstile_testkit::redis::{Redis, Server};

use crate::raw::Raw;

/// What holders call themselves, on both sides.
pub const LABEL: &str = "bench";
/// How long the raw client sleeps before it asks again.
const POLL: Duration = Duration::from_millis(1);

/// A server of our own, and both sides connected to it.
pub struct Bench {
    /// Ours.
    pub locks: RedisLocks,
    /// By hand.
    pub raw: Raw,
    /// Ends with this.
    pub server: Server,
}

impl Bench {
    /// Starts the server and connects to it.
    ///
    /// # Errors
    /// When no server can be had.
    pub async fn start() -> Result<Self> {
        let server = Redis::start().await?;
        let (locks, raw) = (connect(&server.url()).await?, Raw::connect(&server.url()).await?);
        Ok(Self { locks, raw, server })
    }
}

/// Locks on the server at `url`.
///
/// # Errors
/// When the server does not answer.
pub async fn connect(url: &str) -> Result<RedisLocks> {
    Ok(RedisLocks::builder(Client::connect(url).await?).holder(LABEL).build())
}

/// Takes `lock` and gives it back.
///
/// # Errors
/// When the server does not answer.
pub async fn cycle(lock: &RedisLock) -> Result<()> {
    lock.acquire().await?.release().await?;
    Ok(())
}

/// One task, a lock of its own: how long each cycle takes, in µs.
///
/// # Errors
/// When the server does not answer.
pub async fn one_task(locks: &RedisLocks, cycles: usize) -> Result<Vec<f64>> {
    let lock = locks.lock("ours/one")?;
    on_a_worker(async move {
        let mut took = Vec::with_capacity(cycles);
        for _ in 0..cycles {
            let start = Instant::now();
            cycle(&lock).await?;
            took.push(micros(start.elapsed()));
        }
        Ok(took)
    })
    .await
}

/// The same by hand.
///
/// # Errors
/// When the server does not answer.
pub async fn one_task_raw(raw: &Raw, cycles: usize) -> Result<Vec<f64>> {
    let mut lock = raw.lock("hand/one");
    on_a_worker(async move {
        let mut took = Vec::with_capacity(cycles);
        for _ in 0..cycles {
            let start = Instant::now();
            lock.cycle().await?;
            took.push(micros(start.elapsed()));
        }
        Ok(took)
    })
    .await
}

/// `tasks` tasks with a lock each and `cycles` cycles to do: how long they take in all.
///
/// # Errors
/// When the server does not answer.
pub async fn many_keys(locks: &RedisLocks, tasks: usize, cycles: usize) -> Result<Duration> {
    let work = (0..tasks).map(|task| {
        let lock = locks.lock(format!("ours/{task}"))?;
        Ok(async move {
            for _ in 0..cycles {
                cycle(&lock).await?;
            }
            Ok(())
        })
    });
    together(work).await.map(|(_, took)| took)
}

/// The same by hand.
///
/// # Errors
/// When the server does not answer.
pub async fn many_keys_raw(raw: &Raw, tasks: usize, cycles: usize) -> Result<Duration> {
    let work = (0..tasks).map(|task| {
        let mut lock = raw.lock(&format!("hand/{task}"));
        Ok(async move {
            for _ in 0..cycles {
                lock.cycle().await?;
            }
            Ok(())
        })
    });
    together(work).await.map(|(_, took)| took)
}

/// `tasks` tasks that want one lock, for `time`: how many grants a second.
///
/// # Errors
/// When the server does not answer.
pub async fn one_key(locks: &RedisLocks, tasks: usize, time: Duration) -> Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let work = (0..tasks).map(|_| {
        let (lock, stop) = (locks.lock("ours/contended")?, stop.clone());
        Ok(async move {
            let mut grants = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                cycle(&lock).await?;
                grants += 1;
            }
            Ok(grants)
        })
    });
    rate(stopped_after(time, &stop, together(work)).await?)
}

/// The same by hand: whoever is refused sleeps for 1 ms, and asks again.
///
/// # Errors
/// When the server does not answer.
pub async fn one_key_raw(raw: &Raw, tasks: usize, time: Duration) -> Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let work = (0..tasks).map(|_| {
        let (mut lock, stop) = (raw.lock("hand/contended"), stop.clone());
        Ok(async move {
            let mut grants = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                match lock.try_acquire().await? {
                    Some(owner) => {
                        lock.release(owner).await?;
                        grants += 1;
                    }
                    None => tokio::time::sleep(POLL).await,
                }
            }
            Ok(grants)
        })
    });
    rate(stopped_after(time, &stop, together(work)).await?)
}

/// `tasks` tasks that want one lock, for `time`: how long each hand-over within the process took, in µs, from the call
/// of `release` by one to the lease in the hands of the next. Grants by the server in between are left out.
///
/// # Errors
/// When the server does not answer.
pub async fn hand_overs(locks: &RedisLocks, tasks: usize, time: Duration) -> Result<Vec<f64>> {
    let stop = Arc::new(AtomicBool::new(false));
    let last: Arc<Mutex<Option<(Owner, Instant)>>> = Arc::default();
    let work = (0..tasks).map(|_| {
        let (lock, stop, last) = (locks.lock("ours/handed")?, stop.clone(), last.clone());
        Ok(async move {
            let mut took = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let lease = lock.acquire().await?;
                let now = Instant::now();
                // Leases that go from hand to hand keep their owner.
                if let Some((owner, released)) = *last.lock().unwrap_or_else(PoisonError::into_inner)
                    && owner == lease.owner()
                {
                    took.push(micros(now - released));
                }
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some((lease.owner(), Instant::now()));
                lease.release().await?;
            }
            Ok(took)
        })
    });
    let (took, _) = stopped_after(time, &stop, together(work)).await?;
    Ok(took.into_iter().flatten().collect())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn rate((grants, took): (Vec<u32>, Duration)) -> Result<f64> {
    Ok(f64::from(grants.into_iter().sum::<u32>()) / took.as_secs_f64())
}

async fn on_a_worker<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await?
}

/// Spawns all at once; what they gave, and how long the last of them took.
async fn together<T, F>(work: impl Iterator<Item = Result<F>>) -> Result<(Vec<T>, Duration)>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let work = work.collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let done = work.into_iter().collect::<JoinSet<_>>().join_all().await;
    let took = start.elapsed();
    Ok((done.into_iter().collect::<Result<_>>()?, took))
}

async fn stopped_after<T>(time: Duration, stop: &AtomicBool, work: impl Future<Output = T>) -> T {
    let timer = async {
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, timer).0
}
