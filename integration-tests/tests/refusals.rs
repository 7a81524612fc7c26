//! Servers that answer and refuse: what is said and what holders are told.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use redis_lock::{Client, ErrorKind, Lease, Lock, LostReason, RedisLocks, ReleaseOutcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use turnstile_integration_tests::{
    SAFETY_NET, connect, lock_value, long, name, process, refusal, run, ttl, until_renewed,
};
use turnstile_testkit::redis::Redis;

/// Each way to acquire, of each kind of lock, is refused with these words.
async fn assert_refused(locks: &RedisLocks, kind: ErrorKind, words: &str) {
    let [name, other] = ["refused", "other"].map(name);
    let mut errors = Vec::new();
    for lock in [locks.lock(&name), locks.read(&name), locks.all([&name, &other])] {
        let lock = lock.unwrap().with_options(long().max_outage(Duration::ZERO));
        errors.push(refusal(lock.try_acquire().await));
        errors.push(refusal(timeout(SAFETY_NET, lock.acquire()).await.unwrap()));
        // Longer than a client waits for its connection, so that it can say what it knows.
        errors.push(refusal(lock.acquire_timeout(Duration::from_millis(1_500)).await));
    }
    for error in &errors {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "no {words:?} in: {error}");
        assert!(!error.to_string().contains('\n'), "one line");
    }
}

async fn two_leases(locks: &RedisLocks) -> [Lease; 2] {
    let [one, two] = [locks.lock(name("held")), locks.read(name("held"))];
    let acquire = async |lock: redis_lock::RedisLock| lock.with_options(ttl(2_000)).acquire().await.unwrap();
    [acquire(one.unwrap()).await, acquire(two.unwrap()).await]
}

async fn assert_lost_by_the_deadline(leases: [Lease; 2]) {
    for lease in leases {
        assert_eq!(timeout(SAFETY_NET, lease.lost()).await.unwrap(), LostReason::Expired);
    }
}

#[tokio::test]
async fn a_read_only_replica() {
    let (primary, replica);
    primary = Redis::start().await.unwrap();
    replica = Redis::builder().replica_of(&primary).start().await.unwrap();
    assert_refused(&process(replica.url()).await, ErrorKind::NotReady, "read-only replica: connect to the master")
        .await;
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_under_its_holders() {
    let server = Redis::start().await.unwrap();
    let (locks, admin) = (process(server.url()).await, connect(server.url()).await);
    let leases = two_leases(&locks).await;
    run::<()>(&admin, "REPLICAOF 127.0.0.1 1").await;
    assert_refused(&locks, ErrorKind::NotReady, "read-only replica").await;
    assert_lost_by_the_deadline(leases).await;
    run::<()>(&admin, "REPLICAOF NO ONE").await;
    let lease = locks.lock(name("again")).unwrap().acquire_timeout(SAFETY_NET).await.unwrap();
    lease.release().await.unwrap();
}

#[tokio::test]
async fn a_server_out_of_memory_grants_nothing_and_keeps_what_is_held() {
    let server = Redis::start().await.unwrap();
    let (locks, admin) = (process(server.url()).await, connect(server.url()).await);
    let leases = two_leases(&locks).await;
    run::<()>(&admin, "CONFIG SET maxmemory-policy noeviction").await;
    run::<()>(&admin, "CONFIG SET maxmemory 1").await;
    assert_refused(&locks, ErrorKind::OutOfMemory, "raise `maxmemory`").await;
    for lease in leases {
        until_renewed(&lease, 4).await;
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
    run::<()>(&admin, "CONFIG SET maxmemory 0").await;
    locks.lock(name("again")).unwrap().acquire_timeout(SAFETY_NET).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn access_rules_that_forbid_scripts_or_keys() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    let url = |user: &str| format!("redis://{user}:pw@{}:{}", server.host(), server.port());
    run::<()>(&admin, "ACL SETUSER noscripts on >pw ~* &* +@all -evalsha -eval").await;
    assert_refused(&process(url("noscripts")).await, ErrorKind::Denied, "allow +evalsha +eval (or +@scripting)").await;
    run::<()>(&admin, "ACL SETUSER nokeys on >pw ~other:* &* +@all").await;
    assert_refused(&process(url("nokeys")).await, ErrorKind::Denied, "the keys (~PATTERN)").await;

    // Taken away from one who holds leases.
    run::<()>(&admin, "ACL SETUSER holder on >pw ~* &* +@all").await;
    let locks = process(url("holder")).await;
    let leases = two_leases(&locks).await;
    run::<()>(&admin, "ACL SETUSER holder -evalsha -eval").await;
    assert_refused(&locks, ErrorKind::Denied, "+evalsha").await;
    assert_lost_by_the_deadline(leases).await;
    assert!(
        timeout(SAFETY_NET, locks.manager().shutdown())
            .await
            .unwrap()
            .iter()
            .all(|error| error.source.kind() == ErrorKind::Denied)
    );
}

#[tokio::test]
async fn rules_that_allow_what_the_docs_name_are_enough() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    let commands = "+evalsha +eval +time +get +set +del +pttl +pexpire +incrby +zadd +zscore +zrem +zrevrange \
                    +zrangebyscore +hget +hset +hdel";
    run::<()>(&admin, &format!("ACL SETUSER least on >pw ~{{* {commands}")).await;
    let locks = process(format!("redis://least:pw@{}:{}", server.host(), server.port())).await;
    let [a, b] = ["a", "b"].map(name);
    for lock in [locks.lock(&a), locks.read(&a), locks.all([&a, &b])] {
        let lease = lock.unwrap().with_options(ttl(1_500)).acquire().await.unwrap();
        until_renewed(&lease, 1).await;
        assert_eq!(locks.who(&a).await.unwrap().len(), 1);
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn a_server_older_than_seven() {
    // Enough of an old server: it answers INFO, and knows nothing of RESP3.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}?protocol=resp2", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                    for command in String::from_utf8_lossy(&buffer[..count]).split('*').skip(1) {
                        let info = "$22\r\nredis_version:6.2.14\r\n\r\n";
                        let answer = if command.contains("INFO") { info } else { "+OK\r\n" };
                        let _ = socket.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    let words = "runs Redis 6.2.14: 7.0 or later is wanted; upgrade the server";
    let error = Client::connect(&url).await.unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    assert_refused(&RedisLocks::new(Client::new(&url).unwrap()), ErrorKind::Unsupported, words).await;
}

#[tokio::test]
async fn a_password_that_lacks_or_is_wrong() {
    let server = Redis::builder().password("right").start().await.unwrap();
    for (user, words) in
        [("", "wants a password: give it in the URL"), (":wrong@", "does not take this user name and password")]
    {
        let client = Client::new(format!("redis://{user}{}:{}", server.host(), server.port())).unwrap();
        assert_refused(&RedisLocks::new(client), ErrorKind::Denied, words).await;
    }
}

#[tokio::test]
async fn a_refused_try_leaves_nothing() {
    let server = Redis::start().await.unwrap();
    let (locks, admin, name) = (process(server.url()).await, connect(server.url()).await, name("nothing"));
    run::<()>(&admin, &format!("SET {{{name}}}:fence 9007199254740991")).await;
    for lock in [locks.lock(&name).unwrap(), locks.read(&name).unwrap()] {
        let error = refusal(lock.try_acquire().await);
        assert!(error.to_string().contains("the fencing counter is used up: delete"), "{error}");
        assert!(lock_value(&admin, &name).await.is_none() && locks.who(&name).await.unwrap().is_empty());
    }
}
