//! The scripts against models of them in Rust, step by step, on a real Redis.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use redis_lua::redis::cmd;
use redis_lua::{Client, GuardedWrite, Name, Script, Written};
use support::{client, name};
use turnstile_core::FencingToken;

static TRY_LOCK: Script = Script::new("try_lock", include_str!("../examples/try_lock.lua"));

/// Runs the steps of one case on the server; proptest itself is not asynchronous.
fn on_redis<S>(
    steps: S,
    check: impl AsyncFn(&Client, Name, S) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { check(&client().await, name("model"), steps).await })
}

#[derive(Debug, Clone)]
enum LockStep {
    Take { owner: u8 },
    Delete,
}

fn lock_step() -> impl Strategy<Value = LockStep> {
    prop_oneof![3 => (0..4u8).prop_map(|owner| LockStep::Take { owner }), 1 => Just(LockStep::Delete)]
}

#[derive(Debug, Clone)]
enum WriteStep {
    Set { token: u64, value: Vec<u8> },
    ForgetToken,
    DeleteData,
}

fn token() -> impl Strategy<Value = u64> {
    let max = FencingToken::MAX.get();
    prop_oneof![6 => 0..6u64, 1 => Just(9), 1 => Just(10), 1 => max - 2..=max]
}

fn write_step() -> impl Strategy<Value = WriteStep> {
    prop_oneof![
        8 => (token(), any::<Vec<u8>>()).prop_map(|(token, value)| WriteStep::Set { token, value }),
        1 => Just(WriteStep::ForgetToken),
        1 => Just(WriteStep::DeleteData),
    ]
}

fn fields() -> impl Strategy<Value = BTreeMap<String, i64>> {
    proptest::collection::btree_map("[a-c]", any::<i64>(), 1..4)
}

