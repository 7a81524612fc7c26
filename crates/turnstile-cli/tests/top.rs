//! `turnstile top` as scripts run it, on real servers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use kafka_offsets::{Completions, metadata};
use nix::pty::{OpenptyResult, Winsize, openpty};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use redis_lock::{Client, Lock, RedisLocks};
use redis_lua::redis::{Value as Reply, cmd};
use redis_pubsub_lock::FairLocks;
use redis_semaphore::Semaphores;
use serde_json::{Value, json};
use turnstile_testkit::kafka::shared;
use turnstile_testkit::redis::Redis;
use turnstile_testkit::{unique, until};

fn turnstile(args: &[&str], url: Option<&str>, brokers: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
    command.args(args).stdin(Stdio::null()).env_remove("TURNSTILE_KAFKA_CONFIG");
    for (variable, value) in [("TURNSTILE_REDIS_URL", url), ("TURNSTILE_KAFKA_BROKERS", brokers)] {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command.output().unwrap()
}

/// Exit code, standard output and standard error.
fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn picture(args: &[&str], url: Option<&str>, brokers: Option<&str>) -> Value {
    let (code, out, err) = told(turnstile(&[&["top", "--once", "--json"], args].concat(), url, brokers));
    assert_eq!((code, err.as_str(), out.lines().count()), (0, "", 1), "{out}");
    serde_json::from_str(&out).unwrap()
}

fn names<'a>(picture: &'a Value, kind: &str, field: &str) -> Vec<&'a str> {
    picture[kind].as_array().unwrap().iter().map(|one| one[field].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_semaphores_and_queues_are_found_by_a_user_who_may_only_read() -> Result<()> {
    let server = Redis::start().await?;
    let (url, client) = (server.url(), Client::connect(server.url()).await?);
    let (plain, fair) = (RedisLocks::new(client.clone()), FairLocks::new(client.clone()));
    let semaphores = Semaphores::new(client.clone());
    let _plain = plain.lock("nightly/注文")?.acquire().await?;
    let _shared = plain.read("{tenant7}:index")?.acquire().await?;
    let _fair = fair.lock("deploy")?.acquire().await?;
    let _permit = semaphores.by_set("exports", 2)?.acquire().await?;
    // Of other processes, as waiters of this one stand in a queue of its own.
    let (plain, fair) = (RedisLocks::new(Client::connect(&url).await?), FairLocks::new(Client::connect(&url).await?));
    let (waits, waits_fair) = (plain.lock("nightly/注文")?, fair.lock("deploy")?);
    let waiters = [
        tokio::spawn(async move { waits.acquire().await.map(drop) }),
        tokio::spawn(async move { waits_fair.acquire().await.map(drop) }),
    ];
    assert_eq!(told(turnstile(&["queue", "add", "invoices", "body"], Some(&url), None)).0, 0);
    let work = ["queue", "work", "invoices", "--max-attempts", "1", "--exit-when-empty", "--", "false"];
    assert_eq!(told(turnstile(&work, Some(&url), None)).0, 0);
    assert_eq!(told(turnstile(&["queue", "add", "unread", "body"], Some(&url), None)).0, 0);
    // What others keep under hash tags.
    for foreign in [
        cmd("SET").arg("{text}").arg("x"),
        cmd("SET").arg("a{b}c").arg("x"),
        cmd("HSET").arg("{hash}").arg("a").arg("b"),
        cmd("XADD").arg("{events}:mail").arg("*").arg("a").arg("b"),
        cmd("SET").arg("no tag").arg("x"),
        cmd("SET").arg(b"{\xff}").arg("x"),
    ] {
        client.run::<Reply>(foreign).await?;
    }
    let reader = ["on", ">word", "~*", "+@read", "+@connection", "+eval", "+evalsha", "+time", "+info"];
    client.run::<()>(cmd("ACL").arg("SETUSER").arg("reader").arg(&reader)).await?;
    let url = format!("redis://reader:word@{}:{}", server.host(), server.port());
    assert_eq!(told(turnstile(&["lock", "free", "--", "true"], Some(&url), None)).0, 77, "it may not write");

    let mut seen = Value::Null;
    until("both wait", async || {
        seen = picture(&[], Some(&url), None);
        let locks = seen["locks"].as_array().unwrap();
        locks.iter().any(|lock| lock["contended"] == true) && locks.iter().any(|lock| lock["queue"][0].is_object())
    })
    .await;
    assert_eq!(
        (&seen["schema"], &seen["redis"]["error"], &seen["redis"]["notes"]),
        (&json!(1), &Value::Null, &json!([]))
    );
    assert_eq!(names(&seen, "locks", "name"), ["deploy", "nightly/注文", "{tenant7}:index"]);
    assert_eq!(names(&seen, "semaphores", "name"), ["exports"]);
    assert_eq!(
        (&seen["semaphores"][0]["limit"], &seen["semaphores"][0]["holders"][0]["weight"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(names(&seen, "queues", "queue"), ["invoices", "unread"]);
    assert_eq!(seen["queues"][0]["dead"], 1);
    let verdicts = seen["verdicts"].to_string();
    assert!(verdicts.contains("queue unread: no worker is alive"), "{verdicts}");

    let (code, out, _) = told(turnstile(&["top", "--once"], Some(&url), None));
    assert_eq!(code, 0, "{out}");
    for text in ["nightly/注文", "some", "! queue unread: no worker is alive", "no Kafka is asked"] {
        assert!(out.contains(text), "{text}: {out}");
    }
    let named = picture(&["--lock", "free", "--queue", "unread", "--scan", "7"], Some(&url), None);
    assert_eq!((names(&named, "locks", "name"), names(&named, "queues", "queue")), (vec!["free"], vec!["unread"]));
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(())
}

#[tokio::test]
async fn a_large_redis_is_looked_at_in_parts_and_that_is_told() -> Result<()> {
    let server = Redis::start().await?;
    let client = Client::connect(server.url()).await?;
    let mut fill = cmd("MSET");
    for number in 0..5_000 {
        fill.arg(format!("other:{number}")).arg("x");
    }
    client.run::<()>(&fill).await?;
    let steps = async || -> Result<u64> {
        let stats: String = client.run(cmd("INFO").arg("commandstats")).await?;
        let calls = stats.split_once("cmdstat_scan:calls=").and_then(|(_, rest)| rest.split_once(','));
        assert!(!stats.contains("cmdstat_keys:"), "never KEYS");
        Ok(calls.map_or(0, |(calls, _)| calls.parse().unwrap()))
    };
    let seen = picture(&["--scan", "2000"], Some(&server.url()), None);
    assert!(seen["redis"]["notes"][0].as_str().unwrap().contains("2000 keys"), "{seen}");
    assert_eq!(steps().await?, 2);
    assert_eq!(picture(&[], Some(&server.url()), None)["redis"]["notes"], json!([]));
    assert!((7..=12).contains(&steps().await?), "all of it, in steps");
    let before = steps().await?;
    picture(&["--scan", "0"], Some(&server.url()), None);
    assert_eq!(steps().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_group_is_shown_with_its_idle_member_and_what_one_offset_blocks() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name, topic) = (kafka.brokers(), unique("group"), unique("topic"));
    kafka.topic(&topic, 1).await?;
    kafka.produce(&topic, Some(0), (0..10).map(|_| ("k", "v"))).await?;
    let config = |client: &str| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &brokers).set("group.id", &name).set("enable.auto.commit", "false");
        config.set("client.id", client);
        config
    };
    let committer: BaseConsumer = config("committer").create()?;
    let mut list = TopicPartitionList::new();
    let mut one = list.add_partition(&topic, 0);
    one.set_offset(Offset::Offset(4))?;
    one.set_metadata(metadata::encode(&Completions::new(4, [6..8, 9..10]), 4096).text);
    committer.commit(&list, CommitMode::Sync)?;

    let alone = picture(&["--group", &name], None, Some(&brokers));
    let verdicts = |picture: &Value| picture["groups"][0]["verdicts"].clone();
    assert_eq!(verdicts(&alone), json!(["no consumer: 6 wait", format!("{topic}/0: offset 4 blocks 3")]));

    let leave = Arc::new(AtomicBool::new(false));
    let members = ["one", "two"].map(|client| {
        let consumer: BaseConsumer = config(client).create().unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        let leave = leave.clone();
        std::thread::spawn(move || {
            while !leave.load(Ordering::Relaxed) {
                let _ = consumer.poll(std::time::Duration::from_millis(20));
            }
        })
    });
    let mut seen = Value::Null;
    until("both are members", async || {
        seen = picture(&["--group", &name], None, Some(&brokers));
        let group = &seen["groups"][0];
        group["state"] == "Stable" && group["members"].as_array().map_or(0, Vec::len) == 2
    })
    .await;
    let group = &seen["groups"][0];
    let idle: Vec<_> = group["members"].as_array().unwrap().iter().map(|member| member["idle"] == true).collect();
    assert_eq!((idle, &group["lag"], &group["done_beyond"]), (vec![false, true], &json!(6), &json!(3)), "{seen}");
    assert_eq!(verdicts(&seen), json!([format!("{topic}/0: offset 4 blocks 3")]));

    // A Redis that is down beside a Kafka that is not; and the list of groups.
    let (code, out, err) = told(turnstile(&["top", "--json"], Some("redis://127.0.0.1:1"), Some(&brokers)));
    let seen: Value = serde_json::from_str(&out)?;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(seen["redis"]["error"].as_str().unwrap().contains("127.0.0.1:1"), "{seen}");
    let listed = names(&seen, "groups", "group").contains(&name.as_str());
    assert!(listed || seen["kafka"]["notes"].to_string().contains("the first 32"), "{seen}");
    leave.store(true, Ordering::Relaxed);
    members.into_iter().for_each(|member| member.join().unwrap());
    Ok(())
}

#[test]
fn without_a_terminal_or_a_server_it_says_what_to_do() {
    let (code, out, err) = told(turnstile(&["top"], Some("redis://127.0.0.1:1"), None));
    assert_eq!((code, out.as_str()), (64, ""));
    assert!(err.contains("--once") && err.contains("--json"), "{err}");
    let (code, _, err) = told(turnstile(&["top", "--once"], None, None));
    assert_eq!(code, 64);
    assert!(err.contains("TURNSTILE_REDIS_URL") && err.contains("TURNSTILE_KAFKA_BROKERS"), "{err}");
    assert_eq!(told(turnstile(&["top", "--once", "--queue", "a\nb"], Some("redis://127.0.0.1:1"), None)).0, 78);
    let (code, out, _) = told(turnstile(&["top", "--once"], Some("redis://127.0.0.1:1"), None));
    assert_eq!(code, 69);
    assert!(out.contains("redis 127.0.0.1:1 FAILS"), "{out}");
}

/// A pseudo-terminal of 30 rows, and all that was written to it.
fn terminal() -> Result<(File, OwnedFd, Arc<Mutex<String>>)> {
    let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty(&size, None)?;
    let (master, shown) = (File::from(master), Arc::new(Mutex::new(String::new())));
    let (mut reader, writes) = (master.try_clone()?, shown.clone());
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // It fails once nobody has the other end any more.
        while let Ok(read) = reader.read(&mut bytes) {
            writes.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    });
    Ok((master, slave, shown))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_shows_what_comes_and_gives_the_terminal_back_at_q() -> Result<()> {
    let server = Redis::start().await?;
    let locks = RedisLocks::new(Client::connect(server.url()).await?);
    let _first = locks.lock("nightly")?.acquire().await?;
    let (mut keyboard, slave, shown) = terminal()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
    command.args(["top", "--every", "100ms"]).env("TURNSTILE_REDIS_URL", server.url());
    command.env_remove("TURNSTILE_KAFKA_BROKERS");
    let mut top = command.stdin(slave.try_clone()?).stdout(slave).spawn()?;
    drop(command);
    let shows = |text: &str| shown.lock().unwrap().contains(text);
    until("a lock is shown", async || shows("nightly")).await;
    let _second = locks.lock("deploy")?.acquire().await?;
    until("another is shown", async || shows("deploy")).await;
    assert!(shows("\x1b[?1049h") && !shows("\x1b[?1049l"), "it has a screen of its own");
    keyboard.write_all(b"q")?;
    assert!(top.wait()?.success());
    until("the screen is given back", async || shows("\x1b[?1049l") && shows("\x1b[?25h")).await;
    Ok(())
}
