//! Two members under one `group.instance.id`.

use anyhow::Result;
use kafka_group::{Protocol, RunError};

use crate::support::{Log, Running, member_of, numbered, topic};
use crate::{end, error_of, says};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_classic_members_with_one_name_the_earlier_is_told_and_the_later_works() -> Result<()> {
    for protocol in [Protocol::Cooperative, Protocol::Eager] {
        let (kafka, topic, group) = topic(2).await?;
        let log = Log::default();
        let member =
            || member_of(&kafka.brokers(), &group, &topic).protocol(protocol).instance_id("left").handler(log.clone());
        let mut earlier = Running::start(member()?);
        earlier.has(2).await?;
        let mut later = Running::start(member()?);
        let error = error_of(earlier).await?;
        assert!(matches!(error, RunError::InstanceTaken { .. }), "{protocol:?}: {error:?}");
        says(&error, &["left", "a name of its own"]);
        later.has(2).await?;
        kafka.produce(&topic, None, numbered(20)).await?;
        log.until(20).await?;
        end(later).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_with_one_name_under_kip_848_the_later_says_what_it_waits_for() -> Result<()> {
    let (kafka, topic, group) = topic(2).await?;
    let log = Log::default();
    let member = || {
        member_of(&kafka.brokers(), &group, &topic)
            .protocol(Protocol::Consumer)
            .instance_id("left")
            .handler(log.clone())
    };
    let mut earlier = Running::start(member()?);
    earlier.has(2).await?;
    let mut later = Running::start(member()?);
    let status = later.until(|status| status.trouble.is_some()).await?;
    says(&status.trouble.unwrap_or_default(), &["instance"]);
    kafka.produce(&topic, None, numbered(20)).await?;
    log.until(20).await?;
    end(later).await?;
    end(earlier).await?;
    Ok(())
}
