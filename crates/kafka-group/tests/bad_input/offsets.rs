//! Committed offsets that are missing, out of range, or have metadata that somebody else wrote.

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kafka_group::rdkafka::admin::{AdminClient, AdminOptions};
use kafka_group::rdkafka::client::DefaultClientContext;
use kafka_group::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use kafka_group::rdkafka::{ClientConfig, Offset, TopicPartitionList};
use kafka_group::{Amount, Attempt, GroupBuilder, Handler, Outcome, Record, RunError, Start, StartAt};
use tokio::sync::Semaphore;
use turnstile_testkit::kafka::Kafka;
use turnstile_testkit::unique;

use crate::support::{EARLIEST, Log, PROTOCOLS, Running, member_of, numbered, topic};
use crate::{end, error_of, failure, raw, says};

/// Commits for partition 0 of a group without members.
fn commit(kafka: &Kafka, group: &str, topic: &str, offset: i64, metadata: &str) -> Result<()> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).set("group.id", group).create()?;
    let mut list = TopicPartitionList::new();
    let mut one = list.add_partition(topic, 0);
    one.set_offset(Offset::Offset(offset))?;
    one.set_metadata(metadata);
    Ok(consumer.commit(&list, CommitMode::Sync)?)
}

/// Deletes what lies below `offset` in partition 0.
async fn delete_below(kafka: &Kafka, topic: &str, offset: i64) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset))?;
    for deleted in admin.delete_records(&list, &AdminOptions::new()).await?.elements() {
        deleted.error()?;
    }
    Ok(())
}

/// A topic with the offsets 10 to 19.
async fn ten_to_twenty() -> Result<(Kafka, String, String)> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, Some(0), numbered(20)).await?;
    delete_below(&kafka, &topic, 10).await?;
    Ok((kafka, topic, group))
}

