//! Who came first is served first, over all processes; and what the queue tells meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis_lua::redis::cmd;
use redis_pubsub_lock::{AcquireError, FairLocks, LeaseOptions, Lock};
use support::{SAFETY_NET, client, long, name, process, run, ttl, until, until_waiting};
use tokio::task::JoinSet;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_over_processes_is_that_of_arrival() {
    let name = name("order");
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(process().await);
    }
    let held = processes[0].lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let (served, mut tasks) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
    for place in 0..40usize {
        // Two of each process in a row, the next before the one before it was told anything.
        let (lock, served) = (processes[place / 2 % 4].lock(&name).unwrap().with_options(long()), served.clone());
        tasks.spawn(async move {
            let lease = timeout(SAFETY_NET, lock.acquire()).await.unwrap().unwrap();
            served.lock().push((place, lease.fencing_token()));
            lease.release().await.unwrap();
        });
        until_waiting(&processes[0], &name, place + 1).await;
    }
    held.release().await.unwrap();
    tasks.join_all().await;
    let served = served.lock();
    assert!(served.iter().map(|(place, _)| *place).eq(0..40), "{served:?}");
    assert!(served.is_sorted_by(|(_, a), (_, b)| a < b), "{served:?}");
}

#[tokio::test]
async fn a_try_does_not_overtake_the_queue() {
    let (name, client) = (name("try"), client().await);
    let [holder, waiter, other] = [process().await, process().await, process().await];
    let held = holder.lock(&name).unwrap().acquire().await.unwrap();
    let lock = waiter.lock(&name).unwrap().with_options(long());
    let waiting = tokio::spawn(async move { lock.acquire().await.unwrap() });
    until_waiting(&other, &name, 1).await;
    // It is free, and nobody has passed it on: as after the end of a holder that died.
    run::<u32>(&client, &format!("DEL {{{name}}}")).await;
    assert!(other.lock(&name).unwrap().try_acquire().await.unwrap().is_none());
    let lease = timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
    assert!(lease.check().is_ok());
    drop(held);
}

#[tokio::test]
async fn a_waiter_that_gives_up_learns_its_place_and_leaves_no_gap() {
    let name = name("place");
    let [holder, waiters] = [process().await, process().await];
    let held = holder.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let lock = waiters.lock(&name).unwrap().with_options(long());
    let mut waiting = Vec::new();
    for place in 0..3 {
        let lock = lock.clone();
        waiting.push(tokio::spawn(async move { lock.acquire().await.unwrap() }));
        until_waiting(&holder, &name, place + 1).await;
    }
    let error = lock.acquire_timeout(Duration::from_millis(50)).await.unwrap_err();
    let AcquireError::TimedOut { ahead, .. } = error else { panic!("{error}") };
    assert_eq!(ahead, Some(3));

    // The second of three goes away; the third is the next but one at once.
    waiting.remove(1).abort();
    until_waiting(&holder, &name, 2).await;
    held.release().await.unwrap();
    for waiting in waiting {
        timeout(SAFETY_NET, waiting).await.unwrap().unwrap().release().await.unwrap();
    }
    assert!(holder.lock(&name).unwrap().try_acquire().await.unwrap().is_some());
}

#[tokio::test]
async fn the_place_that_is_told_is_the_one_of_now() {
    let name = name("progress");
    let locks = process().await;
    let held = locks.lock(&name).unwrap().acquire().await.unwrap();
    let waiters = FairLocks::builder(client().await).heartbeat(Duration::from_millis(50)).build();
    let lock = waiters.lock(&name).unwrap();
    let mut before = Vec::new();
    for place in 0..3 {
        let lock = locks.lock(&name).unwrap();
        before.push(tokio::spawn(async move { lock.acquire().await }));
        until_waiting(&locks, &name, place + 1).await;
    }
    let last = tokio::spawn(async move { lock.acquire_timeout(Duration::from_secs(3)).await });
    until_waiting(&locks, &name, 4).await;
    for waiting in before.drain(..2) {
        waiting.abort();
    }
    until_waiting(&locks, &name, 2).await;
    let AcquireError::TimedOut { ahead, .. } = last.await.unwrap().unwrap_err() else { panic!("not timed out") };
    assert_eq!(ahead, Some(1), "two have gone since it asked");
    drop((held, before));
}

#[tokio::test]
async fn the_queue_and_the_holder_can_be_asked_for() {
    let name = name("look");
    let (anne, bob) = (client().await, client().await);
    let (anne, bob) =
        (FairLocks::builder(anne).holder("anne\n100%").build(), FairLocks::builder(bob).holder("bob").build());
    assert_eq!((anne.who(&name).await.unwrap(), anne.queue(&name).await.unwrap()), (None, vec![]));
    let lease = anne.lock(&name).unwrap().with_options(ttl(60_000)).acquire().await.unwrap();
    let lock = bob.lock(&name).unwrap();
    let waiting = tokio::spawn(async move { lock.acquire().await.unwrap() });
    until_waiting(&anne, &name, 1).await;
    let holder = bob.who(&name).await.unwrap().unwrap();
    assert_eq!((&*holder.label, holder.token, holder.confirmed), ("anne 100%", lease.fencing_token(), true));
    assert!(holder.remaining.unwrap() <= Duration::from_secs(60) && holder.held_for < SAFETY_NET);
    let queue = anne.queue(&name).await.unwrap();
    assert_eq!((&*queue[0].label, queue[0].owner.len()), ("bob", 32));
    assert!(queue[0].waited < SAFETY_NET);
    lease.release().await.unwrap();
    let theirs = timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
    assert_eq!(anne.who(&name).await.unwrap().unwrap().owner, queue[0].owner);
    assert!(anne.queue(&name).await.unwrap().is_empty());
    theirs.release().await.unwrap();
    let left: Vec<String> = client().await.run(cmd("KEYS").arg(format!("{{{name}}}*"))).await.unwrap();
    assert_eq!(left, [format!("{{{name}}}:fence")], "nothing else is left");
}

#[tokio::test]
async fn a_holder_that_ends_by_itself_is_followed_by_the_next() {
    let name = name("ends");
    let [holder, waiter] = [process().await, process().await];
    let lost = holder.lock(&name).unwrap().with_options(ttl(100).auto_renew(false)).acquire().await.unwrap();
    let lock = waiter.lock(&name).unwrap().with_options(LeaseOptions::default());
    let lease = timeout(SAFETY_NET, lock.acquire()).await.unwrap().unwrap();
    assert!(lease.fencing_token() > lost.fencing_token() && lost.check().is_err());
    until("nobody waits", async || holder.queue(&name).await.unwrap().is_empty()).await;
}
