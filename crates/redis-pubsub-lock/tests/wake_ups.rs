//! Waiters are woken by messages alone; lost messages, lost connections and dead waiters are made good.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis_pubsub_lock::{Client, FairLocks, Lock};
use support::{Redis, SAFETY_NET, connect, long, name, run, ttl, until, until_waiting};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longer than any test: no timed check at all.
const NEVER: Duration = Duration::from_secs(3600);

async fn unchecked(url: &str) -> FairLocks {
    FairLocks::builder(connect(url).await).heartbeat(NEVER).build()
}

/// Has the process wait once: then its subscription stands, and nobody of it is told so later on.
async fn subscribe(locks: &FairLocks, holder: &FairLocks) {
    let name = name("subscribed");
    let held = holder.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let lock = locks.lock(&name).unwrap().with_options(long());
    let waiting = tokio::spawn(async move { lock.acquire().await.unwrap() });
    until_waiting(holder, &name, 1).await;
    held.release().await.unwrap();
    timeout(SAFETY_NET, waiting).await.unwrap().unwrap().release().await.unwrap();
}

/// How many scripts the server has run since its statistics were reset.
async fn scripts(client: &Client) -> u64 {
    let stats: String = run(client, "INFO commandstats").await;
    let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    stats.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(calls).sum()
}

