//! Coming and going: static members, runs that are dropped.

mod support;

use std::time::Duration;

use anyhow::Result;
use kafka_group::Protocol;
use support::{Log, Running, member_of, numbered, topic};

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_comes_back_finds_its_partitions_and_the_others_notice_nothing() -> Result<()> {
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let (kafka, topic, group) = topic(2).await?;
        let log = Log::default();
        let member = |instance: &str| {
            member_of(&kafka.brokers(), &group, &topic)
                .protocol(protocol)
                .session_timeout(Duration::from_secs(20))
                .instance_id(instance)
                .handler(log.clone())
        };
        let mut other = Running::start(member("other")?);
        let mut ours = Running::start(member("ours")?);
        other.has(1).await?;
        let had = ours.has(1).await?.partitions[0].partition;
        let epoch = other.has(1).await?.partitions[0].epoch;
        ours.end().await?;
        let mut again = Running::start(member("ours")?);
        let has = again.has(1).await?.partitions[0].partition;
        assert_eq!(has, had, "{protocol:?}");
        kafka.produce(&topic, Some(0), numbered(5)).await?;
        kafka.produce(&topic, Some(1), numbered(5)).await?;
        log.until(10).await?;
        assert_eq!(other.status.borrow().partitions[0].epoch, epoch, "{protocol:?}");
        again.end().await?;
        other.end().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_leaves_the_group_all_the_same() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    let log = Log::default();
    let member = || {
        member_of(&kafka.brokers(), &group, &topic)
            // So long that the next member would time out if it had to wait for the session's end.
            .session_timeout(Duration::from_secs(120))
            .max_poll_interval(Duration::from_secs(120))
            .handler(log.clone())
    };
    let first = member()?;
    let mut status = first.status();
    let shutdown = kafka_group::Shutdown::new(Duration::from_secs(5));
    let run = tokio::spawn(first.run(shutdown));
    status.wait_for(|status| status.partitions.len() == 1).await?;
    run.abort();
    let mut second = Running::start(member()?);
    second.has(1).await?;
    second.end().await?;
    Ok(())
}
