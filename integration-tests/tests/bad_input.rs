//! Names and times that cannot be, and keys that something else uses: a typed error that says what to do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use redis_lock::{
    Client, ErrorKind, LeaseOptions, Lock, LockError, LostReason, NameError, RedisLock, RedisLocks, ReleaseOutcome,
};
use redis_lua::redis::cmd;
use turnstile_integration_tests::{
    SAFETY_NET, connect, lock_value, long, name, process, refusal, run, ttl, until, until_renewed,
};
use turnstile_testkit::unique;

async fn url() -> String {
    turnstile_testkit::redis::shared().await.unwrap().url()
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_with_what_to_change() {
    let locks = process(url().await).await;
    let long_name = "x".repeat(10 * 1024);
    for (bad, advice) in [
        ("", "give it at least one character"),
        ("a\nb", "take it out"),
        ("a\0b", "take it out"),
        ("a{b", "braces"),
        ("a}b", "braces"),
        ("{}a", "braces"),
        ("{a}{b}", "braces"),
        ("{a}", "leave the braces out"),
        ("{a}:fence", "fence"),
        (&long_name, "shorten it"),
    ] {
        let refusals = [locks.lock(bad), locks.read(bad), locks.all(["fine", bad])];
        for refused in refusals.map(|lock| lock.map(drop).unwrap_err()) {
            assert!(matches!(refused, LockError::Name(_)), "{refused:?}");
            let text = refused.to_string();
            assert!(text.contains(advice), "{bad:?}: {text}");
            assert!(!text.contains(['\n', '\0']) && text.len() < 500, "{text:?}");
        }
        assert!(locks.who(bad).await.unwrap_err().to_string().contains(advice));
    }
    assert_eq!(locks.lock("").map(drop).unwrap_err(), LockError::Name(NameError::Empty));
}

#[tokio::test]
async fn names_with_spaces_other_scripts_and_a_tag_are_fine() {
    let locks = process(url().await).await;
    for good in
        [unique("two words"), unique("名前 ß 'quoted' \"%s\""), format!("{{{}}}:a", unique("tenant")), "x".repeat(1024)]
    {
        for lock in [locks.lock(&good), locks.read(&good), locks.all([&good])] {
            let lease = lock.unwrap().try_acquire().await.unwrap().unwrap();
            assert_eq!((lease.name(), locks.who(&good).await.unwrap().len()), (&*good, 1));
            assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
        }
    }
}

#[tokio::test]
async fn times_to_live_that_cannot_be_kept_are_refused_and_the_longest_and_shortest_are_kept() {
    for bad in
        [Duration::ZERO, Duration::from_millis(1), LeaseOptions::MAX_TTL + Duration::from_millis(1), Duration::MAX]
    {
        let text = LeaseOptions::new(bad).unwrap_err().to_string();
        assert!(text.contains("choose one from 10ms to 365 days"), "{text}");
    }
    let (locks, name) = (process(url().await).await, name("ttl"));
    for kind in [locks.lock(&name).unwrap(), locks.read(&name).unwrap()] {
        let year =
            kind.clone().with_options(LeaseOptions::new(LeaseOptions::MAX_TTL).unwrap()).acquire().await.unwrap();
        let left = locks.who(&name).await.unwrap()[0].remaining.unwrap();
        assert!(left > LeaseOptions::MAX_TTL / 2, "{left:?}");
        year.release().await.unwrap();

        let shortest = LeaseOptions::new(LeaseOptions::MIN_TTL).unwrap().max_outage(Duration::ZERO);
        // It may be over before its reply is there: then that is said.
        match kind.with_options(shortest.auto_renew(false)).acquire().await {
            Ok(lease) => assert_eq!(lease.lost().await, LostReason::Expired),
            Err(error) => assert!(error.to_string().contains("choose a longer one"), "{error}"),
        }
        until("it ends by itself", async || locks.who(&name).await.unwrap().is_empty()).await;
    }
}

#[tokio::test]
async fn waiting_delays_and_limits_of_any_length_are_fine() {
    let (locks, other, name) = (process(url().await).await, process(url().await).await, name("delays"));
    let held = other.lock(&name).unwrap().acquire().await.unwrap();
    for max in [Duration::ZERO, Duration::MAX] {
        let options = long().retry(turnstile_core::Backoff::new(Duration::ZERO, max)).max_outage(Duration::MAX);
        for lock in [locks.lock(&name), locks.read(&name)] {
            let lock = lock.unwrap().with_options(options.clone());
            let error = lock.acquire_timeout(Duration::from_millis(30)).await.unwrap_err();
            assert!(error.to_string().contains("held by others"), "{error}");
        }
    }
    held.release().await.unwrap();
    let lease = locks.lock(&name).unwrap().acquire_timeout(Duration::MAX).await.unwrap();
    lease.release().await.unwrap();
}

/// Locks of each kind that share a name.
fn kinds(locks: &RedisLocks, name: &str) -> [RedisLock; 3] {
    [locks.lock(name), locks.read(name), locks.all([name, &format!("{name}-other")])]
        .map(|lock| lock.unwrap().with_options(long()))
}

#[tokio::test]
async fn a_key_that_holds_another_type_is_told_and_no_lock_is_left_behind() {
    let (client, locks) = (connect(url().await).await, process(url().await).await);
    for suffix in ["", ":fence", ":readers", ":waiting", ":holder"] {
        let name = name("another type");
        let key = format!("{{{name}}}{suffix}");
        client.run::<()>(cmd("XADD").arg(&key).arg("*").arg("a").arg("b")).await.unwrap();
        let mut refused = 0;
        for lock in kinds(&locks, &name) {
            match lock.acquire_timeout(SAFETY_NET).await {
                Ok(lease) => {
                    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
                }
                refused_by => {
                    let error = refusal(refused_by);
                    assert_eq!(error.kind(), ErrorKind::WrongType, "{key}: {error}");
                    assert!(error.to_string().contains("choose another, or delete the key"), "{error}");
                    refused += 1;
                }
            }
            if !suffix.is_empty() {
                assert!(lock_value(&client, &name).await.is_none(), "{key}: a lock is left behind");
            }
            assert!(lock_value(&client, &format!("{name}-other")).await.is_none(), "{key}");
        }
        // Only readers have labels, and only they are kept out by a mark.
        assert_eq!(refused, if [":waiting", ":holder"].contains(&suffix) { 1 } else { 3 }, "{key}");
        assert_eq!(client.run::<u8>(cmd("XLEN").arg(&key)).await.unwrap(), 1, "what was there is untouched");
        client.run::<()>(cmd("DEL").arg(&key)).await.unwrap();
        for lock in kinds(&locks, &name) {
            lock.try_acquire().await.unwrap().expect("nothing is left in the way").release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn of_a_batch_of_renewals_only_the_replaced_key_is_lost() {
    let (client, locks) = (connect(url().await).await, process(url().await).await);
    replaced(&client, "", (0..20).map(|_| locks.lock(name("batch")).unwrap())).await;
    replaced(&client, ":readers", (0..20).map(|_| locks.read(name("batch")).unwrap())).await;
}

async fn replaced(client: &Client, suffix: &str, locks: impl Iterator<Item = RedisLock>) {
    let mut leases = Vec::new();
    for lock in locks {
        leases.push(lock.with_options(ttl(3_000)).acquire().await.unwrap());
    }
    let victim = leases.remove(7);
    let key = format!("{{{}}}{suffix}", victim.name());
    run::<()>(client, &format!("DEL {key}")).await;
    run::<()>(client, &format!("RPUSH {key} x")).await;
    assert_eq!(tokio::time::timeout(SAFETY_NET, victim.lost()).await.unwrap(), LostReason::Revoked);
    assert_ne!(victim.release().await.unwrap(), ReleaseOutcome::Released);
    // They are renewed together: as long as this one is, the others have lived past their time to live.
    until_renewed(&leases[0], 4).await;
    for lease in leases {
        lease.check().unwrap();
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
    assert_eq!(run::<u8>(client, &format!("LLEN {key}")).await, 1, "what was put there is untouched");
}
