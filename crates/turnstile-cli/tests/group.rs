//! `turnstile group` on a real Kafka, and what it says where there is none.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use kafka_offsets::{Completions, metadata};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use turnstile_testkit::kafka::{Kafka, Operation, Resource, shared};
use turnstile_testkit::unique;

fn group(brokers: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
    command.arg("group").args(args).env("TURNSTILE_KAFKA_BROKERS", brokers).env_remove("TURNSTILE_KAFKA_CONFIG");
    command.output().unwrap()
}

/// Exit code, standard output and standard error.
fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn object(brokers: &str, name: &str) -> Value {
    let (code, out, err) = told(group(brokers, &["--json", name]));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.lines().count(), 1);
    serde_json::from_str(&out).unwrap()
}

/// A member that does nothing but be one.
struct Member {
    leave: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    fn join(brokers: &str, group: &str, topic: &str, options: &[(&str, &str)]) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", group).set("enable.auto.commit", "false");
        for (key, value) in options {
            config.set(*key, *value);
        }
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let leave = Arc::new(AtomicBool::new(false));
        let leaves = leave.clone();
        let thread = std::thread::spawn(move || {
            while !leaves.load(Ordering::Relaxed) {
                let _ = consumer.poll(Duration::from_millis(20));
            }
        });
        Self { leave, thread: Some(thread) }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn commit(brokers: &str, group: &str, topic: &str, partition: i32, offset: i64, text: &str) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    let mut one = list.add_partition(topic, partition);
    one.set_offset(Offset::Offset(offset)).unwrap();
    one.set_metadata(text);
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

/// A topic of two partitions with ten records each.
async fn filled(kafka: &Kafka) -> Result<String> {
    let topic = unique("topic");
    kafka.topic(&topic, 2).await?;
    for partition in 0..2 {
        kafka.produce(&topic, Some(partition), (0..10).map(|_| ("k", "v"))).await?;
    }
    Ok(topic)
}

#[tokio::test]
async fn offsets_lag_and_what_is_done_beyond_are_told_of_a_group_without_members() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name, topic) = (kafka.brokers(), unique("group"), filled(&kafka).await?);
    let done = metadata::encode(&Completions::new(4, [6..8, 9..10]), 4096).text;
    commit(&brokers, &name, &topic, 0, 4, &done);
    let answer = object(&brokers, &name);
    assert_eq!((&answer["schema"], &answer["exists"], &answer["members"]), (&json!(1), &json!(true), &json!([])));
    assert_eq!((&answer["lag"], &answer["done_beyond"], &answer["state"]), (&json!(6), &json!(3), &json!("Empty")));
    let [first, second] = [&answer["partitions"][0], &answer["partitions"][1]];
    assert_eq!(
        *first,
        json!({"topic": topic, "partition": 0, "member": null, "committed": 4, "end": 10, "lag": 6, "done_beyond": 3,
            "note": null})
    );
    assert_eq!((&second["committed"], &second["end"], &second["lag"]), (&Value::Null, &json!(10), &Value::Null));

    let (code, out, err) = told(group(&brokers, &[&name]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with(&format!("{name}: Empty, 0 members, 2 partitions, lag 6, of it done 3\n")), "{out}");
    Ok(())
}

#[tokio::test]
async fn members_their_partitions_and_who_is_idle_are_told() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name, topic) = (kafka.brokers(), unique("group"), filled(&kafka).await?);
    for strategy in ["cooperative-sticky", "range"] {
        let name = format!("{name}-{strategy}");
        let common = ("partition.assignment.strategy", strategy);
        let _members = [
            Member::join(&brokers, &name, &topic, &[common, ("client.id", "one"), ("group.instance.id", "inst-1")]),
            Member::join(&brokers, &name, &topic, &[common, ("client.id", "two")]),
            Member::join(&brokers, &name, &topic, &[common, ("client.id", "three")]),
        ];
        let settled = |answer: &Value| {
            let members = answer["members"].as_array().map_or(0, Vec::len);
            let owned = answer["partitions"].as_array().unwrap().iter().filter(|one| one["member"].is_string());
            members == 3 && owned.count() == 2 && answer["state"] == "Stable"
        };
        let mut answer = Value::Null;
        for _ in 0..300 {
            let (code, out, _) = told(group(&brokers, &["--json", &name]));
            answer = if code == 0 { serde_json::from_str(&out)? } else { Value::Null };
            if code == 0 && settled(&answer) {
                break;
            }
        }
        assert!(settled(&answer), "{answer}");
        assert_eq!(answer["assignor"], strategy);
        let members = answer["members"].as_array().unwrap();
        assert_eq!(members.iter().filter(|member| member["idle"] == true).count(), 1, "{answer}");
        assert_eq!(members[2]["idle"], true, "the idle come last");
        let first = members.iter().find(|member| member["client_id"] == "one").unwrap();
        assert_eq!((&first["instance_id"], first["host"].is_string()), (&json!("inst-1"), true));
        for member in members.iter().filter(|member| member["client_id"] != "one") {
            assert_eq!(member["instance_id"], Value::Null, "{member}");
        }
        for partition in answer["partitions"].as_array().unwrap() {
            let name = format!("{topic}/{}", partition["partition"]);
            let owner = members.iter().find(|member| member["id"] == partition["member"]).unwrap();
            assert!(owner["partitions"].as_array().unwrap().contains(&json!(name)), "{answer}");
        }
        let (_, out, _) = told(group(&brokers, &[&name]));
        assert!(out.contains("3 members (1 idle)") && out.contains("  idle") && out.contains("inst-1"), "{out}");
    }
    Ok(())
}

