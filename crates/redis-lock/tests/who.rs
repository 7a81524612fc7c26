//! Who holds a lock, as others see it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_lock::{ErrorKind, Lock, RedisLocks, WhoError};
use redis_lua::redis::cmd;
use support::{LONG, client, long, name, process};

#[tokio::test]
async fn others_see_the_holder_its_label_since_when_how_long_and_its_token() {
    let (name, other) = (name("who"), process().await);
    assert!(other.who(&name).await.unwrap().is_empty());
    let locks = RedisLocks::builder(client().await).holder("deploy job 7:\nß").build();
    let lease = locks.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let [holder] = &other.who(&name).await.unwrap()[..] else { panic!("one holds it") };
    assert_eq!(holder.owner, lease.owner().to_string());
    assert_eq!(holder.label, "deploy job 7: ß", "control characters are spaces");
    assert_eq!(holder.token, lease.fencing_token());
    assert!(!holder.shared);
    assert!(holder.held_for < LONG / 2);
    assert!(holder.remaining.is_some_and(|left| left > LONG / 2 && left <= LONG));

    let before = holder.held_for;
    support::until("it is held for longer", async || other.who(&name).await.unwrap()[0].held_for > before).await;
    lease.release().await.unwrap();
    assert!(other.who(&name).await.unwrap().is_empty());
}

#[tokio::test]
async fn each_reader_is_seen() {
    let (name, other) = (name("who reads"), process().await);
    let mut leases = Vec::new();
    for label in ["one", "", "three words here"] {
        let locks = RedisLocks::builder(client().await).holder(label).build();
        leases.push((locks.read(&name).unwrap().with_options(long()).acquire().await.unwrap(), label));
    }
    let mut seen = other.who(&name).await.unwrap();
    seen.sort_by_key(|holder| holder.token);
    assert_eq!(seen.len(), 3);
    for (holder, (lease, label)) in seen.iter().zip(&leases) {
        assert_eq!((holder.token, &*holder.label, holder.shared), (lease.fencing_token(), *label, true));
        assert_eq!(holder.owner, lease.owner().to_string());
        assert!(holder.remaining.is_some_and(|left| left > Duration::ZERO && left <= LONG));
    }
}

#[tokio::test]
async fn by_default_a_holder_is_called_by_host_and_process() {
    let (name, locks) = (name("default"), process().await);
    let _lease = locks.lock(&name).unwrap().acquire().await.unwrap();
    let label = &locks.who(&name).await.unwrap()[0].label;
    assert!(label.ends_with(&format!(":{}", std::process::id())), "{label}");
}

#[tokio::test]
async fn a_key_that_is_not_of_this_crate_holds_the_lock_without_a_name() {
    let (client, locks) = (client().await, process().await);
    for value in [&b""[..], b"x", b"two words", b"\xff\xfe binary", b"0123456789abcdef0123456789abcdef"] {
        let name = name("foreign");
        client.run::<()>(cmd("SET").arg(format!("{{{name}}}")).arg(value)).await.unwrap();
        let seen = locks.who(&name).await.unwrap();
        assert_eq!(seen.len(), 1, "{value:?}");
        assert_eq!((&*seen[0].owner, &*seen[0].label, seen[0].remaining), ("", "", None), "{value:?}");
        assert!(locks.lock(&name).unwrap().try_acquire().await.unwrap().is_none());
        assert!(locks.read(&name).unwrap().try_acquire().await.unwrap().is_none());
    }
    let name = name("list");
    client.run::<()>(cmd("RPUSH").arg(format!("{{{name}}}")).arg(1)).await.unwrap();
    let WhoError::Redis(error) = locks.who(&name).await.unwrap_err() else { panic!("not the name") };
    assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
    assert!(matches!(locks.who("").await.unwrap_err(), WhoError::Name(_)));
}
