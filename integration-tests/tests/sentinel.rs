//! Locks on a master that a Sentinel watches, through a fail-over: what a replica has is kept, what it has not is forgotten,
//! and the holder is told. Needs redis-server on the PATH.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../crates/redis-lua/tests/support/local.rs"]
mod local;

use local::Local;
use redis_lock::{Client, Lock, LostReason, RedisLocks, ReleaseOutcome};
use redis_lua::redis::Value;
use tokio::time::timeout;
use turnstile_integration_tests::{SAFETY_NET, connect, long, name, run, ttl, until, words};

/// A master, a replica that has all of it, and a Sentinel that knows both.
async fn trio() -> (Local, Local, Local) {
    let at_once = "--repl-diskless-sync-delay 0";
    let master = Local::plain(&[at_once]);
    let replica = Local::plain(&[at_once, &format!("--replicaof 127.0.0.1 {}", master.port)]);
    let looks = Client::new(replica.url()).unwrap();
    until("the replica is in step", async || {
        let info = looks.run::<String>(&words("INFO replication")).await;
        info.is_ok_and(|info| info.contains("master_link_status:up"))
    })
    .await;
    let config = format!(
        "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel down-after-milliseconds mymaster 1000\n\
         sentinel failover-timeout mymaster 3000\n",
        master.port
    );
    let sentinel = Local::start("--port", &["sentinel.conf", "--sentinel"], |dir| {
        std::fs::write(dir.join("sentinel.conf"), config).unwrap();
    });
    let looks = Client::new(format!("{}?protocol=resp2", sentinel.url())).unwrap();
    until("the Sentinel knows the replica", async || {
        let known = looks.run::<Vec<Value>>(&words("SENTINEL REPLICAS mymaster")).await;
        known.is_ok_and(|known| known.len() == 1)
    })
    .await;
    (master, replica, sentinel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_keeps_what_the_replica_has_and_the_holder_of_what_it_forgot_is_told() {
    let (mut master, replica, sentinel) = trio().await;
    let client = async || Client::sentinel([sentinel.url()], "mymaster").connect().await.unwrap();
    let ours = RedisLocks::builder(client().await).replicas(1, SAFETY_NET).build();
    let (unconfirmed, theirs) = (RedisLocks::new(client().await), RedisLocks::new(client().await));
    let (kept, forgotten) = (name("kept"), name("forgotten"));

    let confirmed = ours.lock(&kept).unwrap().with_options(long()).acquire().await.unwrap();
    // The replica is to hear of nothing more.
    replica.stop();
    run::<u32>(&connect(master.url()).await, "CLIENT KILL TYPE replica").await;
    let lost = unconfirmed.lock(&forgotten).unwrap().with_options(ttl(20_000)).acquire().await.unwrap();
    assert!(theirs.lock(&forgotten).unwrap().try_acquire().await.unwrap().is_none());
    master.kill();
    replica.cont();

    // Whoever waits gets on with the new master, and has what the old one had given away.
    let waits = theirs.lock(&forgotten).unwrap().with_options(long().max_outage(SAFETY_NET));
    let second = timeout(SAFETY_NET, waits.acquire()).await.unwrap().unwrap();
    // The counter was forgotten with the grant: this is what is not promised.
    assert_eq!(second.fencing_token(), lost.fencing_token());
    // The older holder learns of it with its next renewal.
    assert_eq!(timeout(SAFETY_NET, lost.lost()).await.unwrap(), LostReason::Revoked);
    second.check().unwrap();

    confirmed.check().unwrap();
    assert!(theirs.lock(&kept).unwrap().try_acquire().await.unwrap().is_none(), "it is held on the new master too");
    // Its connection was to the old master: what gets lost with that is asked again in the background.
    if let Ok(released) = confirmed.release().await {
        assert_eq!(released, ReleaseOutcome::Released);
    }
    let next = theirs.lock(&kept).unwrap().with_options(long());
    let next = timeout(SAFETY_NET, next.acquire()).await.unwrap().unwrap();
    assert_eq!(next.fencing_token().get(), 2, "its counter has come along");
}
