//! `turnstile topic` on a real Kafka.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use turnstile_testkit::kafka::{Kafka, Operation, Resource, shared};
use turnstile_testkit::unique;

fn topic(brokers: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
    command.arg("topic").args(args).env("TURNSTILE_KAFKA_BROKERS", brokers).env_remove("TURNSTILE_KAFKA_CONFIG");
    command.output().unwrap()
}

/// Exit code, standard output and standard error.
fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn object(brokers: &str, args: &[&str]) -> Value {
    let (code, out, err) = told(topic(brokers, &[args, &["--json"]].concat()));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.lines().count(), 1);
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn partitions_the_place_of_a_key_skew_and_the_hottest_keys_are_shown() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name) = (kafka.brokers(), unique("topic"));
    kafka.topic(&name, 4).await?;
    kafka.produce(&name, Some(2), (0..30).map(|at| (if at < 20 { "hot" } else { "cold" }, "value"))).await?;
    kafka.produce(&name, Some(0), [("", "value")]).await?;
    kafka.produce(&name, Some(1), [("k".repeat(1 << 20), "value")]).await.unwrap_err(); // more than the topic takes
    kafka.produce(&name, Some(1), [("k".repeat(900_000), "value")]).await?;

    let answer = object(&brokers, &["show", &name, "--key", "order-42", "--skew"]);
    assert_eq!((&answer["schema"], answer["partitions"].as_array().unwrap().len()), (&json!(1), 4));
    assert_eq!(
        answer["key"],
        json!({"key": "order-42", "partitioner": "murmur2_random", "topic": name, "partition": 0})
    );
    let skew = &answer["skew"];
    assert_eq!((&skew["records"], &skew["without_key"]), (&json!(32), &json!(0)), "{skew}");
    assert_eq!(skew["partitions"][2], json!({"partition": 2, "kept": 30, "records": 30, "bytes": 250}));
    assert_eq!((&skew["keys"][0]["records"], &skew["keys"][1]["records"]), (&json!(20), &json!(10)));

    let (code, out, _) = told(topic(&brokers, &["show", &name, "--key", "", "--partitioner", "consistent_random"]));
    assert!(code == 0 && out.contains("4 partitions") && out.contains("any partition"), "{out}");
    let (_, out, _) = told(topic(&brokers, &["show", &name, "--skew"]));
    assert!(out.contains("3.75 times the mean") && out.contains("62.50%   hot"), "{out}");
    Ok(())
}

/// The values that are read, by `topic read`.
fn values(brokers: &str, args: &[&str]) -> Vec<Value> {
    let (code, out, err) = told(topic(brokers, &[&["read", "--json"], args].concat()));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["value"].clone()).collect()
}

#[tokio::test]
async fn what_was_aborted_or_is_not_decided_is_read_only_without_committed() -> Result<()> {
    const WITHIN: Duration = Duration::from_secs(30);
    let kafka = shared().await?;
    let (brokers, name) = (kafka.brokers(), unique("topic"));
    kafka.topic(&name, 1).await?;
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &brokers).set("transactional.id", &name).create()?;
    producer.init_transactions(WITHIN)?;
    let begin = |value: &str| -> Result<()> {
        producer.begin_transaction()?;
        producer.send(BaseRecord::to(&name).key("k").payload(value)).map_err(|(error, _)| error)?;
        Ok(producer.flush(WITHIN)?)
    };
    kafka.produce(&name, None, [("k", "plain")]).await?;
    begin("aborted")?;
    producer.abort_transaction(WITHIN)?;
    begin("committed")?;
    producer.commit_transaction(WITHIN)?;
    begin("open")?;
    kafka.produce(&name, None, [("k", "behind it")]).await?;
    assert_eq!(values(&brokers, &[&name, "--committed"]), ["plain", "committed"]);
    assert_eq!(values(&brokers, &[&name]), ["plain", "aborted", "committed", "open", "behind it"]);
    producer.commit_transaction(WITHIN)?;
    assert_eq!(values(&brokers, &[&name, "--committed"]), ["plain", "committed", "open", "behind it"]);
    // The last two offsets: a record, and the end of a transaction.
    assert_eq!(values(&brokers, &[&name, "--committed", "--newest", "2"]), ["behind it"]);
    assert_eq!(values(&brokers, &[&name, "--newest", "1000", "--limit", "2"]), ["plain", "aborted"]);
    Ok(())
}