/// What the model of a guarded write says of a token, and remembers.
fn guard(newest: &mut u64, token: u64) -> Written {
    if token < *newest {
        return Written::Refused { newest: FencingToken::new(*newest) };
    }
    *newest = token;
    Written::Done
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_lock_script_gives_the_lock_to_one_at_a_time(steps in proptest::collection::vec(lock_step(), 1..24)) {
        on_redis(steps, async |client, name, steps| {
            let mut holder = None;
            for step in steps {
                match step {
                    LockStep::Take { owner } => {
                        let taken: bool = TRY_LOCK.keys([&name]).arg(owner).arg(60_000).run(client).await.unwrap();
                        prop_assert_eq!(taken, holder.is_none());
                        holder.get_or_insert(owner);
                    }
                    LockStep::Delete => {
                        client.run::<()>(cmd("DEL").arg(name.as_key())).await.unwrap();
                        holder = None;
                    }
                }
                let found: Option<u8> = client.run(cmd("GET").arg(name.as_key())).await.unwrap();
                prop_assert_eq!(found, holder);
                let ttl: i64 = client.run(cmd("PTTL").arg(name.as_key())).await.unwrap();
                let ends = if holder.is_some() { 0..=60_000 } else { -2..=-2 };
                prop_assert!(ends.contains(&ttl), "{}", ttl);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_guarded_set_refuses_older_tokens_and_only_those(steps in proptest::collection::vec(write_step(), 1..24)) {
        on_redis(steps, async |client, name, steps| {
            let guarded = GuardedWrite::new(name.clone());
            let (mut newest, mut data) = (0, None);
            for step in steps {
                match step {
                    WriteStep::Set { token, value } => {
                        let written = guarded.set(client, FencingToken::new(token), &value[..]).await.unwrap();
                        prop_assert_eq!(written, guard(&mut newest, token));
                        if written.is_done() {
                            data = Some(value);
                        }
                    }
                    WriteStep::ForgetToken => {
                        client.run::<()>(cmd("DEL").arg(name.key("token"))).await.unwrap();
                        newest = 0;
                    }
                    WriteStep::DeleteData => {
                        client.run::<()>(cmd("DEL").arg(name.as_key())).await.unwrap();
                        data = None;
                    }
                }
                let found: Option<Vec<u8>> = client.run(cmd("GET").arg(name.as_key())).await.unwrap();
                prop_assert_eq!(&found, &data);
                let token: Option<u64> = client.run(cmd("GET").arg(name.key("token"))).await.unwrap();
                prop_assert_eq!(token.unwrap_or(0), newest);
            }
            let ttl: i64 = client.run(cmd("PTTL").arg(name.key("token"))).await.unwrap();
            prop_assert!(ttl < 0, "the newest token is kept for good");
            Ok(())
        })?;
    }

    #[test]
    fn guarded_fields_refuse_older_tokens_and_keep_other_fields(
        steps in proptest::collection::vec((token(), fields()), 1..24),
    ) {
        on_redis(steps, async |client, name, steps| {
            let guarded = GuardedWrite::new(name.clone());
            let (mut newest, mut data) = (0, BTreeMap::new());
            for (token, fields) in steps {
                let written = guarded.set_fields(client, FencingToken::new(token), &fields).await.unwrap();
                prop_assert_eq!(written, guard(&mut newest, token));
                if written.is_done() {
                    data.extend(fields);
                }
                let found: BTreeMap<String, i64> = client.run(cmd("HGETALL").arg(name.as_key())).await.unwrap();
                prop_assert_eq!(&found, &data);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn without_the_guard_an_old_holder_overwrites_a_newer_one() {
    let client = client().await;
    let (plain, kept) = (name("plain"), name("kept"));
    let guarded = GuardedWrite::new(kept.clone());
    for (token, value) in [(2, "of the new holder"), (1, "of the old holder")] {
        client.run::<()>(cmd("SET").arg(plain.as_key()).arg(value)).await.unwrap();
        let _ = guarded.set(&client, FencingToken::new(token), value).await.unwrap();
    }
    let read = async |key: &Name| client.run::<String>(cmd("GET").arg(key.as_key())).await.unwrap();
    assert_eq!((read(&plain).await.as_str(), read(&kept).await.as_str()), ("of the old holder", "of the new holder"));
}

#[tokio::test]
async fn one_who_claims_before_reading_loses_no_update_to_an_older_holder() {
    let client = client().await;
    for claims in [true, false] {
        let counter = name("counter");
        let guarded = GuardedWrite::new(counter.clone());
        let (old, new) = (FencingToken::new(1), FencingToken::new(2));
        if claims {
            assert!(guarded.claim(&client, new).await.unwrap().is_done());
        }
        let read: u64 = client.run::<Option<u64>>(cmd("GET").arg(counter.as_key())).await.unwrap().unwrap_or(0);
        // The old holder, paused since it read, wakes up.
        let late = guarded.set(&client, old, 100).await.unwrap();
        assert!(guarded.set(&client, new, read + 1).await.unwrap().is_done());
        assert_eq!(late.is_done(), !claims, "without a claim its write is accepted, and then overwritten");
        assert!(!guarded.claim(&client, old).await.unwrap().is_done());
    }
}

#[tokio::test]
async fn a_guarded_hash_takes_more_fields_than_lua_has_room_for_at_once() {
    let client = client().await;
    let guarded = GuardedWrite::new(name("wide"));
    let fields = (0..20_001).map(|i| (format!("field{i}"), i));
    assert!(guarded.set_fields(&client, FencingToken::new(1), fields).await.unwrap().is_done());
    let count: usize = client.run(cmd("HLEN").arg(guarded.name().as_key())).await.unwrap();
    assert_eq!(count, 20_001);
}

#[tokio::test]
async fn a_guarded_write_that_makes_no_sense_is_refused_before_it_is_sent() {
    let client = Client::new("redis://127.0.0.1:1").unwrap();
    let guarded = GuardedWrite::new(name("nonsense"));
    let invalid = |error: redis_lua::Error| assert_eq!(error.kind(), turnstile_core::ErrorKind::Invalid, "{error}");
    invalid(guarded.set_fields(&client, FencingToken::new(1), [("field", 1); 0]).await.unwrap_err());
    invalid(guarded.set(&client, FencingToken::new(1 << 53), "x").await.unwrap_err());
}
