//! Grants that count only when replicas have them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_lock::{AcquireError, Client, ErrorKind, Lock, RedisLocks};
use support::{SAFETY_NET, long, name, run, until};
use tokio::time::timeout;
use turnstile_testkit::redis::{Redis, Server};

const WITHIN: Duration = Duration::from_millis(200);

async fn locks(server: &Server, replicas: u32, within: Duration) -> RedisLocks {
    RedisLocks::builder(Client::connect(server.url()).await.unwrap()).replicas(replicas, within).build()
}

/// A try fails with the remedy, within its time, and leaves nothing.
async fn assert_unconfirmed(locks: &RedisLocks, name: &str) {
    let options = long().max_outage(Duration::ZERO);
    for lock in [locks.lock(name), locks.read(name)] {
        let lock = lock.unwrap().with_options(options.clone());
        for result in [
            lock.try_acquire().await.map(drop),
            timeout(SAFETY_NET, lock.acquire()).await.unwrap().map(drop),
            lock.acquire_timeout(SAFETY_NET).await.map(drop),
        ] {
            let AcquireError::Backend { source, .. } = result.unwrap_err() else { panic!("another error") };
            assert_eq!(source.kind(), ErrorKind::NotReady, "{source}");
            assert!(source.to_string().contains("replicas confirmed the grant within"), "{source}");
            until("it is undone", async || locks.who(name).await.unwrap().is_empty()).await;
        }
    }
}

#[tokio::test]
async fn a_grant_is_confirmed_by_a_replica_or_is_none() {
    let (primary, replica);
    primary = Redis::start().await.unwrap();
    replica = Redis::builder().replica_of(&primary).start().await.unwrap();
    let there = Client::connect(replica.url()).await.unwrap();
    until("the replica is in step", async || {
        run::<String>(&there, "INFO replication").await.contains("master_link_status:up")
    })
    .await;
    let (name, confirmed) = (name("confirmed"), locks(&primary, 1, Duration::from_millis(900)).await);
    let lease =
        timeout(SAFETY_NET, confirmed.lock(&name).unwrap().with_options(long()).acquire()).await.unwrap().unwrap();
    let copied: String = run(&there, &format!("GET {{{name}}}")).await;
    assert!(copied.starts_with(&lease.owner().to_string()), "the replica has it by now");
    lease.release().await.unwrap();

    assert_unconfirmed(&locks(&primary, 2, WITHIN).await, &name).await;

    replica.stop().await.unwrap();
    let paused = locks(&primary, 1, WITHIN).await;
    assert_unconfirmed(&paused, &name).await;
    let waits = paused.lock(&name).unwrap().with_options(long().max_outage(SAFETY_NET));
    let waiting = tokio::spawn(async move { waits.acquire().await });
    replica.cont().await.unwrap();
    let lease = timeout(SAFETY_NET, waiting).await.unwrap().unwrap().expect("it is asked again until it is confirmed");
    lease.release().await.unwrap();
}

#[tokio::test]
async fn without_replicas_it_says_so() {
    let alone = Redis::start().await.unwrap();
    assert_unconfirmed(&locks(&alone, 1, WITHIN).await, &name("alone")).await;
    // No time at all is the shortest, and not for ever.
    assert_unconfirmed(&locks(&alone, 1, Duration::ZERO).await, &name("no time")).await;
}
