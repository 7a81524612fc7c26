//! Too few replicas in sync: of three brokers one is killed, then two. What goes on and on is told, nothing is lost or doubled,
//! and no call waits without end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Result;
use kafka_txn::{Output, Outputs, RunError, Status, Step, TransactionError, WriteError, Writer};
use support::{Running, Topics, connection};
use turnstile_testkit::kafka::Cluster;
use turnstile_testkit::until;

/// Brokers that come back take their time.
const PATIENCE: Duration = Duration::from_secs(120);

fn is_told(status: &Status) -> bool {
    let reasons = status.partitions.iter().filter_map(|one| one.stall.as_ref());
    reasons.map(|stall| stall.reason.to_string()).any(|reason| reason.contains("min.insync.replicas"))
}

async fn until_copied(topics: &Topics, values: &[&str]) {
    let copied = async {
        while !topics.values(&topics.to).await.is_ok_and(|copied| copied.len() >= values.len()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, copied).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_replicas_are_told_and_waited_for_and_nothing_is_lost_or_doubled() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let topics = Topics::on((*cluster).clone(), 1).await?;
    topics.kafka.delete_topic(&topics.to).await?;
    topics.kafka.topic_with(&topics.to, 1, 3, &[("min.insync.replicas", "3")]).await?;
    let builder = || topics.txn().transaction_timeout(Duration::from_secs(3));

    // All three are needed, and one is gone: outputs do not arrive, and nor does the abort.
    cluster.each()[2].kill().await?;
    topics.produce(["one"]).await?;
    let mut running = Running::start(builder().in_order(topics.copy())?);
    running.until(is_told).await?;
    cluster.each()[2].restart().await?;
    until_copied(&topics, &["one"]).await;
    let report = running.end().await?;
    assert!((report.records.done, report.outputs) == (1, 1) && report.aborted > 0, "{report:?}");

    // Two are gone in the middle of a transaction: it cannot even be aborted. A shutdown ends all the same.
    let (at_produce, is_there) = channel();
    let (go, goes) = channel();
    let (first, goes) = (AtomicBool::new(true), std::sync::Mutex::new(goes));
    let stops = builder().on_step(move |step| {
        if step == Step::Produce && first.swap(false, Ordering::SeqCst) {
            let _ = at_produce.send(());
            let _ = goes.lock().unwrap().recv();
        }
    });
    let writer = Writer::connect(connection(&topics.kafka), &topics.group, Duration::from_secs(2)).await?;
    topics.produce(["two", "three"]).await?;
    let mut running = Running::start(stops.in_order(topics.copy())?);
    tokio::task::spawn_blocking(move || is_there.recv()).await??;
    let [_, others @ ..] = cluster.each() else { panic!("there are three") };
    for broker in &mut *others {
        broker.kill().await?;
    }
    go.send(())?;
    running.until(|status| status.partitions.iter().any(|one| one.stall.is_some())).await?;
    let report = running.end().await?;
    assert_eq!((report.records.done, report.outputs), (0, 0), "{report:?}");
    // Nor is there a transaction for who comes now, or only writes.
    let mut outputs = Outputs::default();
    outputs.push(Output::to(&topics.to).value("five"));
    let written = tokio::time::timeout(PATIENCE, writer.write(outputs.clone())).await?;
    assert!(matches!(&written, Err(WriteError::Aborted { .. } | WriteError::Unknown { .. })), "{written:?}");
    let error = Running::start(builder().in_order(topics.copy())?).error().await?;
    assert!(matches!(&error, RunError::Transaction(TransactionError::Unavailable { .. })), "{error}");

    for broker in others {
        broker.restart().await?;
    }
    let running = Running::start(builder().in_order(topics.copy())?);
    until_copied(&topics, &["one", "two", "three"]).await;
    topics.produce(["four"]).await?;
    until_copied(&topics, &["one", "two", "three", "four"]).await;
    running.end().await?;
    until("it is written", async || writer.write(outputs.clone()).await.is_ok()).await;
    assert_eq!(topics.values(&topics.to).await?, ["one", "two", "three", "four", "five"]);
    Ok(())
}
