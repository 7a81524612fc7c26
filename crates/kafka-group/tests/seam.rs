//! The seam for other schedulers: work in any order, with what the polling thread does for them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use kafka_group::{Amount, Control, Handler, Member, Record, Records, Scheduler, Slot, Worker};
use support::{Log, Running, member_of, numbered, topic, until};
use turnstile_testkit::kafka::Kafka;

/// Works on odd offsets at once, and never on even ones; keeps what it was given.
struct OddOnly<H> {
    worker: Arc<Worker<H>>,
    seen: Seen,
}

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    control: Option<Control>,
    slots: Vec<Arc<Slot>>,
    even: Vec<Record>,
    closed: usize,
}

impl Seen {
    fn control(&self) -> Control {
        self.0.lock().unwrap().control.clone().unwrap()
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.0.lock().unwrap().slots.clone()
    }

    fn even(&self) -> usize {
        self.0.lock().unwrap().even.len()
    }
}

impl<H: Handler<Record>> Scheduler for OddOnly<H> {
    fn started(&mut self, control: &Control) {
        self.seen.0.lock().unwrap().control = Some(control.clone());
    }

    fn assigned(&mut self, slot: &Arc<Slot>) {
        self.seen.0.lock().unwrap().slots.push(slot.clone());
    }

    fn submit(&mut self, slot: &Arc<Slot>, records: Records) {
        let (odd, even): (Vec<_>, Vec<_>) = records.partition(|record| record.offset() % 2 == 1);
        self.seen.0.lock().unwrap().even.extend(even);
        let (worker, slot) = (self.worker.clone(), slot.clone());
        self.seen.control().runtime().spawn(async move {
            let Some(_running) = slot.begin() else { return };
            for record in odd {
                let _ = worker.work(&slot, &record).await;
            }
        });
    }

    fn closed(&mut self, _: &Arc<Slot>) {
        self.seen.0.lock().unwrap().closed += 1;
    }
}

fn odd_only(kafka: &Kafka, group: &str, topic: &str, log: &Log, budget: u64) -> Result<(Member, Seen)> {
    let seen = Seen::default();
    let scheduler = |worker| OddOnly { worker: Arc::new(worker), seen: seen.clone() };
    let member = member_of(&kafka.brokers(), group, topic)
        .budget(Amount { records: budget, bytes: 1 << 30 })
        .scheduled(log.clone(), scheduler)?;
    Ok((member, seen))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_beyond_the_commit_point_is_not_worked_on_again_by_the_next_member() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, Some(0), numbered(100)).await?;
    let log = Log::default();
    let (member, _) = odd_only(&kafka, &group, &topic, &log, 1000)?;
    let running = Running::start(member);
    log.until(50).await?;
    let report = running.end().await?;
    assert_eq!((report.done, report.handed_back), (50, 50));
    let committed = kafka.committed(&group, &topic).await?;
    assert_eq!(committed[0].offset, Some(0));
    assert!(!committed[0].metadata.is_empty());

    let rest = Log::default();
    let running = Running::start(member_of(&kafka.brokers(), &group, &topic).handler(rest.clone())?);
    rest.until(50).await?;
    assert_eq!(running.end().await?.done, 50);
    assert_eq!(rest.offsets(0), (0..100).step_by(2).collect::<Vec<_>>());
    assert_eq!(kafka.committed(&group, &topic).await?[0].offset, Some(100));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_rests_and_goes_on_as_the_scheduler_says() -> Result<()> {
    let (kafka, topic, group) = topic(2).await?;
    let log = Log::default();
    let (member, seen) = odd_only(&kafka, &group, &topic, &log, 1000)?;
    let mut running = Running::start(member);
    running.has(2).await?;
    let slot = seen.slots().into_iter().find(|slot| slot.partition() == 0).unwrap();
    seen.control().pause(&slot);
    running.until(|status| status.partitions[0].paused).await?;
    kafka.produce(&topic, Some(0), numbered(10)).await?;
    kafka.produce(&topic, Some(1), numbered(10)).await?;
    log.until(5).await?; // the other partition's, which came later
    assert!(log.offsets(0).is_empty());
    seen.control().resume(&slot);
    log.until(10).await?;
    running.end().await?;
    Ok(())
}

/// librdkafka keeps a pause when it lets a partition go.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_rested_when_it_was_taken_goes_on_when_it_comes_back() -> Result<()> {
    let (kafka, topic, group) = topic(2).await?;
    let log = Log::default();
    let (member, seen) = odd_only(&kafka, &group, &topic, &log, 1000)?;
    let mut first = Running::start(member);
    first.has(2).await?;
    for slot in seen.slots() {
        seen.control().pause(&slot);
    }
    first.until(|status| status.partitions.iter().all(|one| one.paused)).await?;
    let mut second = Running::start(member_of(&kafka.brokers(), &group, &topic).handler(Log::default())?);
    second.has(1).await?;
    second.end().await?;
    first.until(|status| status.partitions.iter().filter(|one| !one.paused).count() == 1).await?;
    kafka.produce(&topic, Some(0), numbered(10)).await?;
    kafka.produce(&topic, Some(1), numbered(10)).await?;
    log.until(5).await?; // those of the one that came back
    first.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rewinding_fetches_again_what_is_not_done_under_a_new_epoch_and_late_completions_are_void() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, Some(0), numbered(10)).await?;
    let log = Log::default();
    let (member, seen) = odd_only(&kafka, &group, &topic, &log, 1000)?;
    let running = Running::start(member);
    log.until(5).await?;
    let old = seen.slots()[0].clone();
    seen.control().rewind(&old);
    until("a new slot", || seen.slots().len() == 2).await;
    let new = seen.slots()[1].clone();
    assert!(new.epoch() > old.epoch() && !old.is_active() && old.commit_point().is_none());
    log.until(10).await?; // all of it once more, since nothing before the lowest that is not done was done
    let first = seen.0.lock().unwrap().even[0].clone();
    assert_eq!(old.done(&first), kafka_offsets::Completed::Stale);
    assert_eq!(new.commit_point(), Some(0), "what was done under the old epoch moves nothing");
    running.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_polling_thread_gives_the_groups_metadata_and_commits_when_asked() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    kafka.produce(&topic, Some(0), [("k", "v")]).await?;
    let log = Log::default();
    let seen = Seen::default();
    let scheduler = |worker| OddOnly { worker: Arc::new(worker), seen: seen.clone() };
    let member = member_of(&kafka.brokers(), &group, &topic)
        .commits(kafka_group::CommitPolicy::at_the_end())
        .scheduled(log.clone(), scheduler)?;
    let mut running = Running::start(member);
    running.has(1).await?;
    until("the first record", || seen.even() == 1).await;
    assert!(seen.control().group_metadata().await.is_some());
    let slot = seen.slots()[0].clone();
    let record = seen.0.lock().unwrap().even.remove(0);
    let _ = slot.done(&record);
    seen.control().commit();
    running.until(|status| status.partitions[0].committed == Some(1)).await?;
    let control = seen.control();
    running.end().await?;
    let after = tokio::time::timeout(Duration::from_secs(5), control.group_metadata()).await?;
    assert!(after.is_none(), "nobody is there to answer");
    assert_eq!(seen.0.lock().unwrap().closed, 1);
    Ok(())
}