#[tokio::test]
async fn of_a_group_of_the_new_protocol_it_says_what_cannot_be_told_and_tells_the_rest() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name, topic) = (kafka.brokers(), unique("group"), filled(&kafka).await?);
    commit(&brokers, &name, &topic, 1, 3, "");
    let _member = Member::join(&brokers, &name, &topic, &[("group.protocol", "consumer")]);
    let mut answer = object(&brokers, &name);
    for _ in 0..300 {
        if answer["members"].is_null() {
            break;
        }
        answer = object(&brokers, &name);
    }
    assert_eq!((&answer["members"], &answer["lag"]), (&Value::Null, &json!(7)), "{answer}");
    assert!(answer["notes"][0].as_str().unwrap().contains("KIP-848"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn metadata_of_others_is_told_and_not_counted() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name, topic) = (kafka.brokers(), unique("group"), filled(&kafka).await?);
    commit(&brokers, &name, &topic, 0, 4, "somebody else's");
    commit(&brokers, &name, &topic, 1, 99, "");
    let answer = object(&brokers, &name);
    let notes: Vec<_> = (0..2).map(|index| answer["partitions"][index]["note"].as_str().unwrap()).collect();
    assert!(notes[0].contains("other software") && notes[1].contains("beyond the end"), "{notes:?}");
    assert_eq!((&answer["partitions"][0]["done_beyond"], &answer["lag"]), (&Value::Null, &json!(6)));
    Ok(())
}

#[tokio::test]
async fn an_unknown_group_is_1() -> Result<()> {
    let kafka = shared().await?;
    let name = unique("nobody");
    let (code, out, err) = told(group(&kafka.brokers(), &[&name]));
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(out.starts_with(&format!("{name}: there is no such group")), "{out}");
    let (code, out, _) = told(group(&kafka.brokers(), &["--json", &name]));
    let answer: Value = serde_json::from_str(&out)?;
    assert_eq!((code, &answer["exists"], &answer["partitions"]), (1, &json!(false), &json!([])));
    Ok(())
}

#[tokio::test]
async fn brokers_out_of_reach_or_no_brokers_are_69() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let closed = listener.local_addr()?.to_string();
    drop(listener);
    // Answers, but is no Kafka.
    let other = std::net::TcpListener::bind("127.0.0.1:0")?;
    let wrong = other.local_addr()?.to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = other.accept() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    // Says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0")?;
    for brokers in [closed, wrong, mute.local_addr()?.to_string(), "no-such-host.invalid:9092".to_owned()] {
        let (code, out, err) = told(group(&brokers, &["g"]));
        assert_eq!((code, out.as_str()), (69, ""), "{brokers}: {err}");
        assert!(err.starts_with("turnstile: no Kafka broker answers") && err.contains(&brokers), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_brokers_forbid_is_77_and_what_to_allow_is_said() -> Result<()> {
    let kafka = Kafka::builder().restricted().start().await?;
    let (brokers, name, topic) = (kafka.brokers(), unique("group"), filled(&kafka).await?);
    kafka.allow(Resource::Topic(&topic), Operation::Read).await?;
    let (code, out, err) = told(group(&brokers, &["--json", &name]));
    let error: Value = serde_json::from_str(&err)?;
    assert_eq!((code, out.as_str(), &error["code"]), (77, "", &json!(77)), "{err}");
    assert!(error["message"].as_str().unwrap().contains("READ on the group"), "{err}");

    kafka.allow(Resource::Group(&name), Operation::Read).await?;
    commit(&brokers, &name, &topic, 0, 4, "");
    assert_eq!(object(&brokers, &name)["lag"], 6);
    Ok(())
}

#[test]
fn a_bad_command_line_is_64_a_bad_option_or_name_78_and_no_value_is_printed() {
    assert_eq!(told(group("", &["g"])).0, 64);
    assert_eq!(told(group("127.0.0.1:1", &[])).0, 64);
    assert_eq!(told(group("127.0.0.1:1", &[""])).0, 78);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("options");
    for text in ["sasl.password hidden-word", "no.such.option=hidden-word", "security.protocol=hidden-word"] {
        std::fs::write(&file, text).unwrap();
        let (code, out, err) = told(group("127.0.0.1:1", &["--config", file.to_str().unwrap(), "g"]));
        assert_eq!((code, out.as_str()), (78, ""), "{err}");
        assert!(!err.contains("hidden-word"), "{err}");
    }
    let (code, _, err) = told(group("127.0.0.1:1", &["--config", "/nowhere/options", "g"]));
    assert_eq!(code, 78, "{err}");
}