/// Each waiter takes the lock in turn until so many grants were made; without the timed check, each lost wake-up is a waiter
/// that waits for ever.
async fn hand_overs(processes: &[FairLocks], name: &str, waiters: usize, grants: u64) {
    let (done, inside, mut tasks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)), JoinSet::new());
    for waiter in 0..waiters {
        let lock = processes[waiter % processes.len()].lock(name).unwrap().with_options(long());
        let (done, inside) = (done.clone(), inside.clone());
        tasks.spawn(async move {
            while done.fetch_add(1, Ordering::Relaxed) < grants {
                let lease = timeout(SAFETY_NET, lock.acquire()).await.expect("a wake-up was lost").unwrap();
                assert!(!inside.swap(true, Ordering::Relaxed), "two at once");
                inside.store(false, Ordering::Relaxed);
                lease.release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_in_10_000_hand_overs_while_subscriptions_are_killed() {
    let server = Redis::start().await.unwrap();
    let (mut processes, name) = (Vec::new(), name("killed"));
    for _ in 0..4 {
        processes.push(unchecked(&server.url()).await);
    }
    let admin = connect(server.url()).await;
    let killed = Arc::new(AtomicU64::new(0));
    let killing = tokio::spawn({
        let killed = killed.clone();
        async move {
            loop {
                sleep(Duration::from_millis(30)).await;
                killed.fetch_add(run(&admin, "CLIENT KILL TYPE pubsub").await, Ordering::Relaxed);
            }
        }
    });
    hand_overs(&processes, &name, 16, 10_000).await;
    killing.abort();
    assert!(killed.load(Ordering::Relaxed) >= 100, "the fault was there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contended_grant_takes_three_round_trips_and_waiting_takes_none() {
    let server = Redis::start().await.unwrap();
    let (mut processes, name) = (Vec::new(), name("counted"));
    for _ in 0..4 {
        processes.push(unchecked(&server.url()).await);
    }
    let admin = connect(server.url()).await;
    // Subscriptions stand, and the server knows the scripts.
    hand_overs(&processes, &name, 16, 100).await;
    run::<()>(&admin, "CONFIG RESETSTAT").await;
    let grants = 2_000;
    hand_overs(&processes, &name, 16, grants).await;
    let sent = scripts(&admin).await;
    println!("{sent} scripts for {grants} grants");
    assert!(sent <= 3 * grants, "{sent} scripts for {grants} grants: the ask, the release, the confirmation");

    let [holder, waiter] = [unchecked(&server.url()).await, unchecked(&server.url()).await];
    subscribe(&waiter, &holder).await;
    let held = holder.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let lock = waiter.lock(&name).unwrap().with_options(long());
    let waiting = tokio::spawn(async move { lock.acquire().await.unwrap() });
    until_waiting(&holder, &name, 1).await;
    run::<()>(&admin, "CONFIG RESETSTAT").await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(scripts(&admin).await, 0);
    held.release().await.unwrap();
    drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
}

/// A holder whose messages the server does not let through: its release hands the lock on, and nobody hears.
async fn muted(server: &Redis) -> FairLocks {
    let admin = connect(server.url()).await;
    run::<()>(&admin, "ACL SETUSER mute on >secret +@all ~* resetchannels").await;
    let client = Client::builder(server.url()).username("mute").password("secret").connect().await.unwrap();
    FairLocks::new(client)
}

#[tokio::test]
async fn a_lost_message_is_made_good_and_without_the_timed_check_it_is_not() {
    let server = Redis::start().await.unwrap();
    let mute = muted(&server).await;
    let checked = FairLocks::new(connect(server.url()).await);
    let heard = unchecked(&server.url()).await;
    for (locks, is_checked) in [(checked, true), (unchecked(&server.url()).await, false)] {
        let name = name("lost");
        subscribe(&locks, &heard).await;
        let held = mute.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
        let lock = locks.lock(&name).unwrap().with_options(long());
        let mut waiting = tokio::spawn(async move { lock.acquire().await.unwrap() });
        until_waiting(&mute, &name, 1).await;
        held.release().await.unwrap();
        if is_checked {
            drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
        } else {
            let holder = mute.who(&name).await.unwrap().unwrap();
            assert!(!holder.confirmed, "it is granted, and does not know");
            assert!(timeout(Duration::from_secs(3), &mut waiting).await.is_err(), "the control waits on");
            waiting.abort();
        }
    }
}

#[tokio::test]
async fn what_was_missed_with_the_subscription_is_told_when_it_stands_anew_and_without_that_it_is_not() {
    let server = Redis::start().await.unwrap();
    let (admin, name) = (connect(server.url()).await, name("deaf"));
    run::<()>(&admin, "ACL SETUSER deaf on >secret +@all ~* &*").await;
    let client = Client::builder(server.url()).username("deaf").password("secret").connect().await.unwrap();
    let (holder, deaf) = (unchecked(&server.url()).await, FairLocks::builder(client).heartbeat(NEVER).build());
    let subscriptions = async || run::<String>(&admin, "CLIENT LIST TYPE pubsub").await.lines().count();

    subscribe(&deaf, &holder).await;
    let held = holder.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let lock = deaf.lock(&name).unwrap().with_options(long());
    let mut waiting = tokio::spawn(async move { lock.acquire().await.unwrap() });
    until_waiting(&holder, &name, 1).await;
    // This ends its subscription, and it gets no other.
    run::<()>(&admin, "ACL SETUSER deaf resetchannels").await;
    until("its subscription is gone", async || subscriptions().await == 0).await;
    held.release().await.unwrap();
    assert!(timeout(Duration::from_secs(3), &mut waiting).await.is_err(), "the control waits on");
    assert!(!holder.who(&name).await.unwrap().unwrap().confirmed, "it is granted, and does not know");

    run::<()>(&admin, "ACL SETUSER deaf &*").await;
    drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_head_that_was_killed_is_passed_over() {
    let server = Redis::start().await.unwrap();
    let (url, name) = (server.url(), name("head"));
    let [holder, survivor] = [FairLocks::new(connect(&url).await), FairLocks::new(connect(&url).await)];
    let held = holder.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let dead = Process::start(&url, &name, 1);
    until_waiting(&holder, &name, 1).await;
    let lock = survivor.lock(&name).unwrap();
    let waiting = tokio::spawn(async move { lock.acquire().await.unwrap() });
    until_waiting(&holder, &name, 2).await;
    dead.kill();
    held.release().await.unwrap();
    assert!(!holder.who(&name).await.unwrap().unwrap().confirmed, "the dead one has it");
    let lease = timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
    assert_eq!(lease.fencing_token().get(), 3);
}

/// Waiters with a runtime of their own. Killed, they have ended without a word, as those of a process do.
struct Process {
    runtime: Runtime,
    waiters: Vec<tokio::task::JoinHandle<()>>,
    served: Arc<Mutex<Vec<u64>>>,
}

impl Process {
    fn start(url: &str, name: &str, waiters: usize) -> Self {
        let mut process = Self::empty();
        let locks = process.locks(url);
        for _ in 0..waiters {
            process.wait(&locks, name, 0);
        }
        process
    }

    fn empty() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, waiters: Vec::new(), served: Arc::default() }
    }

    fn locks(&self, url: &str) -> FairLocks {
        let _entered = self.runtime.enter();
        FairLocks::new(Client::new(url).unwrap())
    }

    fn wait(&mut self, locks: &FairLocks, name: &str, number: u64) {
        let (lock, served) = (locks.lock(name).unwrap().with_options(ttl(10_000)), self.served.clone());
        self.waiters.push(self.runtime.spawn(async move {
            let lease = lock.acquire().await.unwrap();
            served.lock().push(number);
            lease.release().await.unwrap();
        }));
    }

    fn kill(self) {
        // Where blocking is allowed.
        std::thread::spawn(|| self.runtime.shutdown_timeout(SAFETY_NET)).join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_1_000_waiters_300_are_killed_or_give_up_and_the_others_are_served_in_order() {
    let server = Redis::start().await.unwrap();
    let (url, name) = (server.url(), name("thousand"));
    let holder = FairLocks::new(connect(&url).await);
    let held = holder.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut processes: Vec<_> = (0..10).map(|_| Process { served: served.clone(), ..Process::empty() }).collect();
    let locks: Vec<_> = processes.iter().map(|process| process.locks(&url)).collect();
    let counter = connect(&url).await;
    for number in 0..1_000 {
        let at = usize::try_from(number % 10).unwrap();
        processes[at].wait(&locks[at], &name, number);
        let key = format!("ZCARD {{{name}}}:queue");
        until("it waits", async || run::<u64>(&counter, &key).await == number + 1).await;
    }
    // Two processes die with 100 waiters each; of the others, one in eight gives up.
    for _ in 0..2 {
        processes.pop().unwrap().kill();
    }
    let mut left: Vec<u64> = (0..1_000).filter(|number| number % 10 < 8).collect();
    for number in (0..1_000).filter(|number| number % 10 < 8).step_by(8) {
        let at = usize::try_from(number % 10).unwrap();
        processes[at].waiters[usize::try_from(number / 10).unwrap()].abort();
        left.retain(|other| *other != number);
    }
    assert_eq!(left.len(), 700);
    drop(locks);
    held.release().await.unwrap();
    until("all are served", async || served.lock().len() == 700).await;
    assert_eq!(*served.lock(), left);
    until("nobody waits", async || holder.queue(&name).await.unwrap().is_empty()).await;
    for process in processes {
        process.kill();
    }
}
