//! Scripts on a real Redis: what they reply, what they cost, and that the server may forget them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_lua::redis::cmd;
use redis_lua::{Client, Key, Name, Script};
use support::{Log, client, name, run, shared};
use turnstile_core::ErrorKind;

static ECHO: Script = Script::new("echo", "return ARGV");
static PUT: Script = Script::new("put", "return redis.call('SET', KEYS[1], ARGV[1])");

#[tokio::test]
async fn arguments_and_replies_keep_their_types() {
    let client = client().await;
    let key = name("types");
    let echo = || ECHO.keys([&key]);
    let texts: Vec<String> = echo().arg("a b\n").arg(-7).arg("").run(&client).await.unwrap();
    assert_eq!(texts, ["a b\n", "-7", ""]);
    let bytes: (Vec<u8>,) = echo().arg(&[0u8, 255, 13, 10][..]).run(&client).await.unwrap();
    assert_eq!(bytes.0, [0, 255, 13, 10]);
    let spread: (i64, i64) = echo().arg(&[1i64, 2]).run(&client).await.unwrap();
    assert_eq!(spread, (1, 2));
    let nothing: Option<String> = Script::new("nil", "return false").keys([&key]).run(&client).await.unwrap();
    assert_eq!(nothing, None);
}

#[tokio::test]
async fn a_reply_of_another_type_is_told_as_such() {
    let client = client().await;
    let error = ECHO.keys([&name("types")]).arg("x").run::<i64>(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("`echo` was carried out, but its reply"), "{error}");
    assert!(client.is_connected(), "which is no fault of the connection");
}

#[tokio::test]
async fn keys_of_several_tags_are_refused_before_anything_is_sent() {
    let client = Client::new("redis://127.0.0.1:1").unwrap();
    let names = [name("a"), name("b")];
    let error = ECHO.keys(&names).run::<()>(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("same tag in braces"), "{error}");
    let raw = [Key::raw("a"), Key::raw("b")];
    assert_eq!(ECHO.keys(raw).run::<()>(&client).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn names_with_one_tag_meet_in_a_script() {
    let client = client().await;
    let tag = turnstile_testkit::unique("tag");
    let names = ["a", "b"].map(|end| Name::new(format!("{{{tag}}}:{end}")).unwrap());
    let both = Script::new("both", "redis.call('SET', KEYS[1], 1) return redis.call('MGET', KEYS[1], KEYS[2])");
    let found: (Option<u8>, Option<u8>) = both.keys(&names).run(&client).await.unwrap();
    assert_eq!(found, (Some(1), None));
}

#[tokio::test]
async fn a_batch_of_many_unrelated_names_is_one_round_trip() {
    let client = client().await;
    let names: Vec<_> = (0..256).map(|i| name(&format!("batch{i}"))).collect();
    let set = Script::new("set_all", "for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i]) end return #KEYS");
    let values: Vec<_> = (0..256).collect();
    let count: usize = set.keys_of_any_tag(&names).arg(&values).run(&client).await.unwrap();
    assert_eq!(count, 256);
    let last: i64 = client.run(cmd("GET").arg(names[255].as_key())).await.unwrap();
    assert_eq!(last, 255);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_flush_at_any_time_goes_unnoticed() {
    let client = client().await;
    let flushing = tokio::spawn({
        let client = client.clone();
        async move {
            for _ in 0..100 {
                run::<()>(&client, "SCRIPT FLUSH").await;
            }
        }
    });
    let calling = (0..16).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            let key = name("flush");
            for i in 0..100 {
                let text = format!("{task} {i}");
                PUT.keys([&key]).arg(&text).run::<()>(&client).await.unwrap();
                let found: String = client.run(cmd("GET").arg(key.as_key())).await.unwrap();
                assert_eq!(found, text);
            }
        })
    });
    for done in futures_util::future::join_all(calling.chain([flushing])).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_script_that_the_server_knows_is_sent_by_its_sha1_alone() {
    let server = turnstile_testkit::redis::Redis::start().await.unwrap();
    let client = Client::connect(server.url()).await.unwrap();
    let key = name("known");
    for _ in 0..5 {
        PUT.keys([&key]).arg(1).run::<()>(&client).await.unwrap();
    }
    let stats: String = run(&client, "INFO commandstats").await;
    let calls = |command: &str| {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(['=', ',']).nth(1).unwrap().parse::<u32>().unwrap())
    };
    assert_eq!((calls("evalsha"), calls("eval")), (5, 1), "one EVAL, after the first NOSCRIPT");
}

#[tokio::test]
async fn a_slow_script_is_told_by_name_and_a_quick_one_is_not() {
    let log = Log::capture();
    let url = shared().await.url();
    // No clock: TIME stands still in a script from Redis 7.2 on, and some builds have no `os`.
    let busy = Script::new("count_to", "for _ = 1, ARGV[1] do end");
    let client = Client::builder(&url).slow_script(Duration::from_millis(1)).connect().await.unwrap();
    busy.keys([&name("slow")]).arg(5_000_000).run::<()>(&client).await.unwrap();
    assert!(log.text().contains("WARN") && log.text().contains("script=\"count_to\""), "{}", log.text());

    let patient = Client::builder(&url).slow_script(Duration::from_secs(60)).connect().await.unwrap();
    Script::new("quick", "return 1").keys([&name("quick")]).run::<()>(&patient).await.unwrap();
    assert!(!log.text().contains("script=\"quick\""));
}

#[tokio::test]
async fn a_script_that_was_cancelled_leaves_the_connection_in_order() {
    let client = client().await;
    let key = name("cancelled");
    for i in 0..100 {
        let cancelled = tokio::time::timeout(Duration::ZERO, PUT.keys([&key]).arg(format!("x{i}")).run::<()>(&client));
        let _ = cancelled.await;
        let echoed: (u32,) = ECHO.keys([&key]).arg(i).run(&client).await.unwrap();
        assert_eq!(echoed.0, i, "each call gets its own reply");
    }
}
