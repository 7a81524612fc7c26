//! The rules that every lease keeps, as tests that know nothing of the strategy behind it.
//!
//! A [`Strategy`] makes members; each is what another process would be, with connections, a manager and a local queue
//! of its own, and reaches its servers through fault proxies.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test may panic: that is how it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use redis_lua::redis::{self, cmd};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use turnstile_core::{Lease, LeaseBackend, LeaseManager, LeaseOptions, Lock, LostReason, ManagedLock, ReleaseError};
use turnstile_testkit::proxy::Direction;
use turnstile_testkit::redis::RedisProxy;

use crate::{SAFETY_NET, connect, long, name, ttl, until_renewed};

/// What a free lock is had within, far from any time to live of these tests.
const SOON: Duration = Duration::from_secs(10);

/// A way to lock.
#[async_trait]
pub trait Strategy: Send + Sync {
    /// A further process.
    async fn member(&self) -> Member;

    /// Where its servers are, past all proxies.
    async fn servers(&self) -> Vec<String>;
}

type MakeLock = Box<dyn Fn(&str, LeaseOptions) -> Arc<dyn Lock> + Send + Sync>;
type Shutdown = Box<dyn Fn() -> BoxFuture<'static, Vec<ReleaseError>> + Send + Sync>;

/// One process of a strategy.
pub struct Member {
    lock: MakeLock,
    shutdown: Shutdown,
    proxies: Vec<RedisProxy>,
}

impl Member {
    /// Locks of that manager, made by `lock`, whose servers are reached through `proxies` alone.
    pub fn new<B: LeaseBackend>(
        manager: &LeaseManager<B>,
        lock: impl Fn(&str) -> ManagedLock<B> + Send + Sync + 'static,
        proxies: Vec<RedisProxy>,
    ) -> Self {
        let manager = manager.clone();
        Self {
            lock: Box::new(move |name, options| Arc::new(lock(name).with_options(options))),
            shutdown: Box::new(move || {
                let manager = manager.clone();
                async move { manager.shutdown().await }.boxed()
            }),
            proxies,
        }
    }

    fn lock(&self, name: &str, options: LeaseOptions) -> Arc<dyn Lock> {
        (self.lock)(name, options)
    }

    async fn acquire(&self, name: &str, options: LeaseOptions) -> Lease {
        timeout(SAFETY_NET, self.lock(name, options).acquire()).await.unwrap().unwrap()
    }

    /// Whether it can be had: with leases that outlast the test, only if nobody left anything behind.
    async fn gets(&self, name: &str) -> Lease {
        self.lock(name, long()).acquire_timeout(SOON).await.unwrap()
    }
}

/// The network of a process dies: it loses the lease by its own clock, before another has it, and for good.
pub async fn it_is_lost_at_its_deadline_with_the_network_dead(strategy: &impl Strategy) {
    let (ours, theirs, name) = (strategy.member().await, strategy.member().await, name("deadline"));
    let lease = ours.acquire(&name, ttl(1_500)).await;
    ours.proxies.iter().for_each(|proxy| proxy.half_open());
    let other = theirs.acquire(&name, ttl(1_500)).await;
    assert!(lease.check().is_err(), "another has it, and it does not know");
    assert_eq!(timeout(SAFETY_NET, lease.lost()).await.unwrap(), LostReason::Expired);
    ours.proxies.iter().for_each(|proxy| {
        proxy.pass();
        proxy.cut();
    });
    drop(other);
    drop(ours.acquire(&name, ttl(1_500)).await);
    assert!(lease.check().is_err() && lease.remaining().is_zero(), "what is lost stays lost");
}

