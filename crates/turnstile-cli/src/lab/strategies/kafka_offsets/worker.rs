//! A worker process: it reads a partition by itself, and keeps account of it with kafka-offsets.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_offsets::{Commit, Completed, Completions, Epoch, Fetched, Ignored, OffsetTracker, metadata};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::orders::{Did, Fault, Order};
use crate::lab::crew::WorkerArgs;
use crate::lab::kafka::{PATIENCE, client};
use crate::lab::post::Post;

/// Works until the lab has gone.
pub async fn work(args: WorkerArgs, mut post: Post) -> Result<()> {
    post.answer(anyhow::Ok(())).await?;
    while let Some(order) = post.order().await? {
        let brokers = args.url.clone();
        let did = tokio::task::spawn_blocking(move || match order {
            Order::Begin { topic, group, open, commit_at, limit } => {
                Partition::of(&brokers, &group, &topic)?.begin(open, commit_at, limit)
            }
            Order::Resume { topic, group, fault } => Partition::of(&brokers, &group, &topic)?.resume(fault),
        });
        post.answer(did.await?).await?;
    }
    Ok(())
}

/// The one partition of a topic.
struct Partition {
    consumer: BaseConsumer,
    topic: String,
    end: i64,
}

impl Partition {
    fn of(brokers: &str, group: &str, topic: &str) -> Result<Self> {
        let mut config = client(brokers);
        config.set("group.id", group).set("enable.auto.commit", "false").set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create()?;
        let end = consumer.fetch_watermarks(topic, 0, PATIENCE)?.1;
        Ok(Self { consumer, topic: topic.to_owned(), end })
    }

    fn begin(&self, open: i64, commit_at: i64, limit: usize) -> Result<Did> {
        let mut tracker = OffsetTracker::new(Epoch::FIRST, 0);
        let fetched = self.fetch(&mut tracker)?;
        let is_done = |offset: &i64| offset % open != 0;
        let (before, after): (Vec<i64>, Vec<i64>) = fetched.into_iter().partition(|offset| *offset < commit_at);
        let told: Vec<i64> = before.into_iter().filter(is_done).collect();
        complete(&mut tracker, &told)?;
        let commit = Commit::of(&tracker, limit);
        self.commit(commit.offset, &commit.metadata.text)?;
        let untold: Vec<i64> = after.into_iter().filter(is_done).collect();
        complete(&mut tracker, &untold)?;
        Ok(Did { told, untold, metadata: commit.metadata.text.len(), ignored: None })
    }

    fn resume(&self, fault: Option<Fault>) -> Result<Did> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, 0);
        let list = self.consumer.committed_offsets(list, PATIENCE)?;
        let one = list.find_partition(&self.topic, 0).context("no partition")?;
        let Offset::Offset(committed) = one.offset() else { anyhow::bail!("nothing is committed") };
        let text = one.metadata();

        let mut ignored = None;
        let earlier = metadata::decode(committed, text).or_else(|why| match (why, fault) {
            (Ignored::OtherOffset { made_for, .. }, Some(Fault::AnyOffset)) => metadata::decode(made_for, text),
            (why, _) => {
                ignored = Some(why.to_string());
                Ok(Completions::none(committed))
            }
        });
        let mut earlier = earlier?;
        earlier.truncate(self.end);
        match fault {
            Some(Fault::Blind) => earlier = Completions::none(committed),
            Some(Fault::TailIsDone) => {
                let runs = earlier.runs().iter().cloned().chain(std::iter::once(earlier.end()..self.end));
                earlier = Completions::new(committed, runs);
            }
            _ => {}
        }
        let mut tracker = OffsetTracker::resume(Epoch::FIRST, committed, &earlier);
        let untold = self.fetch(&mut tracker)?;
        complete(&mut tracker, &untold)?;
        self.commit(tracker.commit_point(), "")?;
        Ok(Did { told: Vec::new(), untold, metadata: text.len(), ignored })
    }

    /// Fetches from the commit point to the end; the answer is what is to be worked on.
    fn fetch(&self, tracker: &mut OffsetTracker) -> Result<Vec<i64>> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(tracker.commit_point()))?;
        self.consumer.assign(&list)?;
        let (mut new, mut next) = (Vec::new(), tracker.commit_point());
        let until = Instant::now() + PATIENCE;
        while next < self.end {
            ensure!(Instant::now() < until, "the topic was not read within {PATIENCE:?}");
            let Some(message) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let offset = message?.offset();
            next = offset + 1;
            if tracker.fetched(offset) == Fetched::New {
                new.push(offset);
            }
        }
        Ok(new)
    }

    fn commit(&self, offset: i64, text: &str) -> Result<()> {
        commit(&self.consumer, &self.topic, offset, text)
    }
}

/// Commits, and waits for the answer.
pub fn commit(consumer: &BaseConsumer, topic: &str, offset: i64, text: &str) -> Result<()> {
    let mut list = TopicPartitionList::new();
    let mut one = list.add_partition(topic, 0);
    one.set_offset(Offset::Offset(offset))?;
    one.set_metadata(text);
    Ok(consumer.commit(&list, CommitMode::Sync)?)
}

fn complete(tracker: &mut OffsetTracker, offsets: &[i64]) -> Result<()> {
    for offset in offsets {
        ensure!(tracker.complete(*offset, Epoch::FIRST) == Completed::Done, "{offset} could not be marked as done");
    }
    Ok(())
}
