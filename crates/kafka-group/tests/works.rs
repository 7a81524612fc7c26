//! One member and two: what is handled, in which order, what is committed, who has what.

mod support;

use std::collections::HashSet;

use anyhow::Result;
use kafka_group::{Membership, Status};
use support::{Log, PROTOCOLS, Running, member_of, numbered, topic};

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_handled_once_and_in_order_and_all_is_committed_at_the_end() -> Result<()> {
    for protocol in PROTOCOLS {
        let (kafka, topic, group) = topic(3).await?;
        kafka.produce(&topic, None, numbered(3000)).await?;
        let log = Log::default();
        let member = member_of(&kafka.brokers(), &group, &topic).protocol(protocol).handler(log.clone())?;
        let running = Running::start(member);
        log.until(3000).await?;
        let report = running.end().await?;
        assert_eq!((report.done, report.retries, report.handed_back), (3000, 0, 0), "{protocol:?}");
        let ends = kafka.end_offsets(&topic).await?;
        for (partition, end) in ends.iter().enumerate() {
            assert_eq!(log.offsets(partition as i32), (0..*end).collect::<Vec<_>>(), "{protocol:?}");
        }
        let committed = kafka.committed(&group, &topic).await?;
        assert_eq!(committed.iter().map(|one| one.offset.unwrap_or(-1)).collect::<Vec<_>>(), ends, "{protocol:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_the_partitions_and_the_second_has_all_when_the_first_leaves() -> Result<()> {
    for protocol in PROTOCOLS {
        let (kafka, topic, group) = topic(4).await?;
        let log = Log::default();
        let member = || member_of(&kafka.brokers(), &group, &topic).protocol(protocol).handler(log.clone());
        let mut first = Running::start(member()?);
        first.has(4).await?;
        let mut second = Running::start(member()?);
        let seconds = second.has(2).await?;
        let firsts = first.has(2).await?;
        let held: HashSet<_> = firsts.partitions.iter().chain(&seconds.partitions).map(|one| one.partition).collect();
        assert_eq!(held.len(), 4, "{protocol:?}");
        kafka.produce(&topic, None, numbered(500)).await?;
        log.until(500).await?;
        first.end().await?;
        second.has(4).await?;
        kafka.produce(&topic, None, numbered(500)).await?;
        log.until(1000).await?;
        second.end().await?;
        let distinct: HashSet<_> = log.all().into_iter().collect();
        assert_eq!((log.count(), distinct.len()), (1000, 1000), "{protocol:?}: none twice");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_too_many_is_told_to_be_idle_and_takes_over() -> Result<()> {
    for protocol in PROTOCOLS {
        let (kafka, topic, group) = topic(1).await?;
        let log = Log::default();
        let member = || member_of(&kafka.brokers(), &group, &topic).protocol(protocol).handler(log.clone());
        let mut first = Running::start(member()?);
        first.has(1).await?;
        let mut second = Running::start(member()?);
        let is_idle = |status: &Status| status.membership == Membership::Idle;
        let first_is_idle = tokio::select! {
            idle = first.until(is_idle) => idle.is_ok(),
            idle = second.until(is_idle) => !idle?.partitions.is_empty(),
        };
        let (mut idle, working) = if first_is_idle { (first, second) } else { (second, first) };
        working.end().await?;
        idle.has(1).await?;
        kafka.produce(&topic, None, numbered(10)).await?;
        log.until(10).await?;
        assert_eq!(idle.status.borrow().membership, Membership::Working, "{protocol:?}");
        idle.end().await?;
    }
    Ok(())
}