/// Begins as `start` says; which offsets are handled once another record has come.
async fn handled(kafka: &Kafka, topic: &str, group: &str, start: Start) -> Result<Vec<i64>> {
    let log = Log::default();
    let member = GroupBuilder::new(kafka.brokers(), group, [topic], start);
    let mut running = Running::start(member.handler(log.clone())?);
    running.has(1).await?;
    let produced = kafka.produce(topic, Some(0), [("", "last")]).await?;
    running.until(|status| status.partitions.iter().any(|one| one.commit_point == produced[0].1 + 1)).await?;
    end(running).await?;
    Ok(log.offsets(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn where_to_begin_without_a_commit_and_with_one_out_of_range_is_as_chosen() -> Result<()> {
    let (kafka, topic, _) = ten_to_twenty().await?;
    let mut end_offset = 20;
    for committed in [None, Some(5), Some(1_000_000)] {
        for chosen in [StartAt::Earliest, StartAt::Latest, StartAt::Refuse] {
            let start = |at: StartAt, other: StartAt| match committed {
                None => Start { without_commit: at, out_of_range: other },
                Some(_) => Start { without_commit: other, out_of_range: at },
            };
            let group = unique("group");
            if let Some(offset) = committed {
                commit(&kafka, &group, &topic, offset, "")?;
            }
            if chosen == StartAt::Refuse {
                let start = start(StartAt::Refuse, StartAt::Earliest);
                let error = failure(GroupBuilder::new(kafka.brokers(), &group, [&topic], start)).await?;
                assert!(matches!(error, RunError::NowhereToStart { partition: 0, .. }), "{error:?}");
                let which = if committed.is_none() { "without_commit" } else { "out_of_range" };
                says(&error, &[&topic, which, "--reset-offsets"]);
                // What somebody set is still there for them to look at.
                assert_eq!(kafka.committed(&group, &topic).await?[0].offset, committed);
                continue;
            }
            // The other choice is not looked at.
            let offsets = handled(&kafka, &topic, &group, start(chosen, StartAt::Refuse)).await?;
            let first = if chosen == StartAt::Earliest { 10 } else { end_offset };
            end_offset += 1;
            assert_eq!(offsets, (first..end_offset).collect::<Vec<_>>(), "{committed:?}, {chosen:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_at_either_end_is_in_range() -> Result<()> {
    let (kafka, topic, _) = ten_to_twenty().await?;
    let refuse = Start { without_commit: StartAt::Refuse, out_of_range: StartAt::Refuse };
    for (committed, expected) in [(20, vec![20]), (10, (10..22).collect())] {
        let group = unique("group");
        commit(&kafka, &group, &topic, committed, "")?;
        assert_eq!(handled(&kafka, &topic, &group, refuse).await?, expected);
    }
    Ok(())
}

/// Handles one record for each permit.
struct Held(Log, &'static Semaphore);

#[async_trait]
impl Handler<Record> for Held {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        let permit = self.1.acquire().await.map(tokio::sync::SemaphorePermit::forget);
        self.0.note(record, attempt);
        Outcome::from(permit.map_err(|closed| anyhow!(closed)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_deleted_before_they_are_fetched_end_the_run_or_are_passed_over_as_chosen() -> Result<()> {
    for protocol in PROTOCOLS {
        for out_of_range in [StartAt::Refuse, StartAt::Earliest, StartAt::Latest] {
            let (kafka, topic, group) = topic(1).await?;
            kafka.produce(&topic, Some(0), (0..5000).map(|_| ("key", [7; 1000]))).await?;
            let (log, permits) = (Log::default(), Box::leak(Box::new(Semaphore::new(1))));
            let start = Start { without_commit: StartAt::Earliest, out_of_range };
            let member = GroupBuilder::new(kafka.brokers(), &group, [&topic], start)
                .protocol(protocol)
                .budget(Amount { records: 10, bytes: 10_000 })
                .option("fetch.message.max.bytes", "10000")
                .option("queued.min.messages", "1");
            let mut running = Running::start(member.handler(Held(log.clone(), permits))?);
            running.until(|status| status.partitions.iter().any(|one| one.paused)).await?;
            delete_below(&kafka, &topic, 4000).await?;
            permits.add_permits(Semaphore::MAX_PERMITS / 2);
            if out_of_range == StartAt::Refuse {
                let error = error_of(running).await?;
                assert!(matches!(error, RunError::NowhereToStart { .. }), "{protocol:?}: {error:?}");
                says(&error, &["deleted before they were worked on"]);
                continue;
            }
            if out_of_range == StartAt::Earliest {
                running.until(|status| status.partitions.iter().any(|one| one.commit_point == 5000)).await?;
                end(running).await?;
                let offsets = log.offsets(0);
                assert!(offsets.is_sorted() && offsets.len() < 4500, "{protocol:?}: {}", offsets.len());
                assert_eq!(offsets.iter().filter(|offset| **offset >= 4000).count(), 1000, "{protocol:?}");
                continue;
            }
            // Where the end is depends on when it finds out.
            turnstile_testkit::until("a new record is handled", async || {
                kafka.produce(&topic, Some(0), [("key", "one more")]).await.expect("produced");
                log.offsets(0).last().is_some_and(|last| *last >= 5000)
            })
            .await;
            end(running).await?;
            let offsets = log.offsets(0);
            assert!(offsets.is_sorted() && !offsets.iter().any(|offset| (4000..5000).contains(offset)), "{protocol:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_not_ours_or_damaged_is_ignored_and_the_committed_offset_counts() -> Result<()> {
    let (kafka, topic, _) = topic(1).await?;
    kafka.produce(&topic, Some(0), numbered(10)).await?;
    let long = "x".repeat(4096);
    let mut count = 10;
    let refuse = Start { without_commit: StartAt::Refuse, out_of_range: StartAt::Refuse };
    for metadata in ["{\"host\":\"somebody\"}", "ko", "ko1", "ko1g", "ko1gAAAAAAAA", "ko9gAAAAAAAA", "žluťoučký", &long]
    {
        let group = unique("group");
        commit(&kafka, &group, &topic, 4, metadata)?;
        count += 1;
        assert_eq!(handled(&kafka, &topic, &group, refuse).await?, (4..count).collect::<Vec<_>>(), "{metadata:?}");
    }
    // Not UTF-8: brokers mend such text when they take it, so a consumer does not meet it; but who knows what brokers do.
    let group = unique("group");
    raw::commit_with_metadata(&kafka.brokers(), &group, &topic, 4, &[b'k', 0xff, 0xfe, 0xc3])?;
    count += 1;
    assert_eq!(handled(&kafka, &topic, &group, refuse).await?, (4..count).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_chosen_for_each_partition_by_itself() -> Result<()> {
    let (kafka, topic, group) = topic(2).await?;
    kafka.produce(&topic, Some(0), numbered(10)).await?;
    kafka.produce(&topic, Some(1), numbered(10)).await?;
    commit(&kafka, &group, &topic, 7, "")?;
    let log = Log::default();
    let mut running = Running::start(member_of(&kafka.brokers(), &group, &topic).handler(log.clone())?);
    running.has(2).await?;
    log.until(13).await?;
    end(running).await?;
    assert_eq!((log.offsets(0), log.offsets(1)), ((7..10).collect(), (0..10).collect()));
    let refuse = Start { without_commit: StartAt::Refuse, ..EARLIEST };
    let group = unique("group");
    commit(&kafka, &group, &topic, 7, "")?;
    let error = failure(GroupBuilder::new(kafka.brokers(), &group, [&topic], refuse)).await?;
    assert!(matches!(error, RunError::NowhereToStart { partition: 1, .. }), "{error:?}");
    Ok(())
}
