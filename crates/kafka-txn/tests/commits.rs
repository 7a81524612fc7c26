//! One member: what is produced, what is committed, in which order, and what the report says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use kafka_txn::{
    GroupBuilder, Isolation, LaneOptions, Output, Outputs, Reader, Start, StartAt, Step, TxnBuilder, WriteError, Writer,
};
use support::{Running, Topics, connection, read};
use turnstile_testkit::{unique, until};

#[tokio::test(flavor = "multi_thread")]
async fn outputs_and_offsets_commit_together_in_order_and_the_report_counts_them() -> Result<()> {
    let topics = Topics::new(3).await?;
    let values: Vec<_> = (0..2000).map(|number| number.to_string()).collect();
    topics.produce(&values).await?;
    let running = Running::start(topics.txn().in_order(topics.copy())?);
    topics.until_committed().await?;
    let report = running.end().await?;
    assert_eq!((report.records.done, report.outputs, report.aborted), (2000, 2000, 0), "{report:?}");
    assert!(report.transactions >= 1);
    assert_eq!(topics.values(&topics.to).await?, values, "one key, so one partition, and in order");
    let one = topics.read(&topics.to).await?.remove(0);
    assert_eq!((one.key.as_deref(), one.headers), (Some(&b"k"[..]), vec![("of".to_owned(), Some(b"copy".to_vec()))]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_takes_no_more_than_its_limits_say() -> Result<()> {
    let topics = Topics::new(1).await?;
    topics.produce(0..100).await?;
    let committed = Arc::new(AtomicU64::new(0));
    let count = committed.clone();
    let builder = topics.txn().every(Duration::from_secs(3600)).records(10).on_step(move |step| {
        if step == Step::Committed {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let running = Running::start(builder.in_order(topics.copy())?);
    topics.until_committed().await?;
    let report = running.end().await?;
    assert!(report.transactions >= 10, "{report:?}");
    assert_eq!(report.transactions, committed.load(Ordering::SeqCst));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_is_committed_when_the_run_ends_however_long_the_interval() -> Result<()> {
    let topics = Topics::new(2).await?;
    topics.produce(0..100).await?;
    let mut running = Running::start(topics.txn().every(Duration::from_secs(3600)).in_order(topics.copy())?);
    running.until(|status| status.partitions.iter().map(|one| one.in_hand.records).sum::<u64>() == 100).await?;
    let report = running.end().await?;
    assert_eq!(report.records.done + report.records.handed_back, 100, "{report:?}");
    assert_eq!(topics.values(&topics.to).await?.len() as u64, report.records.done);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_in_the_transaction_and_the_outputs_of_its_attempt_are_not() -> Result<()> {
    let topics = Topics::new(1).await?;
    topics.produce(["one", "poison", "nothing", "two"]).await?;
    let running = Running::start(topics.txn().in_order(topics.copy())?);
    topics.until_committed().await?;
    let report = running.end().await?;
    assert_eq!((report.records.done, report.records.dead_letters, report.outputs), (3, 1, 3), "{report:?}");
    assert_eq!(topics.values(&topics.to).await?, ["one", "two"]);
    let letter = topics.read(&topics.dead).await?.remove(0);
    assert_eq!(letter.value.as_deref(), Some(&b"poison"[..]));
    let header = |name: &str| letter.headers.iter().find(|(known, _)| known == name).unwrap().1.clone().unwrap();
    assert_eq!(header("turnstile.offset"), b"1");
    assert_eq!(header("turnstile.error"), b"it never works");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_key_holds_back_neither_the_commit_nor_other_keys() -> Result<()> {
    let topics = Topics::new(1).await?;
    topics.kafka.produce(&topics.from, Some(0), [("slow", "wait"), ("slow", "behind")]).await?;
    topics
        .kafka
        .produce(&topics.from, Some(0), (0..100).map(|number| (format!("k{number}"), number.to_string())))
        .await?;
    let running = Running::start(topics.txn().parallel(topics.copy(), LaneOptions::default())?);
    until("all others are copied", async || topics.values(&topics.to).await.is_ok_and(|seen| seen.len() == 100)).await;
    let committed = topics.kafka.committed(&topics.group, &topics.from).await?.remove(0);
    assert_eq!(committed.offset, Some(0), "the slow one is not done");
    assert!(!committed.metadata.is_empty(), "and what is done beyond it is told");
    // It is handed back, and whoever goes on does no more than that.
    assert_eq!(running.end().await?.records.handed_back, 2);
    let running = Running::start(topics.txn().parallel(support::Plain(topics.to.clone()), LaneOptions::default())?);
    topics.until_committed().await?;
    assert_eq!(running.end().await?.outputs, 2);
    let copied = topics.values(&topics.to).await?;
    assert_eq!((copied.len(), &copied[100..]), (102, &["wait".to_owned(), "behind".to_owned()][..]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_group_begins_is_committed_before_there_is_anything() -> Result<()> {
    let topics = Topics::new(2).await?;
    topics.produce(0..50).await?;
    let latest = Start { without_commit: StartAt::Latest, out_of_range: StartAt::Latest };
    let group = GroupBuilder::new(topics.kafka.brokers(), &topics.group, [&topics.from], latest)
        .session_timeout(Duration::from_secs(6));
    let running = Running::start(TxnBuilder::new(group).in_order(topics.copy())?);
    topics.until_committed().await?;
    assert_eq!(running.end().await?.outputs, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_writes_all_or_nothing() -> Result<()> {
    let topics = Topics::new(3).await?;
    let id = unique("writer");
    let writer = Writer::connect(connection(&topics.kafka), &id, Duration::from_secs(5)).await?;
    let mut outputs = Outputs::default();
    for partition in 0..3 {
        outputs.push(Output::to(&topics.to).partition(partition).value("there"));
    }
    writer.write(outputs).await?;
    let mut outputs = Outputs::default();
    outputs.push(Output::to(&topics.to).value("not there"));
    outputs.push(Output::to(&topics.to).partition(7).value("there is no such partition"));
    let refused = writer.write(outputs.clone()).await.unwrap_err();
    assert!(matches!(&refused, WriteError::Refused { .. }), "{refused}");
    assert_eq!(topics.values(&topics.to).await?, ["there"; 3]);
    // It goes on; and who comes later takes over.
    let mut outputs = Outputs::default();
    outputs.push(Output::to(&topics.to).value("more"));
    writer.write(outputs.clone()).await?;
    let other = Writer::connect(connection(&topics.kafka), &id, Duration::from_secs(5)).await?;
    let taken = writer.write(outputs.clone()).await.unwrap_err();
    assert!(taken.to_string().contains("another instance has taken over"), "{taken}");
    other.write(outputs).await?;
    assert_eq!(read(&topics.kafka, &topics.to, Isolation::Committed).await?.len(), 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_reads_each_partition_to_its_end_also_while_another_grows() -> Result<()> {
    let topics = Topics::new(2).await?;
    topics.kafka.produce(&topics.from, Some(0), (0..1000).map(|number| ("k", number.to_string()))).await?;
    let mut connection = connection(&topics.kafka);
    // A little at a time, so that the end of the other comes again and again in between.
    connection.set("queued.min.messages", "1").set("fetch.message.max.bytes", "1000");
    let mut reader = Reader::open(connection, &topics.from, Isolation::Everything, Duration::from_secs(30))?;
    let mut read = Vec::new();
    while let Some(record) = tokio::task::block_in_place(|| reader.next()).transpose()? {
        if read.len() % 100 == 0 {
            topics.kafka.produce(&topics.from, Some(1), [("k", "more")]).await?;
        }
        read.extend((record.partition == 0).then_some(record.offset));
    }
    assert_eq!(read, (0..1000).collect::<Vec<_>>());
    Ok(())
}
