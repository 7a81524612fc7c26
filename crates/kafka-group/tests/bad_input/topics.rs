//! Topics that are not there, or go away in mid-run.

use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use kafka_group::{GroupBuilder, RunError};
use turnstile_testkit::unique;

use crate::support::{EARLIEST, Log, PROTOCOLS, Running, member_of, numbered, topic};
use crate::{end, error_of, failure, says};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    let missing = unique("missing");
    for member in [
        member_of(&kafka.brokers(), &group, &missing),
        GroupBuilder::new(kafka.brokers(), &group, [&topic, &missing], EARLIEST),
        member_of(&kafka.brokers(), &group, &topic).dead_letters(&missing),
    ] {
        let error = failure(member).await?;
        assert!(matches!(error, RunError::UnknownTopic { .. }), "{error:?}");
        says(&error, &[&missing, "create it"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_topic_can_have_is_named() -> Result<()> {
    let (kafka, _, group) = topic(1).await?;
    let error = failure(member_of(&kafka.brokers(), &group, "no topic/has such a name")).await?;
    says(&error, &["no topic/has such a name", "correct the name"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_in_mid_run_ends_the_run_with_its_name() -> Result<()> {
    for protocol in PROTOCOLS {
        let (kafka, topic, group) = topic(2).await?;
        let stays = unique("stays");
        kafka.topic(&stays, 1).await?;
        kafka.produce(&topic, None, numbered(100)).await?;
        let log = Log::default();
        let member = GroupBuilder::new(kafka.brokers(), &group, [&stays, &topic], EARLIEST)
            .session_timeout(Duration::from_secs(6))
            .protocol(protocol)
            .option("topic.metadata.refresh.interval.ms", "500")
            .handler(log.clone())?;
        let running = Running::start(member);
        log.until(100).await?;
        kafka.delete_topic(&topic).await?;
        let error = error_of(running).await?;
        assert!(matches!(error, RunError::UnknownTopic { .. }), "{protocol:?}: {error:?}");
        says(&error, &[&topic]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_with_fewer_partitions_is_an_error_or_is_worked_on() -> Result<()> {
    for protocol in PROTOCOLS {
        let (kafka, topic, group) = topic(4).await?;
        kafka.produce(&topic, None, numbered(400)).await?;
        let log = Log::default();
        let member = || {
            member_of(&kafka.brokers(), &group, &topic)
                .protocol(protocol)
                .option("topic.metadata.refresh.interval.ms", "500")
                .handler(log.clone())
        };
        let running = Running::start(member()?);
        log.until(400).await?;
        kafka.delete_topic(&topic).await?;
        kafka.topic(&topic, 2).await?;
        kafka.produce(&topic, None, numbered(10)).await?;
        let shutdown = running.shutdown.clone();
        let mut ended = pin!(error_of(running));
        let error = tokio::select! {
            error = &mut ended => error?,
            worked_on = log.until(410) => {
                worked_on?;
                shutdown.begin();
                // It ends without an error.
                assert!(ended.await.is_err(), "{protocol:?}");
                continue;
            }
        };
        assert!(matches!(error, RunError::UnknownTopic { .. }), "{protocol:?}: {error:?}");
        // Whoever starts it again is told nothing of the old topic's offsets.
        let running = Running::start(member()?);
        log.until(410).await?;
        end(running).await?;
    }
    Ok(())
}
