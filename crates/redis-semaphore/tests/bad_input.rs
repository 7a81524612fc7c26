//! What cannot be is refused, with a text that says what to do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_lua::redis::cmd;
use redis_semaphore::{
    AcquireError, BackendError, Client, ErrorKind, LeaseOptions, Lock, NameError, SemaphoreError, Semaphores,
};
use support::{FORMS, Redis, SAFETY_NET, client, connect, long, process, run, ttl, unique, until, until_waiting};
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
    let all = Semaphores::new(Client::new("redis://127.0.0.1:1").unwrap());
    let reason = |name: &str| match all.by_set(name, 1) {
        Err(SemaphoreError::Name(reason)) => reason,
        _ => panic!("{name:?} is no name"),
    };
    assert!(matches!(reason(""), NameError::Empty));
    assert!(matches!(reason(&"x".repeat(1_025)), NameError::TooLong { .. }));
    assert!(matches!(reason("a\nb"), NameError::Control { .. }));
    assert!(matches!(reason("{a}b:permits"), NameError::Reserved { .. }));
    assert!(matches!(all.state("").await, Err(SemaphoreError::Name(_))));
}

#[tokio::test]
async fn without_a_server_it_fails_within_its_limit() {
    let all = Semaphores::new(Client::new("redis://:s3cret@127.0.0.1:1").unwrap());
    let options = LeaseOptions::default().max_outage(Duration::from_millis(100));
    let semaphore = all.by_set("a", 2).unwrap().with_options(options);
    for error in
        [refusal(semaphore.try_acquire().await), refusal(timeout(SAFETY_NET, semaphore.acquire()).await.unwrap())]
    {
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
    assert!(semaphore.state().await.is_err() && semaphore.set_limit(3).await.is_err());
}

#[tokio::test]
async fn a_server_that_goes_away_ends_the_waiting_with_its_error() {
    let mut server = Redis::start().await.unwrap();
    let waits = Semaphores::builder(connect(server.url()).await).heartbeat(Duration::from_millis(100)).build();
    let holder = Semaphores::new(connect(server.url()).await).by_set("gone", 1).unwrap().with_options(long());
    let held = holder.acquire().await.unwrap();
    let waiter = waits.by_set("gone", 1).unwrap().with_options(long().max_outage(Duration::from_millis(500)));
    let waiting = tokio::spawn(async move { waiter.acquire().await });
    until_waiting(&holder, 1).await;
    server.kill().await.unwrap();
    let error = refusal(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
    assert!(error.kind().is_transient(), "{error}");
    drop(held);
}

#[tokio::test]
async fn keys_of_another_type_are_told_and_permits_can_be_given_back() {
    let client = client().await;
    for make in FORMS {
        for suffix in ["", ":permits", ":holders", ":queue", ":waiters"] {
            let (name, all) = (unique("type"), process().await);
            let semaphore = make(&all, &name, 1).unwrap();
            let held = semaphore.acquire().await.unwrap();
            let key = format!("{{{name}}}{suffix}");
            client.run::<()>(cmd("DEL").arg(&key)).await.unwrap();
            client.run::<()>(cmd("RPUSH").arg(&key).arg("x")).await.unwrap();
            let other = make(&process().await, &name, 1).unwrap();
            let error = refusal(timeout(SAFETY_NET, other.acquire()).await.unwrap());
            assert!(matches!(error.kind(), ErrorKind::WrongType | ErrorKind::Other), "{suffix}: {error}");
            let _ = held.release().await.unwrap();
            if suffix != ":permits" {
                let left: u32 = client.run(cmd("EXISTS").arg(format!("{{{name}}}:permits"))).await.unwrap();
                assert_eq!(left, 0, "{suffix}");
            }
        }
    }
}

#[tokio::test]
async fn data_of_another_version_is_refused_and_left_as_it_is() {
    let client = client().await;
    for make in FORMS {
        let (name, all) = (unique("version"), process().await);
        let semaphore = make(&all, &name, 1).unwrap().with_options(long());
        let held = semaphore.acquire().await.unwrap();
        let waiter = semaphore.clone();
        let waiting = tokio::spawn(async move { waiter.acquire().await });
        until_waiting(&semaphore, 1).await;
        // As if an older one had written it, and its queue.
        client.run::<()>(cmd("HSET").arg(format!("{{{name}}}")).arg(&["version", "0"])).await.unwrap();
        let error = semaphore.try_acquire().await.unwrap_err();
        let told = SemaphoreError::of(&error).unwrap();
        assert!(matches!(told, SemaphoreError::OtherVersion { version, .. } if &**version == "0"), "{told:?}");
        assert!(told.to_string().contains("update the older program"), "{told}");
        let of_version = |error| matches!(error, SemaphoreError::OtherVersion { .. });
        assert!(semaphore.state().await.is_err_and(of_version));
        assert!(semaphore.set_limit(2).await.map(|_| ()).is_err_and(of_version));
        assert!(semaphore.review().await.is_err_and(of_version));
        waiting.abort();
        held.release().await.unwrap();
    }
}

#[tokio::test]
async fn without_a_right_to_channels_waiters_still_get_their_turn() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    run::<()>(&admin, "ACL SETUSER deaf on >secret +@all ~* resetchannels").await;
    run::<()>(&admin, "ACL SETUSER none on >secret -@all").await;
    let user = |name: &str| Client::builder(server.url()).username(name).password("secret").build().unwrap();
    let semaphore = Semaphores::new(user("deaf")).by_set("deaf", 1).unwrap();
    let held = semaphore.acquire().await.unwrap();
    let waiter = semaphore.clone();
    let waiting = tokio::spawn(async move { waiter.acquire().await.unwrap() });
    until_waiting(&semaphore, 1).await;
    held.release().await.unwrap();
    drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());

    let error = refusal(Semaphores::new(user("none")).by_set("deaf", 1).unwrap().acquire().await);
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
    let all = Semaphores::builder(client).heartbeat(Duration::from_millis(50)).build();
    for make in FORMS {
        let semaphore = make(&all, &unique("rights"), 2).unwrap().with_options(ttl(300));
        let held = semaphore.acquire_many(2).await.unwrap();
        let waiter = semaphore.clone();
        let waiting = tokio::spawn(async move { waiter.acquire().await.unwrap() });
        until_waiting(&semaphore, 1).await;
        let before = held.remaining();
        until("it is renewed", async || held.remaining() > before).await;
        held.release().await.unwrap();
        let next = timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
        semaphore.review().await.unwrap();
        semaphore.set_limit(3).await.unwrap();
        next.release().await.unwrap();
    }
    let denied: Vec<redis_lua::redis::Value> = run(&admin, "ACL LOG").await;
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn a_server_without_memory_grants_nothing_new_and_what_is_held_can_be_given_back() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    let all = Semaphores::builder(connect(server.url()).await).heartbeat(Duration::from_millis(100)).build();
    for make in FORMS {
        run::<()>(&admin, "CONFIG SET maxmemory 0").await;
        let semaphore = make(&all, &unique("memory"), 1).unwrap().with_options(ttl(1_500));
        let held = semaphore.acquire().await.unwrap();
        let waiter = semaphore.clone();
        let waiting = tokio::spawn(async move { waiter.acquire().await });
        until_waiting(&semaphore, 1).await;
        run::<()>(&admin, "CONFIG SET maxmemory 1").await;
        let error = refusal(make(&all, &unique("new"), 1).unwrap().try_acquire().await);
        assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
        // Well beyond its time to live, and beyond what a waiter's silence is borne.
        let (mut rises, mut before) = (0, held.remaining());
        until("it is renewed", async || {
            let now = held.remaining();
            rises += u32::from(now > before);
            before = now;
            rises >= 4
        })
        .await;
        assert_eq!(semaphore.queue().await.unwrap().len(), 1, "it keeps its place");
        held.release().await.unwrap();
        drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap().unwrap());
    }
}
