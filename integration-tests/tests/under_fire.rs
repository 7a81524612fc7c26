//! Scripts forgotten, connections killed and all data flushed, while locks are in use.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redis_lock::{Lock, LostReason, RedisLock, ReleaseOutcome};
use redis_lua::{GuardedWrite, Name, Written};
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnstile_integration_tests::{Oracle, SAFETY_NET, connect, long, name, process, run, ttl, until, until_renewed};
use turnstile_testkit::redis::Redis;

/// Takes the lock again and again, and tells how often.
async fn work(lock: RedisLock, oracles: Vec<Oracle>, grants: Arc<AtomicU64>, done: Arc<AtomicBool>) {
    while !done.load(Ordering::SeqCst) {
        let lease = lock.acquire().await.unwrap_or_else(|error| panic!("asked again until it is answered: {error}"));
        for oracle in &oracles {
            // Whether alone or not, and whatever became of this connection, is in the register.
            let _ = oracle.enter(&lease).await;
        }
        for oracle in &oracles {
            oracle.leave(&lease).await;
        }
        match lease.release().await {
            Ok(outcome) => assert_eq!(outcome, ReleaseOutcome::Released),
            Err(error) => assert!(error.source.kind().is_transient(), "{error}"),
        }
        grants.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_scripts_and_killed_connections_break_no_promise() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    let names = ["a", "b"].map(name);
    let watching = connect(server.url()).await;
    let oracles = names.clone().map(|name| Oracle::new(watching.clone(), &format!("{name}/oracle")).unwrap());
    let (grants, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (mut tasks, mut processes) = (JoinSet::new(), Vec::new());
    for _ in 0..2 {
        let locks = process(server.url()).await;
        for (lock, watched) in [
            (locks.lock(&names[0]), &oracles[..1]),
            (locks.lock(&names[0]), &oracles[..1]),
            (locks.lock(&names[1]), &oracles[1..]),
            (locks.all(&names), &oracles[..]),
        ] {
            let lock = lock.unwrap().with_options(long().max_outage(SAFETY_NET));
            tasks.spawn(work(lock, watched.to_vec(), grants.clone(), done.clone()));
        }
        processes.push(locks);
    }
    for _ in 0..8 {
        for _ in 0..5 {
            run::<()>(&admin, "SCRIPT FLUSH").await;
            let before = grants.load(Ordering::SeqCst);
            until("they go on", async || grants.load(Ordering::SeqCst) > before + 4).await;
        }
        run::<u64>(&admin, "CLIENT KILL TYPE normal SKIPME yes").await;
    }
    done.store(true, Ordering::SeqCst);
    timeout(SAFETY_NET, tasks.join_all()).await.expect("all end");
    for locks in &processes {
        assert!(timeout(SAFETY_NET, locks.manager().shutdown()).await.unwrap().is_empty());
    }
    for (name, oracle) in names.iter().zip(&oracles) {
        assert_eq!(oracle.overlaps().await.unwrap(), 0);
        assert!(processes[0].who(name).await.unwrap().is_empty(), "nothing is left");
    }
}

#[tokio::test]
async fn leases_held_through_forgotten_scripts_and_killed_connections_stay_held() {
    let server = Redis::start().await.unwrap();
    let (locks, admin) = (process(server.url()).await, connect(server.url()).await);
    let [a, b, c] = ["a", "b", "c"].map(name);
    let mut leases = Vec::new();
    for lock in [locks.lock(&a), locks.read(&b), locks.all([&c, &name("d")])] {
        leases.push(lock.unwrap().with_options(ttl(3_000)).acquire().await.unwrap());
    }
    for _ in 0..3 {
        run::<()>(&admin, "SCRIPT FLUSH").await;
        run::<u64>(&admin, "CLIENT KILL TYPE normal SKIPME yes").await;
        for lease in &leases {
            until_renewed(lease, 1).await;
        }
    }
    for lease in leases {
        lease.check().unwrap();
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn flushed_data_is_told_to_every_holder_and_starts_the_tokens_anew() {
    let (server, elsewhere) =
        (Redis::start().await.unwrap(), connect(turnstile_testkit::redis::shared().await.unwrap().url()).await);
    let (locks, admin) = (process(server.url()).await, connect(server.url()).await);
    let [a, b, c] = ["a", "b", "c"].map(name);
    for _ in 0..3 {
        locks.lock(&a).unwrap().acquire().await.unwrap().release().await.unwrap();
    }
    let mut leases = Vec::new();
    for lock in [locks.lock(&a), locks.read(&b), locks.all([&c, &name("d")])] {
        leases.push(lock.unwrap().with_options(ttl(3_000)).acquire().await.unwrap());
    }
    let before = leases[0].fencing_token();
    let guarded = GuardedWrite::new(Name::new(name("data")).unwrap());
    assert!(guarded.set(&elsewhere, before, "before").await.unwrap().is_done());

    run::<()>(&admin, "FLUSHALL").await;
    let others = process(server.url()).await;
    let next = others.lock(&a).unwrap().try_acquire().await.unwrap().expect("free at once");
    for lease in leases {
        // By the next renewal: long before the deadline.
        assert_eq!(timeout(SAFETY_NET, lease.lost()).await.unwrap(), LostReason::Revoked);
        assert_ne!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
    next.check().unwrap();

    // The limit that the README tells: the counter was flushed too, so a resource that remembers refuses the new holder
    // until the tokens have caught up. It is never the old holder that gets through where it remembers.
    assert!(next.fencing_token() < before, "{} {before}", next.fencing_token());
    assert_eq!(
        guarded.set(&elsewhere, next.fencing_token(), "after").await.unwrap(),
        Written::Refused { newest: before }
    );
    assert_eq!(next.release().await.unwrap(), ReleaseOutcome::Released);
}
