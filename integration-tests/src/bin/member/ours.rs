//! A member by kafka-group.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_trait::async_trait;
use kafka_group::{
    Amount, AtLimit, Attempt, Backoff, CommitPolicy, GroupBuilder, Handler, Outcome, Protocol, Record, RetryPolicy,
    Shutdown, Start, StartAt, Status,
};
use kafka_mt_consumer::{Order, ParallelBuilder};
use tokio::io::{AsyncBufReadExt, BufReader};
use turnstile_integration_tests::kafka::{self, Kind, Parallel, Role};
use turnstile_testkit::history::{How, Place, Recorder, What};

use crate::Task;

struct Work {
    role: Role,
    recorder: Recorder,
}

#[async_trait]
impl Handler<Record> for Work {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self.work(record, attempt).await.unwrap_or_else(|error| Outcome::Stop(error.context("the history")))
    }
}

impl Work {
    async fn work(&self, record: &Record, attempt: Attempt<'_>) -> Result<Outcome> {
        let place = Place::new(record.topic().clone(), record.partition(), record.offset());
        let key = record.key().map(String::from_utf8_lossy);
        let working = self.recorder.start(place, key.as_deref(), record.epoch().get(), attempt.number().get())?;
        let time = match Task::of(record.value(), &self.role) {
            Task::Takes(time) => time,
            Task::Poison => {
                working.end(How::Failed)?;
                return Ok(Outcome::retry(anyhow!("it never works")));
            }
        };
        if !self.role.heeds {
            // A handler that blocks its thread hears nothing.
            tokio::task::block_in_place(|| std::thread::sleep(time));
        } else if attempt.cancelled().run_until_cancelled(tokio::time::sleep(time)).await.is_none() {
            working.end(How::Abandoned)?;
            return Ok(Outcome::retry(anyhow!("it is no longer ours")));
        }
        working.end(How::Done)?;
        Ok(Outcome::Done)
    }
}

#[tokio::main]
pub async fn run(role: Role, recorder: Recorder) -> Result<()> {
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    let (metadata, budget) = match role.kind {
        Kind::Parallel(parallel) => (parallel.metadata, parallel.budget),
        _ => (4096, 10_000),
    };
    let commits = role.commits.map_or(CommitPolicy::at_the_end(), |time| CommitPolicy::at_the_end().every(time));
    let mut group = GroupBuilder::new(&role.brokers, &role.group, [&role.topic], start)
        .protocol(match role.protocol {
            kafka::Protocol::Cooperative => Protocol::Cooperative,
            kafka::Protocol::Eager => Protocol::Eager,
            kafka::Protocol::Consumer => Protocol::Consumer,
        })
        .session_timeout(role.session)
        .max_poll_interval(role.max_poll)
        .stalled_after(Duration::from_secs(1))
        .budget(Amount { records: budget, bytes: 64 << 20 })
        .commits(commits.metadata_limit(metadata));
    for (key, value) in &role.options {
        group = group.option(key, value);
    }
    let at_limit = if role.dead_letters.is_some() { AtLimit::DeadLetter } else { AtLimit::Halt };
    let attempts = NonZeroU32::new(role.attempts).context("no attempts")?;
    let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(50));
    group = group.retries(RetryPolicy::new(attempts, at_limit).backoff(backoff));
    if let Some(topic) = &role.dead_letters {
        group = group.dead_letters(topic);
    }
    let (kind, work) = (role.kind, Work { role, recorder: recorder.clone() });
    let member = match kind {
        Kind::Parallel(Parallel { concurrency, by_key, .. }) => ParallelBuilder::new(group)
            .order(if by_key { Order::default() } else { Order::Unordered })
            .concurrency(concurrency.try_into()?)
            .handler(work)?,
        _ => group.handler(work)?,
    };

    let mut status = member.status();
    tokio::spawn(async move {
        let (mut had, mut said) = (HashSet::new(), Vec::new());
        while status.changed().await.is_ok() {
            let now = status.borrow_and_update().clone();
            tell(&recorder, &now, &mut had, &mut said)?;
        }
        anyhow::Ok(())
    });
    let shutdown = Shutdown::new(Duration::from_secs(10));
    let asked = shutdown.clone();
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line == "end" {
                asked.begin();
            }
        }
    });
    let report = member.run(shutdown).await?;
    println!("ended {report:?}");
    // Reading standard input would hold the runtime's end.
    std::process::exit(0)
}

/// Writes down and says what is new.
fn tell(
    recorder: &Recorder,
    now: &Status,
    had: &mut HashSet<(String, i32, u64)>,
    said: &mut Vec<String>,
) -> Result<()> {
    let key = |one: &kafka_group::PartitionStatus| (one.topic.to_string(), one.partition, one.epoch.get());
    let has: HashSet<_> = now.partitions.iter().map(key).collect();
    for (topic, partition, epoch) in had.difference(&has).cloned() {
        recorder.record(&What::GivenUp { topic: topic.into(), partition, epoch })?;
    }
    for (topic, partition, epoch) in has.difference(had).cloned() {
        recorder.record(&What::Assigned { topic: topic.into(), partition, epoch })?;
    }
    *had = has;
    let stalls = now
        .partitions
        .iter()
        .filter_map(|one| Some(format!("stalled {}: {}", one.partition, one.stall.as_ref()?.reason)));
    let mut lines: Vec<_> = stalls.collect();
    lines.push(format!("{:?} {}", now.membership, now.partitions.len()));
    for line in &lines {
        if !said.contains(line) {
            println!("{line}");
        }
    }
    *said = lines;
    Ok(())
}