/// The servers no longer have it: its holder is told at the next renewal, long before the deadline.
pub async fn it_is_lost_at_once_when_the_servers_say_so(strategy: &impl Strategy) {
    let (ours, name) = (strategy.member().await, name("revoked"));
    let lease = ours.acquire(&name, ttl(3_000)).await;
    for url in strategy.servers().await {
        let client = connect(url).await;
        let keys: Vec<String> = client.run(cmd("KEYS").arg(format!("{{{name}}}*"))).await.unwrap();
        for key in keys.iter().filter(|key| !key.ends_with(":fence")) {
            client.run::<()>(cmd("DEL").arg(key)).await.unwrap();
        }
    }
    assert_eq!(timeout(SAFETY_NET, lease.lost()).await.unwrap(), LostReason::Revoked);
}

/// Renewed while it is held, by the same token, and never again once it is given back.
pub async fn it_is_renewed_until_it_is_given_back(strategy: &impl Strategy) {
    let (ours, theirs, name) = (strategy.member().await, strategy.member().await, name("renewed"));
    let lease = ours.acquire(&name, ttl(1_500)).await;
    let token = lease.fencing_token();
    until_renewed(&lease, 4).await;
    assert!(theirs.lock(&name, long()).try_acquire().await.unwrap().is_none());
    assert_eq!(lease.fencing_token(), token);
    lease.release().await.unwrap();
    let lease = theirs.acquire(&name, ttl(1_500)).await;
    until_renewed(&lease, 4).await;
    assert!(lease.fencing_token() > token);
    lease.release().await.unwrap();
    assert!(ours.lock(&name, long()).try_acquire().await.unwrap().is_some());
}

/// Tokens rise with each grant, in one process, from task to task, and across processes.
pub async fn each_grant_has_a_higher_token(strategy: &impl Strategy) {
    let (members, name) = ([strategy.member().await, strategy.member().await], name("tokens"));
    let mut last = 0;
    for round in 0..10 {
        let (lock, mut tasks) = (members[round % 2].lock(&name, long()), JoinSet::new());
        for _ in 0..3 {
            let lock = lock.clone();
            tasks.spawn(async move {
                let lease = timeout(SAFETY_NET, lock.acquire()).await.unwrap().unwrap();
                let token = lease.fencing_token().get();
                lease.release().await.unwrap();
                token
            });
        }
        let mut tokens = tasks.join_all().await;
        tokens.sort_unstable();
        assert!(tokens[0] > last && tokens.is_sorted_by(|a, b| a < b), "{tokens:?} after {last}");
        last = tokens[2];
    }
}

/// An acquire that is dropped, wherever it is at, holds nothing in the end, and no place in a queue.
pub async fn a_cancelled_acquire_leaves_nothing_behind(strategy: &impl Strategy) {
    let (ours, theirs, name) = (strategy.member().await, strategy.member().await, name("cancelled"));
    ours.proxies.iter().for_each(|proxy| proxy.delay(Direction::ToClient, Duration::from_millis(2)));
    let lock = ours.lock(&name, long());
    for step in 0..40 {
        let held = if step % 2 == 0 { None } else { Some(theirs.gets(&name).await) };
        let _ = timeout(Duration::from_micros(250 * step), lock.acquire()).await.map(Result::unwrap);
        if let Some(held) = held {
            held.release().await.unwrap();
        }
    }
    assert!((ours.shutdown)().await.is_empty());
    drop(theirs.gets(&name).await);
}

/// A lease may be dropped anywhere, also where there is no runtime and while the network is dead.
pub async fn a_dropped_lease_is_given_back_without_a_runtime(strategy: &impl Strategy) {
    let (ours, theirs, name) = (strategy.member().await, strategy.member().await, name("dropped"));
    let lease = ours.acquire(&name, long()).await;
    std::thread::spawn(move || drop(lease)).join().unwrap();
    drop(theirs.gets(&name).await);
    let lease = ours.acquire(&name, long()).await;
    ours.proxies.iter().for_each(|proxy| {
        proxy.refuse();
        proxy.cut();
    });
    drop(lease);
    ours.proxies.iter().for_each(|proxy| proxy.pass());
    drop(theirs.gets(&name).await);
    assert!((ours.shutdown)().await.is_empty());
    assert!((theirs.shutdown)().await.is_empty());
}

