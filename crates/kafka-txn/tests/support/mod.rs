//! What these tests share: a transform that copies, and members that run in the background.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kafka_txn::kafka_group::rdkafka::ClientConfig;
use kafka_txn::{
    Attempt, GroupBuilder, Isolation, Outcome, Output, Outputs, ReadRecord, Reader, Record, Report, RunError, Shutdown,
    Start, StartAt, Status, Transform, TxnBuilder, TxnMember,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use turnstile_testkit::kafka::{self, Kafka};
use turnstile_testkit::unique;

pub const EARLIEST: Start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Earliest };

/// Topics of one test: an input, an output and one for dead letters.
pub struct Topics {
    pub kafka: Kafka,
    pub from: String,
    pub to: String,
    pub dead: String,
    pub group: String,
}

impl Topics {
    pub async fn new(partitions: i32) -> Result<Self> {
        Self::on(kafka::shared().await?, partitions).await
    }

    pub async fn on(kafka: Kafka, partitions: i32) -> Result<Self> {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let from = unique("orders");
        let (to, dead, group) = (format!("{from}-copied"), format!("{from}-dead"), unique("copiers"));
        for (topic, partitions) in [(&from, partitions), (&to, partitions), (&dead, 1)] {
            kafka.topic(topic, partitions).await?;
        }
        Ok(Self { kafka, from, to, dead, group })
    }

    pub fn group(&self) -> GroupBuilder {
        GroupBuilder::new(self.kafka.brokers(), &self.group, [&self.from], EARLIEST)
            .session_timeout(Duration::from_secs(6))
            .max_poll_interval(Duration::from_secs(20))
            .stalled_after(Duration::from_millis(500))
            .drain_timeout(Duration::from_secs(3))
            .connect_timeout(Duration::from_secs(5))
            .dead_letters(&self.dead)
    }

    pub fn txn(&self) -> TxnBuilder {
        TxnBuilder::new(self.group()).every(Duration::from_millis(20))
    }

    pub fn copy(&self) -> Copy {
        Copy { to: self.to.clone() }
    }

    pub async fn produce(&self, values: impl IntoIterator<Item = impl ToString>) -> Result<()> {
        self.kafka.produce(&self.from, None, values.into_iter().map(|value| ("k", value.to_string()))).await?;
        Ok(())
    }

    pub async fn until_committed(&self) -> Result<()> {
        let ends = self.kafka.end_offsets(&self.from).await?;
        turnstile_testkit::until("all is committed", async || {
            let committed = self.kafka.committed(&self.group, &self.from).await.unwrap_or_default();
            !committed.is_empty()
                && committed.iter().zip(&ends).all(|(one, end)| one.offset.unwrap_or_default() == *end)
        })
        .await;
        Ok(())
    }

    pub async fn read(&self, topic: &str) -> Result<Vec<ReadRecord>> {
        read(&self.kafka, topic, Isolation::Committed).await
    }

    pub async fn values(&self, topic: &str) -> Result<Vec<String>> {
        let text = |one: ReadRecord| String::from_utf8_lossy(&one.value.unwrap_or_default()).into_owned();
        Ok(self.read(topic).await?.into_iter().map(text).collect())
    }
}

pub fn connection(kafka: &Kafka) -> ClientConfig {
    let mut connection = ClientConfig::new();
    connection.set("bootstrap.servers", kafka.brokers()).set("fetch.wait.max.ms", "50");
    connection
}

pub async fn read(kafka: &Kafka, topic: &str, isolation: Isolation) -> Result<Vec<ReadRecord>> {
    let (mut connection, topic) = (connection(kafka), topic.to_owned());
    connection.set("log_level", "0");
    let read =
        move || Reader::open(connection, &topic, isolation, Duration::from_secs(30))?.collect::<Result<Vec<_>, _>>();
    Ok(tokio::task::spawn_blocking(read).await??)
}

/// Copies values. Some are asked for otherwise: `poison`, `nothing`, `topic NAME`, `large BYTES`.
pub struct Copy {
    pub to: String,
}

#[async_trait]
impl Transform for Copy {
    async fn transform(&self, record: &Record, outputs: &mut Outputs, attempt: Attempt<'_>) -> Outcome {
        let text = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("poison", _) => {
                outputs.push(Output::to(&self.to).value("never seen"));
                return Outcome::DeadLetter(anyhow!("it never works"));
            }
            ("nothing", _) => {}
            ("wait", _) => {
                attempt.cancelled().cancelled().await;
                return Outcome::retry(anyhow!("not any more"));
            }
            ("topic", name) => outputs.push(Output::to(name).value(&text)),
            ("large", bytes) => outputs.push(Output::to(&self.to).value(&"x".repeat(bytes.parse().unwrap()))),
            _ => outputs.push(Output::to(&self.to).key("k").value(&text).header("of", Some(b"copy"))),
        }
        Outcome::Done
    }
}

/// Copies values, whatever they are.
pub struct Plain(pub String);

#[async_trait]
impl Transform for Plain {
    async fn transform(&self, record: &Record, outputs: &mut Outputs, _: Attempt<'_>) -> Outcome {
        outputs.push(Output::to(&self.0).value(record.value().unwrap_or_default()));
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
    pub fn start(member: TxnMember) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(10));
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
        Ok(tokio::time::timeout(Duration::from_secs(60), self.run).await???)
    }

    /// Waits for the error that ends it.
    pub async fn error(self) -> Result<RunError> {
        match tokio::time::timeout(Duration::from_secs(60), self.run).await?? {
            Ok(report) => Err(anyhow!("it ended without an error: {report:?}")),
            Err(error) => Ok(error),
        }
    }
}
