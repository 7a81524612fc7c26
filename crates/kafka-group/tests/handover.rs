//! Partitions that change hands while handlers are at work.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use kafka_group::rdkafka::ClientConfig;
use kafka_group::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka_group::{Amount, Attempt, CommitPolicy, Delivery, Handler, Membership, Outcome, Record, StallReason};
use support::{Log, PROTOCOLS, Running, member_of, numbered, topic, until};
use tokio::sync::Semaphore;
use turnstile_testkit::kafka::Kafka;
use turnstile_testkit::proxy::Direction;
use turnstile_testkit::unique;

/// Notes each record when it begins, and waits for a permit before it is done.
#[derive(Clone)]
struct Gated {
    begun: Log,
    done: Log,
    gate: Arc<Semaphore>,
    at_once: Arc<AtomicUsize>,
}

impl Gated {
    fn new() -> Self {
        Self { begun: Log::default(), done: Log::default(), gate: Arc::new(Semaphore::new(0)), at_once: Arc::default() }
    }
}

#[async_trait]
impl Handler<Record> for Gated {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self.at_once.fetch_add(1, Ordering::SeqCst);
        self.begun.note(record, attempt);
        self.gate.acquire().await.unwrap().forget();
        self.done.note(record, attempt);
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        Outcome::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_let_go_only_when_its_handler_has_finished_and_that_is_committed() -> Result<()> {
    for protocol in PROTOCOLS {
        let (kafka, topic, group) = topic(1).await?;
        kafka.produce(&topic, Some(0), numbered(5)).await?;
        let (first, second) = (Gated::new(), Log::default());
        let member = member_of(&kafka.brokers(), &group, &topic).protocol(protocol);
        let mut one = Running::start(member.clone().handler(first.clone())?);
        first.begun.until(1).await?;
        one.shutdown.begin();
        one.until(|status| status.membership == Membership::Leaving).await?;
        let two = Running::start(member.handler(second.clone())?);
        // The second has joined, or waits to, and gets nothing while the first is at work.
        assert_eq!((second.count(), first.done.count()), (0, 0), "{protocol:?}");
        first.gate.add_permits(1);
        let report = one.end().await?;
        assert_eq!((report.done, first.begun.offsets(0)), (1, vec![0]), "{protocol:?}");
        second.until(4).await?;
        two.end().await?;
        assert_eq!(second.offsets(0), [1, 2, 3, 4], "{protocol:?}: none twice, none left out");
    }
    Ok(())
}

/// Takes a moment.
#[derive(Clone, Default)]
struct Busy(Log);

#[async_trait]
impl Handler<Record> for Busy {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self.0.note(record, attempt);
        tokio::time::sleep(Duration::from_millis(5)).await;
        Outcome::Done
    }
}

