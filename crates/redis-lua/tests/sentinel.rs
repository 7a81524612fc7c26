//! A client that asks Sentinel where the master is, through a fail-over. Needs redis-server on the PATH.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/local.rs"]
mod local;
mod support;

use std::time::Duration;

use local::Local;
use redis_lua::redis::cmd;
use redis_lua::{Client, Script};
use support::{name, run, until};
use turnstile_core::ErrorKind;

static PUT: Script = Script::new("put", "return redis.call('SET', KEYS[1], ARGV[1])");

/// A master and a replica, both with a password, and a Sentinel without.
async fn trio() -> (Local, Local, Local) {
    let secret = ["--requirepass s3cret", "--masterauth s3cret", "--repl-diskless-sync-delay 0"];
    let master = Local::plain(&secret);
    let follow = format!("--replicaof 127.0.0.1 {}", master.port);
    let replica = Local::plain(&[&secret[..], &[&follow]].concat());
    let config = format!(
        "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel auth-pass mymaster s3cret\n\
         sentinel down-after-milliseconds mymaster 300\nsentinel failover-timeout mymaster 3000\n",
        master.port
    );
    let looks_on = |server: &Local| Client::builder(server.url()).password("s3cret").build().unwrap();
    let replica_client = looks_on(&replica);
    until("the replica is in step", async || {
        let info = replica_client.run::<String>(cmd("INFO").arg("replication")).await;
        info.is_ok_and(|info| info.contains("master_link_status:up"))
    })
    .await;
    let sentinel = Local::start("--port", &["sentinel.conf", "--sentinel"], |dir| {
        std::fs::write(dir.join("sentinel.conf"), config).unwrap();
    });
    let sentinel_client = Client::new(format!("{}?protocol=resp2", sentinel.url())).unwrap();
    let replicas = support::words("SENTINEL REPLICAS mymaster");
    until("the Sentinel knows the replica", async || {
        let known = sentinel_client.run::<Vec<redis_lua::redis::Value>>(&replicas).await;
        known.is_ok_and(|known| known.len() == 1)
    })
    .await;
    (master, replica, sentinel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_follows_the_master_through_a_fail_over() {
    let (mut master, replica, sentinel) = trio().await;
    let client = Client::sentinel([sentinel.url()], "mymaster").password("s3cret").connect().await.unwrap();
    let key = name("failed over");
    PUT.keys([&key]).arg("before").run::<()>(&client).await.unwrap();
    assert!(!format!("{client:?}").contains("s3cret"));
    client.run::<u32>(cmd("WAIT").arg(1).arg(500)).await.unwrap();

    master.kill();
    let error = PUT.keys([&key]).arg("during").run::<()>(&client).await.unwrap_err();
    assert!(error.is_transient() && !error.to_string().contains("s3cret"), "{error}");
    until("the replica is the master, and written to", async || {
        match PUT.keys([&key]).arg("after").run::<()>(&client).await {
            Ok(()) => true,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                false
            }
        }
    })
    .await;
    let promoted = Client::builder(replica.url()).password("s3cret").connect().await.unwrap();
    let found: String = promoted.run(cmd("GET").arg(key.as_key())).await.unwrap();
    assert_eq!(found, "after");

    // Sentinel takes a while to call it by that name to everybody.
    until("a new connection is to be had", async || client.dedicated(None).await.is_ok()).await;
    let mut dedicated = client.dedicated(Some(Duration::from_secs(1))).await.unwrap();
    dedicated.run::<()>(cmd("SET").arg(key.as_key()).arg("by itself")).await.unwrap();
    let mut pubsub = client.pubsub().await.unwrap();
    pubsub.subscribe("channel").await.unwrap();
    assert_eq!(run::<u32>(&client, "PUBLISH channel x").await, 1, "both are on the new master");
}

#[tokio::test]
async fn a_master_that_no_sentinel_knows_is_told() {
    let sentinel = Local::start("--port", &["sentinel.conf", "--sentinel"], |dir| {
        std::fs::write(dir.join("sentinel.conf"), "").unwrap();
    });
    until("the Sentinel answers", async || {
        let error = Client::sentinel([sentinel.url()], "nobody").connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        error.to_string().contains("no Sentinel of nobody by Sentinel 127.0.0.1")
    })
    .await;
    assert_eq!(Client::sentinel([""; 0], "nobody").build().unwrap_err().kind(), ErrorKind::Invalid);
}
