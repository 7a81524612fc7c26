//! What cannot be is refused, with a text that says what to do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_lua::redis::cmd;
use redis_pubsub_lock::{
    AcquireError, BackendError, Client, ErrorKind, FairLocks, LeaseOptions, Lock, LookError, NameError, OtherVersion,
};
use support::{Redis, SAFETY_NET, client, connect, long, name, process, run, until_waiting};
use tokio::time::timeout;

#[track_caller]
fn refusal<T>(result: Result<T, AcquireError>) -> BackendError {
    match result {
        Err(AcquireError::Backend { source, .. }) => source,
        Err(other) => panic!("not the server's refusal: {other}"),
        Ok(_) => panic!("it was granted"),
    }
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_before_anything_is_sent() {
    let locks = FairLocks::new(Client::new("redis://127.0.0.1:1").unwrap());
    assert!(matches!(locks.lock(""), Err(NameError::Empty)));
    assert!(matches!(locks.lock("x".repeat(1_025)), Err(NameError::TooLong { .. })));
    assert!(matches!(locks.lock("a\nb"), Err(NameError::Control { .. })));
    assert!(matches!(locks.lock("{a}:alive"), Err(NameError::Braces { .. } | NameError::Reserved { .. })));
    assert!(matches!(locks.lock("{a}b:alive"), Err(NameError::Reserved { .. })));
    assert!(matches!(locks.who("").await, Err(LookError::Name(_))));
    assert!(matches!(locks.queue("").await, Err(LookError::Name(_))));
}

#[tokio::test]
async fn without_a_server_it_fails_within_its_limit() {
    let locks = FairLocks::new(Client::new("redis://:s3cret@127.0.0.1:1").unwrap());
    let options = LeaseOptions::default().max_outage(Duration::from_millis(100));
    let lock = locks.lock("a").unwrap().with_options(options);
    for error in [refusal(lock.try_acquire().await), refusal(timeout(SAFETY_NET, lock.acquire()).await.unwrap())] {
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
    assert!(locks.watch("a").await.is_err() && locks.who("a").await.is_err());
}

#[tokio::test]
async fn a_server_that_goes_away_ends_the_waiting_with_its_error() {
    let mut server = Redis::start().await.unwrap();
    let (name, holder) = (name("gone"), FairLocks::new(connect(server.url()).await));
    let waiter = FairLocks::builder(connect(server.url()).await).heartbeat(Duration::from_millis(100)).build();
    let held = holder.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let options = long().max_outage(Duration::from_millis(500));
    let lock = waiter.lock(&name).unwrap().with_options(options);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    until_waiting(&holder, &name, 1).await;
    server.kill().await.unwrap();
    let error = refusal(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
    assert!(error.kind().is_transient(), "{error}");
    drop(held);
}

#[tokio::test]
async fn keys_of_another_type_are_told_and_hold_nobody_else_up() {
    let client = client().await;
    let locks = process().await;
    for (suffix, command) in [
        ("", "RPUSH"),
        (":fence", "RPUSH"),
        (":queue", "SADD"),
        (":alive", "SADD"),
        (":waiting", "SADD"),
        (":holder", "RPUSH"),
    ] {
        let name = name("type");
        let held = if suffix == ":queue" || suffix == ":alive" {
            Some(locks.lock(&name).unwrap().acquire().await.unwrap())
        } else {
            None
        };
        client.run::<()>(cmd(command).arg(format!("{{{name}}}{suffix}")).arg("x")).await.unwrap();
        let error = refusal(timeout(SAFETY_NET, locks.lock(&name).unwrap().acquire()).await.unwrap());
        assert!(matches!(error.kind(), ErrorKind::WrongType | ErrorKind::Other), "{suffix}: {error}");
        if let Some(held) = held {
            held.release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_queue_of_another_version_is_refused_and_says_so() {
    let (client, locks) = (client().await, process().await);
    for version in ["0", "2"] {
        let name = name("version");
        let lock = locks.lock(&name).unwrap();
        let held = lock.acquire().await.unwrap();
        client.run::<()>(cmd("ZADD").arg(format!("{{{name}}}:queue")).arg(1).arg("somebody")).await.unwrap();
        client.run::<()>(cmd("HSET").arg(format!("{{{name}}}:waiting")).arg(&["v", version])).await.unwrap();
        for error in [lock.acquire().await.unwrap_err(), lock.try_acquire().await.unwrap_err()] {
            let told = OtherVersion::of(&error).unwrap();
            assert_eq!((&*told.name, &*told.version), (&*name, version));
            assert!(error.to_string().contains("one version") || told.to_string().contains("one version"), "{error}");
            assert_eq!(refusal(Err::<(), _>(error)).kind(), ErrorKind::Unsupported);
        }
        let LookError::Version(told) = locks.queue(&name).await.unwrap_err() else { panic!("not the version") };
        assert_eq!(told.version, version);
        held.release().await.unwrap();
        let score: Option<u32> =
            client.run(cmd("ZSCORE").arg(format!("{{{name}}}:queue")).arg("somebody")).await.unwrap();
        assert_eq!(score, Some(1), "their queue is left as it is");
    }
}

#[tokio::test]
async fn without_a_right_to_channels_waiters_still_get_their_turn() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    run::<()>(&admin, "ACL SETUSER deaf on >secret +@all ~* resetchannels").await;
    run::<()>(&admin, "ACL SETUSER none on >secret -@all").await;
    let user = |name: &str| Client::builder(server.url()).username(name).password("secret").build().unwrap();
    let (name, locks) = (name("deaf"), FairLocks::new(user("deaf")));
    let lock = locks.lock(&name).unwrap();
    let held = lock.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.unwrap() }
    });
    until_waiting(&locks, &name, 1).await;
    held.release().await.unwrap();
    drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());

    let error = refusal(FairLocks::new(user("none")).lock(&name).unwrap().acquire().await);
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test]
async fn the_rights_that_the_readme_names_are_enough() {
    let server = Redis::start().await.unwrap();
    let readme = include_str!("../README.md");
    let rights = readme.split_once("A user needs `").unwrap().1.split_once('`').unwrap().0.replace('\n', " ");
    let admin = connect(server.url()).await;
    run::<()>(&admin, &format!("ACL SETUSER anne on >secret -@all {rights} ~{{* resetchannels &turnstile:*")).await;
    let client = Client::builder(server.url()).username("anne").password("secret").connect().await.unwrap();
    let name = name("rights");
    let locks = FairLocks::builder(client).heartbeat(Duration::from_millis(50)).build();
    let mut watch = locks.watch(&name).await.unwrap();
    let lock = locks.lock(&name).unwrap().with_options(support::ttl(300));
    let held = lock.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.unwrap() }
    });
    until_waiting(&locks, &name, 1).await;
    let before = held.remaining();
    support::until("it is renewed", async || held.remaining() > before).await;
    assert!(matches!(watch.next().await, redis_pubsub_lock::LockEvent::Acquired(_)));
    held.release().await.unwrap();
    let next = timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
    next.release().await.unwrap();
    let denied: String = run(&admin, "INFO stats").await;
    let denied = denied.lines().filter(|line| line.starts_with("acl_access_denied")).collect::<Vec<_>>();
    assert!(denied.iter().all(|line| line.ends_with(":0")), "{denied:?}");
    let denied: Vec<redis_lua::redis::Value> = run(&admin, "ACL LOG").await;
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn a_server_without_memory_grants_nothing_new_and_what_is_held_can_be_given_back() {
    let server = Redis::start().await.unwrap();
    let (admin, name) = (connect(server.url()).await, name("memory"));
    let locks = FairLocks::builder(connect(server.url()).await).heartbeat(Duration::from_millis(100)).build();
    let lock = locks.lock(&name).unwrap().with_options(support::ttl(1_500));
    let held = lock.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await }
    });
    until_waiting(&locks, &name, 1).await;
    run::<()>(&admin, "CONFIG SET maxmemory 1").await;
    let error = refusal(locks.lock(support::name("new")).unwrap().try_acquire().await);
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
    // Well beyond its time to live, and beyond what a waiter's silence is borne.
    let (mut rises, mut before) = (0, held.remaining());
    support::until("it is renewed", async || {
        let now = held.remaining();
        rises += u32::from(now > before);
        before = now;
        rises >= 4
    })
    .await;
    assert_eq!(locks.queue(&name).await.unwrap().len(), 1, "it keeps its place");
    held.release().await.unwrap();
    drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap().unwrap());
}
