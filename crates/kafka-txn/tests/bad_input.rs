//! Bad input: brokers, rights, topics, outputs and ids that are not as they should be. Each ends in a typed error or a report
//! that says what to do, and nothing hangs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use anyhow::Result;
use kafka_txn::kafka_group::rdkafka::mocking::MockCluster;
use kafka_txn::kafka_group::rdkafka::types::RDKafkaApiKey;
use kafka_txn::{ConfigError, GroupBuilder, RunError, TransactionError, TxnBuilder, kafka_group};
use support::{EARLIEST, Running, Topics};
use turnstile_testkit::kafka::{Kafka, Operation, Resource};

#[tokio::test(flavor = "multi_thread")]
async fn configurations_that_would_break_a_promise_are_refused() -> Result<()> {
    let group = || GroupBuilder::new("localhost:1", "copiers", ["orders"], EARLIEST);
    let error = |builder: TxnBuilder| {
        builder.in_order(support::Copy { to: "to".to_owned() }).map(drop).unwrap_err().to_string()
    };
    let session = Duration::from_secs(45);
    for (builder, says) in [
        (TxnBuilder::new(group()).transaction_timeout(session), "below the session's"),
        (TxnBuilder::new(group()).producer_option("acks", "1"), "transactions need all"),
        (TxnBuilder::new(group()).producer_option("transactional.id", "mine"), "transactional_id"),
        (TxnBuilder::new(group()).producer_option("no.such.option", "1"), "librdkafka does not take"),
        (TxnBuilder::new(group()).transactional_id(""), "needs a name"),
        (TxnBuilder::new(group().option("isolation.level", "read_uncommitted")), "aborted"),
        (TxnBuilder::new(group().option("enable.auto.commit", "true")), "commits are made here"),
    ] {
        let text = error(builder);
        assert!(text.contains(says), "{text:?} does not say {says:?}");
    }
    assert!(matches!(
        TxnBuilder::new(group().dead_letters("orders")).in_order(support::Copy { to: "to".to_owned() }),
        Err(ConfigError::Invalid(_))
    ));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_broker_ends_the_run_with_an_error() -> Result<()> {
    let group = GroupBuilder::new("127.0.0.1:1", "copiers", ["orders"], EARLIEST)
        .option("log_level", "0")
        .connect_timeout(Duration::from_secs(1));
    let member = TxnBuilder::new(group).in_order(support::Copy { to: "to".to_owned() })?;
    let error = Running::start(member).error().await?;
    assert!(matches!(&error, RunError::Transaction(TransactionError::Unavailable { .. })), "{error}");
    assert!(error.to_string().contains("check that the brokers are up"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_without_transactions_end_the_run_and_the_error_says_which_have_them() -> Result<()> {
    // Whether there are any is all that is asked of the mock.
    let mock = MockCluster::new(1)?;
    mock.apiversion(RDKafkaApiKey::InitProducerId, None, None)?;
    let group = GroupBuilder::new(mock.bootstrap_servers(), "copiers", ["orders"], EARLIEST).option("log_level", "0");
    let error = Running::start(TxnBuilder::new(group).in_order(support::Copy { to: "to".to_owned() })?).error().await?;
    assert!(matches!(&error, RunError::Transaction(TransactionError::Unsupported { .. })), "{error}");
    assert!(error.to_string().contains("Kafka 2.5 or later"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_rights_the_run_ends_and_says_which() -> Result<()> {
    let server = Kafka::builder().restricted().start().await?;
    let topics = Topics::on((*server).clone(), 1).await?;
    let member = || topics.txn().transactional_id("mine").in_order(topics.copy());
    // The transactional id.
    let error = Running::start(member()?).error().await?;
    assert!(matches!(&error, RunError::Transaction(TransactionError::Denied { .. })), "{error}");
    assert!(
        error.to_string().contains("WRITE and DESCRIBE on the transactional ids that begin with \"mine\""),
        "{error}"
    );
    for id in ["mine-0", "mine-1"] {
        topics.kafka.allow(Resource::TransactionalId(id), Operation::All).await?;
    }
    // The group, and the input.
    for right in [Resource::Group(&topics.group), Resource::Topic(&topics.from)] {
        let error = Running::start(member()?).error().await?;
        assert!(matches!(&error, RunError::Group(kafka_group::RunError::Denied { .. })), "{error}");
        topics.kafka.allow(right, Operation::All).await?;
    }
    topics.kafka.allow(Resource::Topic(&topics.dead), Operation::All).await?;
    // The output.
    topics.produce(["one"]).await?;
    let error = Running::start(member()?).error().await?;
    assert!(matches!(&error, RunError::Transaction(TransactionError::Denied { .. })), "{error}");
    // Now it works.
    topics.kafka.allow(Resource::Topic(&topics.to), Operation::All).await?;
    let running = Running::start(member()?);
    topics.until_committed().await?;
    assert_eq!(running.end().await?.outputs, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_too_large_or_for_no_topic_costs_only_its_own_record() -> Result<()> {
    let topics = Topics::new(1).await?;
    topics.kafka.delete_topic(&topics.to).await?;
    topics.kafka.topic_with(&topics.to, 1, 1, &[("max.message.bytes", "20000")]).await?;
    // The second of them is larger than what brokers read.
    let large = ["large 30000", "large 105000000"];
    let values =
        ["one", large[0], "two", "topic turnstile-no-such-topic", "three", "topic not/allowed", large[1], "four"];
    topics.produce(values).await?;
    // What is too large together, and not by itself, is none of it.
    let many: Vec<_> = (0..500).map(|number| format!("{number:0100}")).collect();
    topics.produce(&many).await?;
    let running = Running::start(topics.txn().in_order(topics.copy())?);
    topics.until_committed().await?;
    let report = running.end().await?;
    assert_eq!((report.records.done, report.records.dead_letters), (504, 4), "{report:?}");
    let copied = topics.values(&topics.to).await?;
    assert_eq!(copied[..4], ["one", "two", "three", "four"]);
    assert_eq!(copied[4..], many);
    let mut dead = topics.values(&topics.dead).await?;
    dead.sort();
    assert_eq!(dead, [large[1], large[0], "topic not/allowed", "topic turnstile-no-such-topic"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_dead_letters_a_refused_output_ends_the_run_and_nothing_is_lost() -> Result<()> {
    let topics = Topics::new(1).await?;
    topics.produce(["one", "topic turnstile-no-such-topic"]).await?;
    let group = GroupBuilder::new(topics.kafka.brokers(), &topics.group, [&topics.from], EARLIEST)
        .session_timeout(Duration::from_secs(6));
    let error = Running::start(TxnBuilder::new(group).in_order(topics.copy())?).error().await?;
    assert!(matches!(&error, RunError::Refused { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("turnstile-no-such-topic") && text.contains("offset 1"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_later_with_the_same_transactional_id_takes_over_and_the_other_says_so() -> Result<()> {
    let topics = Topics::new(2).await?;
    let member = || topics.txn().transactional_id(format!("{}-same", topics.group)).in_order(topics.copy());
    let mut first = Running::start(member()?);
    first.has(2).await?;
    topics.produce(0..10).await?;
    topics.until_committed().await?;
    let mut second = Running::start(member()?);
    second.has(1).await?;
    topics.produce((10..40).map(|number| number.to_string())).await?;
    for partition in 0..2 {
        topics.kafka.produce(&topics.from, Some(partition), [("k", "more")]).await?;
    }
    let error = first.error().await?;
    assert!(matches!(&error, RunError::Transaction(TransactionError::TakenOver { .. })), "{error}");
    topics.until_committed().await?;
    second.end().await?;
    assert_eq!(topics.read(&topics.to).await?.len(), 42);
    Ok(())
}