/// How many were begun more than once.
fn repeated(log: &Log) -> usize {
    let mut handled = log.all();
    let all = handled.len();
    handled.sort_unstable();
    handled.dedup();
    all - handled.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_leave_at_once_in_the_middle_of_a_rebalance_repeat_nothing() -> Result<()> {
    let each = PROTOCOLS.map(|protocol| async move {
        let (kafka, topic, group) = topic(6).await?;
        kafka.produce(&topic, None, numbered(20_000)).await?;
        let busy = Busy::default();
        let start = || {
            let member = member_of(&kafka.brokers(), &group, &topic).protocol(protocol);
            anyhow::Ok(Running::start(member.commits(CommitPolicy::at_the_end()).handler(busy.clone())?))
        };
        let mut two = [start()?, start()?];
        for round in 0..8 {
            for one in &mut two {
                one.until(|status| !status.partitions.is_empty()).await?;
            }
            let next = [start()?, start()?];
            // At another point of what the newcomers bring about each time.
            tokio::time::sleep(Duration::from_millis(60 * round)).await;
            two.iter().for_each(|one| one.shutdown.begin());
            for one in std::mem::replace(&mut two, next) {
                one.end().await?;
            }
        }
        for one in two {
            one.end().await?;
        }
        assert_eq!(repeated(&busy.0), 0, "{protocol:?}: of {}", busy.0.count());
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(each).await?;
    Ok(())
}

/// A commit then waits behind the member's own request to join, and is of the past generation when its turn comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_while_a_rebalance_waits_for_others_repeats_nothing() -> Result<()> {
    let (kafka, topic, group) = (Kafka::start().await?, unique("orders"), unique("group"));
    kafka.topic(&topic, 3).await?;
    kafka.produce(&topic, None, numbered(1500)).await?;
    let busy = Busy::default();
    let start = |brokers: &str| {
        let member = member_of(brokers, &group, &topic).commits(CommitPolicy::at_the_end());
        anyhow::Ok(Running::start(member.handler(busy.clone())?))
    };
    let proxy = kafka.proxy().await?;
    let mut late = start(&proxy.brokers())?;
    late.has(3).await?;
    let mut leaves = start(&kafka.brokers())?;
    leaves.has(1).await?;
    late.has(2).await?;
    // It hears late of the next rebalance.
    proxy.each()[0].delay(Direction::ToClient, Duration::from_secs(2));
    let third = start(&kafka.brokers())?;
    let asks: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create()?;
    let waits = async || {
        let groups = asks.fetch_group_list(Some(&group), Duration::from_secs(10)).unwrap();
        groups.groups().iter().any(|group| group.state() == "PreparingRebalance")
    };
    turnstile_testkit::until("the brokers wait for all to join", waits).await;
    // The other hears of it with its next heartbeat, which nobody sees: it comes ten times in a session.
    tokio::time::sleep(Duration::from_secs(1)).await;
    leaves.end().await?;
    proxy.each()[0].pass();
    busy.0.until(1500).await?;
    late.end().await?;
    third.end().await?;
    assert_eq!(repeated(&busy.0), 0, "of {}", busy.0.count());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_sleeps_ten_times_the_longest_poll_interval_keeps_its_partition() -> Result<()> {
    let each = PROTOCOLS.map(|protocol| async move {
        let (kafka, topic, group) = topic(1).await?;
        kafka.produce(&topic, Some(0), numbered(2)).await?;
        let gated = Gated::new();
        // Long enough for this machine's pauses.
        let interval = Duration::from_millis(2000);
        let member = member_of(&kafka.brokers(), &group, &topic)
            .protocol(protocol)
            .session_timeout(interval)
            .max_poll_interval(interval)
            .stalled_after(Duration::from_millis(500))
            .handler(gated.clone())?;
        let mut running = Running::start(member);
        gated.begun.until(1).await?;
        let long = tokio::time::Instant::now() + 10 * interval;
        let stalled = running.until(|status| status.partitions.iter().any(|one| one.stall.is_some())).await?;
        assert_eq!(stalled.partitions[0].stall.as_ref().unwrap().reason, StallReason::Handler { offset: 0 });
        let epoch = stalled.partitions[0].epoch;
        tokio::time::sleep_until(long).await; // this is the time that must do no harm
        gated.gate.add_permits(2);
        gated.done.until(2).await?;
        assert_eq!(running.status.borrow().partitions[0].epoch, epoch, "{protocol:?}: one assignment all the time");
        assert_eq!(running.end().await?.done, 2);
        assert_eq!(gated.begun.offsets(0), [0, 1]);
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(each).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_partition_rests_within_its_budget_while_others_go_on() -> Result<()> {
    let (kafka, topic, group) = topic(2).await?;
    kafka.produce(&topic, Some(0), numbered(20_000)).await?;
    let gated = Gated::new();
    let budget = Amount { records: 500, bytes: 1 << 20 };
    let member = member_of(&kafka.brokers(), &group, &topic).budget(budget).handler(gated.clone())?;
    let mut running = Running::start(member);
    running.until(|status| status.partitions.iter().any(|one| one.partition == 0 && one.paused)).await?;
    kafka.produce(&topic, Some(1), numbered(1)).await?;
    until("it happens", || gated.begun.offsets(1) == [0]).await;
    let held = running.status.borrow().partitions[0].in_hand.records;
    assert!(held < 500 + 1024 + 1, "{held} are in hand");
    gated.gate.add_permits(30_000);
    gated.done.until(20_001).await?;
    assert_eq!(running.end().await?.done, 20_001);
    assert_eq!(gated.done.offsets(0), (0..20_000).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_counts_bytes_too() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, Some(0), (0..200).map(|_| ("k", vec![b'x'; 100_000]))).await?;
    let gated = Gated::new();
    let budget = Amount { records: 1_000_000, bytes: 500_000 };
    let member = member_of(&kafka.brokers(), &group, &topic).budget(budget).handler(gated.clone())?;
    let mut running = Running::start(member);
    running.until(|status| status.partitions.iter().any(|one| one.paused)).await?;
    gated.gate.add_permits(200);
    gated.done.until(200).await?;
    running.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_commits_before_the_work_so_that_nothing_is_worked_on_twice() -> Result<()> {
    for (delivery, again) in [(Delivery::AtMostOnce, 0), (Delivery::AtLeastOnce, 5)] {
        let (kafka, topic, group) = topic(1).await?;
        kafka.produce(&topic, Some(0), numbered(5)).await?;
        let gated = Gated::new();
        let member = member_of(&kafka.brokers(), &group, &topic)
            .commits(CommitPolicy::default().delivery(delivery))
            .handler(gated.clone())?;
        let running = Running::start_with(member, Duration::from_millis(100));
        gated.begun.until(1).await?;
        running.end().await?;
        let committed = kafka.committed(&group, &topic).await?[0].offset;
        assert_eq!(committed, Some(5 - again), "{delivery:?}");
    }
    Ok(())
}
