//! Rights that are missing, or taken away in mid-run.

use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kafka_group::{Attempt, Handler, Outcome, Record, RunError, StallReason, Trouble};
use turnstile_testkit::kafka::{Kafka, Operation, Resource};
use turnstile_testkit::unique;

use crate::support::{Log, PROTOCOLS, Running, member_of, numbered};
use crate::{end, error_of, failure, says};

fn denied(error: &RunError, words: &str) {
    assert!(matches!(error, RunError::Denied { .. }), "{error:?}");
    says(error, &[words, "grant"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_ends_the_run_and_says_what_to_grant() -> Result<()> {
    let kafka = Kafka::builder().restricted().start().await?;
    for protocol in PROTOCOLS {
        let (topic, group) = (unique("orders"), unique("group"));
        kafka.topic(&topic, 2).await?;
        kafka.produce(&topic, None, numbered(10)).await?;
        let member = || member_of(&kafka.brokers(), &group, &topic).protocol(protocol);

        denied(&failure(member()).await?, "Topic authorization failed");
        kafka.allow(Resource::Topic(&topic), Operation::Describe).await?;
        denied(&failure(member()).await?, "Group authorization failed");
        kafka.allow(Resource::Group(&group), Operation::Read).await?;
        denied(&failure(member()).await?, "Topic authorization failed");
        kafka.allow(Resource::Topic(&topic), Operation::Read).await?;

        let log = Log::default();
        let running = Running::start(member().handler(log.clone())?);
        log.until(10).await?;
        kafka.deny(Resource::Topic(&topic), Operation::Read).await?;
        kafka.produce(&topic, None, numbered(10)).await?;
        denied(&error_of(running).await?, "Topic authorization failed");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_on_the_group_that_are_taken_away_in_mid_run_end_it() -> Result<()> {
    let kafka = Kafka::builder().restricted().start().await?;
    for protocol in PROTOCOLS {
        let (topic, group) = (unique("orders"), unique("group"));
        kafka.topic(&topic, 1).await?;
        kafka.produce(&topic, None, numbered(10)).await?;
        kafka.allow(Resource::Topic(&topic), Operation::Read).await?;
        kafka.allow(Resource::Group(&group), Operation::Read).await?;
        let log = Log::default();
        let member = member_of(&kafka.brokers(), &group, &topic).protocol(protocol).handler(log.clone())?;
        let running = Running::start(member);
        log.until(10).await?;
        kafka.deny(Resource::Group(&group), Operation::Read).await?;
        denied(&error_of(running).await?, "Group authorization failed");
    }
    Ok(())
}

/// Sets aside whatever comes.
struct Refusing;

#[async_trait]
impl Handler<Record> for Refusing {
    async fn handle(&self, _: &Record, _: Attempt<'_>) -> Outcome {
        Outcome::DeadLetter(anyhow!("not ours"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_may_not_be_written_holds_its_record_says_so_and_goes_on_once_it_may() -> Result<()> {
    let kafka = Kafka::builder().restricted().start().await?;
    let (topic, dead, group) = (unique("orders"), unique("dead"), unique("group"));
    for name in [&topic, &dead] {
        kafka.topic(name, 1).await?;
    }
    kafka.produce(&topic, None, numbered(2)).await?;
    kafka.allow(Resource::Topic(&topic), Operation::Read).await?;
    kafka.allow(Resource::Group(&group), Operation::Read).await?;
    kafka.allow(Resource::Topic(&dead), Operation::Describe).await?;
    let member = || {
        member_of(&kafka.brokers(), &group, &topic)
            .dead_letters(&dead)
            .stalled_after(Duration::from_millis(500))
            .handler(Refusing)
    };
    let mut running = Running::start(member()?);
    let status = running.until(|status| status.partitions.iter().any(|one| one.stall.is_some())).await?;
    let reason = status.partitions.into_iter().find_map(|one| one.stall).map(|stall| stall.reason);
    let Some(StallReason::Trouble(Trouble::DeadLetter { offset: 0, error })) = reason else {
        panic!("another reason: {reason:?}")
    };
    says(&error, &["uthorization"]);
    let report = end(running).await?;
    assert_eq!((report.dead_letters, report.done), (0, 0));
    assert_eq!(kafka.committed(&group, &topic).await?[0].offset, Some(0));

    let mut running = Running::start(member()?);
    running.until(|status| status.partitions.iter().any(|one| one.stall.is_some())).await?;
    kafka.allow(Resource::Topic(&dead), Operation::Write).await?;
    running.until(|status| status.partitions.iter().any(|one| one.commit_point == 2)).await?;
    assert_eq!(end(running).await?.dead_letters, 2);
    assert_eq!(kafka.end_offsets(&dead).await?, [2]);
    Ok(())
}
