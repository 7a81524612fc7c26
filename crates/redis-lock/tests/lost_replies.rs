//! Replies that are lost, and callers that go away: whatever was sent counts once, or is undone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_lock::{Client, Lock, RedisLock, RedisLocks, ReleaseOutcome};
use support::{SAFETY_NET, client, long, name, process, run, shared, ttl, until};
use tokio::time::timeout;
use turnstile_testkit::proxy::Direction;
use turnstile_testkit::redis::RedisProxy;

/// A process that reaches the server through a proxy, and whose scripts the server knows.
async fn through_proxy() -> (RedisProxy, RedisLocks) {
    let proxy = shared().await.proxy().await.unwrap();
    let locks = RedisLocks::new(Client::connect(proxy.url()).await.unwrap());
    for lock in kinds(&locks, &name("known")) {
        lock.acquire().await.unwrap().release().await.unwrap();
    }
    (proxy, locks)
}

fn kinds(locks: &RedisLocks, name: &str) -> [RedisLock; 3] {
    let second = format!("{name}-second");
    [locks.lock(name), locks.read(name), locks.all([name, &second])].map(|lock| lock.unwrap().with_options(long()))
}

async fn fence(client: &Client, name: &str) -> u64 {
    run::<Option<u64>>(client, &format!("GET {{{name}}}:fence")).await.unwrap_or_default()
}

#[tokio::test]
async fn a_grant_whose_reply_is_lost_is_recognised_as_ones_own() {
    let (proxy, locks) = through_proxy().await;
    let (client, mut granted) = (client().await, 0);
    let name = name("grant");
    for lock in kinds(&locks, &name) {
        let cut = proxy.cut_reply_to(&name);
        let lease = timeout(SAFETY_NET, lock.acquire()).await.unwrap().unwrap();
        cut.happened().await.unwrap();
        granted += 1;
        assert_eq!((fence(&client, &name).await, lease.fencing_token().get()), (granted, granted), "granted once");
        let seen = locks.who(&name).await.unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].owner, lease.owner().to_string());
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn a_single_attempt_whose_reply_is_lost_is_an_error_and_undone() {
    let (proxy, locks) = through_proxy().await;
    let other = process().await;
    let name = name("attempt");
    for lock in kinds(&locks, &name) {
        let cut = proxy.cut_reply_to(&name);
        let error = lock.try_acquire().await.unwrap_err();
        cut.happened().await.unwrap();
        assert!(error.to_string().contains("may have been carried out"), "{error}");
        until("it is undone", async || other.who(&name).await.unwrap().is_empty()).await;
    }
    assert_eq!(fence(&client().await, &name).await, 3, "each was granted, and given back");
}

#[tokio::test]
async fn a_release_whose_reply_is_lost_is_told_and_confirmed_in_the_background() {
    let (proxy, locks) = through_proxy().await;
    let other = process().await;
    let name = name("release");
    for lock in kinds(&locks, &name) {
        let lease = lock.acquire().await.unwrap();
        let cut = proxy.cut_reply_to(&name);
        let error = lease.release().await.unwrap_err();
        cut.happened().await.unwrap();
        assert!(error.to_string().contains("others get it within"), "{error}");
        assert!(error.source.kind().is_transient());
        let again = timeout(SAFETY_NET, lock.acquire()).await.unwrap().unwrap();
        drop(again);
    }
    assert!(locks.manager().shutdown().await.is_empty(), "all are confirmed in the end");
    assert!(other.who(&name).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_renewal_whose_reply_is_lost_is_no_loss() {
    let (proxy, locks) = through_proxy().await;
    let name = name("renewal");
    for lock in kinds(&locks, &name) {
        let lease = lock.with_options(ttl(3_000)).acquire().await.unwrap();
        let before = lease.remaining();
        proxy.cut_reply_to(&name).happened().await.unwrap();
        until("it is renewed by the next", async || lease.remaining() > before - Duration::from_millis(900)).await;
        lease.check().unwrap();
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn an_acquire_that_is_cancelled_after_it_was_sent_leaves_nothing() {
    let (proxy, locks) = through_proxy().await;
    let (client, other) = (client().await, process().await);
    for held_back in [Direction::ToClient, Direction::ToServer] {
        let name = name("cancelled");
        for (nth, lock) in kinds(&locks, &name).into_iter().enumerate() {
            proxy.hold(held_back);
            let mut acquire = Box::pin(lock.acquire());
            // Sent, and for all that the caller knows never answered.
            let sent = timeout(Duration::from_millis(50), &mut acquire).await;
            assert!(sent.is_err());
            if held_back == Direction::ToClient {
                until("the server granted it", async || fence(&client, &name).await == nth as u64 + 1).await;
            }
            drop(acquire);
            proxy.pass();
            until("it was carried out", async || fence(&client, &name).await == nth as u64 + 1).await;
            until("and undone", async || other.who(&name).await.unwrap().is_empty()).await;
        }
        for lock in kinds(&other, &name) {
            lock.try_acquire().await.unwrap().expect("free for others").release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_waiter_that_is_cancelled_leaves_its_place_to_the_next() {
    let (other, locks, name) = (process().await, process().await, name("place"));
    let held = other.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let lock = locks.lock(&name).unwrap().with_options(long());
    let waiter = || {
        tokio::spawn({
            let lock = lock.clone();
            async move { lock.acquire().await.unwrap().release().await.unwrap() }
        })
    };
    let (first, second, third) = (waiter(), waiter(), waiter());
    support::until_wanted(&client().await, &name).await;
    first.abort();
    second.abort();
    held.release().await.unwrap();
    assert_eq!(timeout(SAFETY_NET, third).await.unwrap().unwrap(), ReleaseOutcome::Released);
    assert!(locks.manager().shutdown().await.is_empty());
    assert!(other.who(&name).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lease_that_is_dropped_without_a_runtime_is_released_by_the_next_or_ends_by_itself() {
    let name = name("dropped");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let lease = std::thread::scope(|scope| {
        let acquire = || runtime.block_on(async { process().await.lock(&name).unwrap().acquire().await.unwrap() });
        scope.spawn(acquire).join().unwrap()
    });
    std::thread::scope(|scope| scope.spawn(|| drop(lease)).join().unwrap());
    let other = process().await;
    until("the reaper released it", async || other.who(&name).await.unwrap().is_empty()).await;
    runtime.shutdown_background();
}
