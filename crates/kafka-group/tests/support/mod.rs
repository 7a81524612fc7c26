//! What these tests share: a handler that notes what it was given, and members that run in the background.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use kafka_group::{
    Attempt, Backoff, GroupBuilder, Handler, Member, Outcome, Protocol, Record, Report, RunError, Shutdown, Start,
    StartAt, Status,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use turnstile_testkit::kafka::{self, Kafka};
use turnstile_testkit::unique;

pub const EARLIEST: Start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Earliest };
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Cooperative, Protocol::Eager, Protocol::Consumer];

/// A topic of its own on the shared Kafka, and the name of a group.
pub async fn topic(partitions: i32) -> Result<(Kafka, String, String)> {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let kafka = kafka::shared().await?;
    let topic = unique("orders");
    kafka.topic(&topic, partitions).await?;
    Ok((kafka, topic, unique("group")))
}

/// `count` records with keys and values that say which they are.
pub fn numbered(count: usize) -> impl Iterator<Item = (String, String)> {
    (0..count).map(|number| (format!("k{number}"), number.to_string()))
}

/// A member with short times.
pub fn member_of(brokers: &str, group: &str, topic: &str) -> GroupBuilder {
    GroupBuilder::new(brokers, group, [topic], EARLIEST)
        .session_timeout(Duration::from_secs(6))
        .max_poll_interval(Duration::from_secs(20))
        .drain_timeout(Duration::from_secs(5))
}

pub fn quickly() -> Backoff {
    Backoff::new(Duration::from_millis(1), Duration::from_millis(5))
}

/// What was handled: partition, offset, attempt.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<(i32, i64, u32)>>>);

impl Log {
    pub fn note(&self, record: &Record, attempt: Attempt<'_>) {
        self.0.lock().unwrap().push((record.partition(), record.offset(), attempt.number().get()));
    }

    pub fn all(&self) -> Vec<(i32, i64, u32)> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The offsets that were handled of a partition, in that order.
    pub fn offsets(&self, partition: i32) -> Vec<i64> {
        self.all().into_iter().filter(|(of, ..)| *of == partition).map(|(_, offset, _)| offset).collect()
    }

    pub async fn until(&self, count: usize) -> Result<()> {
        until("records are handled", || self.count() >= count).await;
        Ok(())
    }
}

#[async_trait]
impl Handler<Record> for Log {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self.note(record, attempt);
        Outcome::Done
    }
}

/// A member at work.
pub struct Running {
    pub status: watch::Receiver<Status>,
    pub shutdown: Shutdown,
    run: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    pub fn start(member: Member) -> Self {
        Self::start_with(member, Duration::from_secs(10))
    }

    pub fn start_with(member: Member, limit: Duration) -> Self {
        let shutdown = Shutdown::new(limit);
        Self { status: member.status(), run: tokio::spawn(member.run(shutdown.clone())), shutdown }
    }

    /// Waits until the status is so.
    pub async fn until(&mut self, is: impl FnMut(&Status) -> bool) -> Result<Status> {
        Ok(tokio::time::timeout(Duration::from_secs(60), self.status.wait_for(is)).await??.clone())
    }

    pub async fn has(&mut self, partitions: usize) -> Result<Status> {
        self.until(|status| status.partitions.len() == partitions).await
    }

    /// Ends it in an orderly way.
    pub async fn end(self) -> Result<Report> {
        self.shutdown.begin();
        Ok(self.run.await??)
    }

    /// Waits for its end, whatever brings it.
    pub async fn ended(self) -> Result<Result<Report, RunError>> {
        Ok(tokio::time::timeout(Duration::from_secs(60), self.run).await??)
    }
}

/// Waits for something that becomes true.
pub async fn until(what: &str, is: impl Fn() -> bool) {
    turnstile_testkit::until(what, async || is()).await;
}