#[tokio::test]
async fn a_record_is_read_as_it_is_also_where_it_is_no_text() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name) = (kafka.brokers(), unique("topic"));
    kafka.topic(&name, 2).await?;
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create()?;
    let headers = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some("a\nb") })
        .insert(Header { key: "none", value: None::<&str> });
    let record = BaseRecord::to(&name).partition(1).timestamp(1_700_000_000_123).headers(headers);
    producer.send(record.key(&[0, 0xff]).payload("two\nlines")).map_err(|(error, _)| error)?;
    producer.send(BaseRecord::<str, str>::to(&name).partition(1).key("k")).map_err(|(error, _)| error)?;
    producer.flush(Duration::from_secs(30))?;
    let (_, out, _) = told(topic(&brokers, &["read", &name, "--json"]));
    let mut lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(
        lines.next().unwrap(),
        json!({"schema": 1, "partition": 1, "offset": 0, "time": "2023-11-14T22:13:20.123Z", "key": {"hex": "00ff"},
            "value": "two\nlines", "headers": [{"name": "trace", "value": "a\nb"}, {"name": "none", "value": null}]})
    );
    let tombstone = lines.next().unwrap();
    assert_eq!((&tombstone["key"], &tombstone["value"], &tombstone["offset"]), (&json!("k"), &Value::Null, &json!(1)));
    let (_, out, _) = told(topic(&brokers, &["read", &name, "--limit", "1"]));
    assert!(
        out.starts_with("1/0  2023-11-14T22:13:20.123Z  ") && out.ends_with("  two lines  trace=a b  none=-\n"),
        "{out}"
    );
    Ok(())
}

