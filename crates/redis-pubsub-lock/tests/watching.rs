//! Watching a lock: what is told, and that what may have been missed is told too.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use redis_pubsub_lock::{FairLocks, Lock, LockEvent, LookError, Tenure, Watch};
use support::{Redis, SAFETY_NET, connect, name, run, ttl, until_waiting};
use tokio::time::timeout;

async fn next(watch: &mut Watch) -> LockEvent {
    timeout(SAFETY_NET, watch.next()).await.unwrap()
}

#[track_caller]
fn tenure(event: LockEvent) -> (&'static str, Tenure) {
    match event {
        LockEvent::Acquired(tenure) => ("acquired", tenure),
        LockEvent::Released(tenure) => ("released", tenure),
        LockEvent::Lost(tenure) => ("lost", tenure),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn acquired_released_and_lost_are_told_with_who_and_by_which_token() {
    let server = Redis::start().await.unwrap();
    let (client, name) = (connect(server.url()).await, name("events"));
    let watcher = FairLocks::new(connect(server.url()).await);
    let locks = FairLocks::builder(client.clone()).holder("anne & co").build();
    let mut watch = watcher.watch(&name).await.unwrap();
    let lock = locks.lock(&name).unwrap();

    let first = lock.acquire().await.unwrap();
    let (what, who) = tenure(next(&mut watch).await);
    assert_eq!((what, &*who.label, who.token), ("acquired", "anne & co", first.fencing_token()));
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.unwrap() }
    });
    until_waiting(&watcher, &name, 1).await;
    first.release().await.unwrap();
    assert_eq!(tenure(next(&mut watch).await), ("released", who));
    let second = waiting.await.unwrap();
    let (what, who) = tenure(next(&mut watch).await);
    assert_eq!((what, who.token), ("acquired", second.fencing_token()));
    second.release().await.unwrap();
    assert_eq!(tenure(next(&mut watch).await), ("released", who));

    // Nobody waits, and nobody asks: the watcher itself finds it.
    let lease = lock.with_options(ttl(100).auto_renew(false)).acquire().await.unwrap();
    let (_, who) = tenure(next(&mut watch).await);
    assert_eq!(tenure(next(&mut watch).await), ("lost", who));
    drop(lease);
}

#[tokio::test]
async fn what_may_have_been_missed_is_told() {
    let server = Redis::start().await.unwrap();
    let (client, name) = (connect(server.url()).await, name("gap"));
    let locks = FairLocks::new(client.clone());
    let mut watch = locks.watch(&name).await.unwrap();
    let mut other = locks.watch(&name).await.unwrap();
    assert_eq!(run::<u32>(&client, "CLIENT KILL TYPE pubsub").await, 1, "one connection for all");
    assert_eq!(next(&mut watch).await, LockEvent::Gap);
    drop(watch);
    assert_eq!(next(&mut other).await, LockEvent::Gap);
    let mut again = locks.watch(&name).await.unwrap();
    drop(locks.lock(&name).unwrap().acquire().await.unwrap());
    for watch in [&mut other, &mut again] {
        assert_eq!(tenure(next(watch).await).0, "acquired");
        assert_eq!(tenure(next(watch).await).0, "released");
    }
}

#[tokio::test]
async fn what_cannot_be_watched_is_told() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    run::<()>(&admin, "ACL SETUSER deaf on >secret +@all ~* resetchannels").await;
    let client = redis_pubsub_lock::Client::builder(server.url()).username("deaf").password("secret");
    let locks = FairLocks::new(client.connect().await.unwrap());
    let error = locks.watch(name("deaf")).await.unwrap_err();
    let LookError::Redis(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), redis_pubsub_lock::ErrorKind::Denied, "{error}");
    assert!(matches!(locks.watch("").await.unwrap_err(), LookError::Name(_)));
}