/// A grant whose reply was lost counts once: asked for again it is one's own, and given back it is gone.
pub async fn a_grant_whose_reply_was_lost_is_ones_own(strategy: &impl Strategy) {
    let (ours, theirs, name) = (strategy.member().await, strategy.member().await, name("reply"));
    // The servers know the scripts, so that the first request is the one that counts.
    ours.gets(&format!("{name}-known")).await.release().await.unwrap();
    let cuts: Vec<_> = ours.proxies.iter().map(|proxy| proxy.cut_reply_to(&name)).collect();
    let lease = ours.acquire(&name, long()).await;
    for cut in cuts {
        cut.happened().await.unwrap();
    }
    assert!(theirs.lock(&name, long()).try_acquire().await.unwrap().is_none());
    lease.release().await.unwrap();
    drop(theirs.gets(&name).await);
}

/// What is sent bears no time of day: only the servers' clocks count on the servers.
pub async fn no_clock_of_a_client_reaches_the_servers(strategy: &impl Strategy) {
    let (ours, name) = (strategy.member().await, name("clock"));
    let server = strategy.servers().await.remove(0);
    let monitor = redis::Client::open(server).unwrap().get_async_monitor().await.unwrap();
    let mut seen = monitor.into_on_message::<String>();
    let lease = ours.acquire(&name, ttl(1_500)).await;
    until_renewed(&lease, 1).await;
    lease.release().await.unwrap();
    let end = format!("{name}-end");
    connect(strategy.servers().await.remove(0)).await.run::<()>(cmd("GET").arg(&end)).await.unwrap();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let mut ours = 0;
    while let Some(line) = timeout(SAFETY_NET, seen.next()).await.unwrap().filter(|line| !line.contains(&end)) {
        // What scripts do by themselves is shown too: there the server's time is right.
        if !line.contains(&name) || line.contains(" lua]") {
            continue;
        }
        ours += 1;
        for number in line.split('"').skip(1).filter_map(|argument| argument.parse::<f64>().ok()) {
            let of_day = |unit: f64| (number / unit - now).abs() < 86_400.0;
            assert!(!of_day(1.0) && !of_day(1e3) && !of_day(1e6) && !of_day(1e9), "{number} in {line}");
        }
    }
    assert!(ours >= 3, "a grant, a renewal and a release: {ours}");
}

/// The tasks of one process are served in the order in which they came, and do not starve another process.
pub async fn waiters_of_one_process_are_served_in_order_and_starve_no_other(strategy: &impl Strategy) {
    let (ours, theirs, name) = (strategy.member().await, strategy.member().await, name("order"));
    let (lock, held) = (ours.lock(&name, long()), ours.gets(&name).await);
    let (mut tasks, order) = (JoinSet::new(), Arc::new(parking_lot::Mutex::new(Vec::new())));
    for place in 0..8 {
        let (lock, order) = (lock.clone(), order.clone());
        tasks.spawn(async move {
            let lease = timeout(SAFETY_NET, lock.acquire()).await.unwrap().unwrap();
            order.lock().push(place);
            lease.release().await.unwrap();
        });
        yield_now().await;
    }
    held.release().await.unwrap();
    tasks.join_all().await;
    assert_eq!(*order.lock(), (0..8).collect::<Vec<_>>());

    let (mut tasks, enough) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    for _ in 0..4 {
        let (lock, enough) = (lock.clone(), enough.clone());
        tasks.spawn(async move {
            while !enough.load(Ordering::Relaxed) {
                let lease = timeout(SAFETY_NET, lock.acquire()).await.unwrap().unwrap();
                lease.release().await.unwrap();
            }
        });
    }
    theirs.gets(&name).await.release().await.unwrap();
    enough.store(true, Ordering::Relaxed);
    tasks.join_all().await;
}