#[tokio::test]
async fn a_plan_says_how_many_are_needed_and_whether_the_brokers_bear_them() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name) = (kafka.brokers(), unique("topic"));
    kafka.topic(&name, 2).await?;
    kafka.produce(&name, None, (0..10).map(|_| ("hot", "value"))).await?;
    let demand = ["plan", &name, "--rate", "100", "--time", "100ms", "--members", "4"];
    let answer = object(&brokers, &demand);
    assert_eq!((&answer["partitions"], &answer["advice"]["partitions"]), (&json!(2), &json!(16)), "{answer}");
    assert!(answer["bearing"]["after"].as_i64() >= Some(16) && answer["overload"].is_null(), "{answer}");
    let answer = object(&brokers, &[&demand[..], &["--per-broker", "15"]].concat());
    assert!(answer["overload"].as_str().unwrap().contains("15 are the limit"), "{answer}");
    let (_, out, _) = told(topic(&brokers, &[&demand[..], &["--skew"]].concat()));
    assert!(out.contains("needs 16") && out.contains("no number of partitions is enough"), "{out}");
    for bad in [["--rate", "0"], ["--rate", "NaN"], ["--time", "0s"], ["--members", "0"]] {
        let mut args = demand.to_vec();
        let at = args.iter().position(|arg| *arg == bad[0]).unwrap();
        args[at + 1] = bad[1];
        let (code, out, err) = told(topic(&brokers, &args));
        assert_eq!((code, out.as_str(), err.lines().count()), (64, "", 1), "{bad:?}: {err}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_topic_is_78_a_forbidden_one_77_no_broker_69_and_each_says_what_to_do() -> Result<()> {
    let kafka = shared().await?;
    for name in [unique("none").as_str(), "no topic", ""] {
        let (code, out, err) = told(topic(&kafka.brokers(), &["show", name]));
        assert_eq!((code, out.as_str()), (78, ""), "{err}");
        assert!(err.contains("there is no topic"), "{err}");
    }
    let restricted = Kafka::builder().restricted().start().await?;
    let name = unique("topic");
    restricted.topic(&name, 1).await?;
    let (code, _, err) = told(topic(&restricted.brokers(), &["show", &name]));
    assert!(code == 77 && err.contains("DESCRIBE"), "{code}: {err}");
    restricted.allow(Resource::Topic(&name), Operation::Describe).await?;
    let (code, _, err) = told(topic(&restricted.brokers(), &["show", &name]));
    assert_eq!((code, err.as_str()), (0, ""));
    restricted.produce(&name, None, [("k", "v")]).await?;
    let (code, out, err) = told(topic(&restricted.brokers(), &["read", &name]));
    assert!(code == 77 && out.is_empty() && err.contains("READ on the topic"), "{code}: {err}");
    restricted.allow(Resource::Topic(&name), Operation::Read).await?;
    assert_eq!(values(&restricted.brokers(), &[&name]), ["v"]);

    let (code, _, err) = told(topic("127.0.0.1:1", &["show", "t"]));
    assert!(code == 69 && err.contains("no broker answers"), "{code}: {err}");
    assert_eq!(told(topic("", &["show", "t"])).0, 64);
    let (code, _, err) = told(topic("127.0.0.1:1", &["show", "t", "--partitioner", "sticky"]));
    assert!(code == 64 && err.contains("consistent_random"), "{code}: {err}");
    Ok(())
}

#[tokio::test]
async fn changes_are_told_first_and_then_carried_out_and_what_cannot_be_is_refused() -> Result<()> {
    let kafka = shared().await?;
    let (brokers, name) = (kafka.brokers(), unique("topic"));
    kafka.topic(&name, 2).await?;
    let plan = object(&brokers, &["grow", &name, "--to", "3"]);
    assert_eq!((&plan["executed"], &plan["plan"]["to"]["partitions"]), (&json!(false), &json!(3)), "{plan}");
    assert_eq!(object(&brokers, &["show", &name])["layouts"]["all"], json!({}), "a plan changes nothing");
    let grown = object(&brokers, &["grow", &name, "--to", "3", "--execute"]);
    assert_eq!((&grown["executed"], &grown["layout"]["epoch"]), (&json!(true), &json!(2)), "{grown}");
    let (code, out, err) = told(topic(&brokers, &["shrink", &name, "--to", "1", "--execute"]));
    assert!(code == 0 && out.contains(&format!("to 1 of {name}.3")) && err.contains("is fenced"), "{out} {err}");
    let shown = object(&brokers, &["show", &name, "--key", "k"]);
    assert_eq!(shown["key"]["topic"], json!(format!("{name}.3")), "{shown}");
    let (_, out, _) = told(topic(&brokers, &["move", &name, "--to", "2"]));
    assert!(out.contains(&format!("2 of {name}.4")) && out.contains("--execute carries it out"), "{out}");

    for (args, code, part) in [
        (["grow", &name, "--to", "0"], 78, "at least one"),
        (["grow", &name, "--to", "-3"], 78, "at least one"),
        (["grow", &name, "--to", "1"], 78, "has as many"),
        (["shrink", &name, "--to", "1"], 78, "ask for fewer"),
        (["move", &name, "--to", "0"], 78, "at least one"),
        (["grow", "no-such-topic", "--to", "4"], 78, "there is no topic"),
        (["grow", &name, "--to", "5000"], 75, "4000 are the limit"),
    ] {
        let (got, out, err) = told(topic(&brokers, &args));
        assert!(got == code && out.is_empty() && err.contains(part), "{args:?}: {got} {err}");
    }
    let (code, out, _) = told(topic(&brokers, &["grow", &name, "--to", "5000", "--force"]));
    assert!(code == 0 && out.contains("forced"), "{out}");
    let (code, _, err) = told(topic(&brokers, &["move", &name, "--to", "2", "--into", &name]));
    assert!(code == 78 && err.contains("already"), "{code} {err}");
    assert_eq!(told(topic(&brokers, &["withdraw", &name])).0, 0);
    Ok(())
}
