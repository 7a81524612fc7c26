//! Two members share a topic; one is closed. How long until the other has all partitions?

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_trait::async_trait;
use kafka_group::rdkafka::ClientConfig;
use kafka_group::rdkafka::client::ClientContext;
use kafka_group::rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use kafka_group::{Attempt, GroupBuilder, Handler, Member, Outcome, Protocol, Record, Shutdown, Start, StartAt};
use turnstile_testkit::kafka::{Kafka, Server};
use turnstile_testkit::unique;

const PARTITIONS: usize = 8;
/// Short, since who stays learns of it by its next heartbeat. kafka-group's is a tenth of the session's.
const SESSION: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(60);
/// How long both members have had their share before one leaves. Right after an assignment a member of KIP-848 says at
/// once that it has it, and may learn with that answer what it else learns with its next regular heartbeat.
const SETTLED: Duration = Duration::from_secs(1);
/// By so much longer in each round, up to the brokers' heartbeat interval: who leaves does so at any time of it.
const STEP: Duration = Duration::from_millis(20);
const STEPS: u32 = 15;

/// A broker and a topic.
pub struct Shared {
    server: Server,
    topic: String,
    /// How many rounds there were of ours, and of the raw client.
    rounds: [AtomicU32; 2],
}

impl Shared {
    /// Starts the broker and makes the topic.
    ///
    /// # Errors
    /// When no broker can be had.
    pub async fn start() -> Result<Self> {
        let server = Kafka::builder().for_measuring().start().await?;
        let topic = unique("shared");
        server.topic(&topic, PARTITIONS as i32).await?;
        Ok(Self { server, topic, rounds: Default::default() })
    }

    /// From the call that ends one of two members of kafka-group to the other's having all partitions, in ms.
    ///
    /// # Errors
    /// When the members do not get so far.
    pub async fn ours(&self, protocol: Protocol) -> Result<f64> {
        let group = unique("ours");
        let member = || -> Result<Member> {
            let start = Start { without_commit: StartAt::Latest, out_of_range: StartAt::Refuse };
            let member = GroupBuilder::new(self.server.brokers(), &group, [&self.topic], start);
            Ok(member.protocol(protocol).session_timeout(SESSION).handler(Nothing)?)
        };
        let (leaving, staying) = (member()?, member()?);
        let (mut leavers, mut stayers) = (leaving.status(), staying.status());
        let ends = [Shutdown::new(LIMIT), Shutdown::new(LIMIT)];
        let runs = [tokio::spawn(leaving.run(ends[0].clone())), tokio::spawn(staying.run(ends[1].clone()))];
        let has = |count| move |status: &kafka_group::Status| status.partitions.len() == count;
        let took = async {
            leavers.wait_for(has(PARTITIONS / 2)).await?;
            stayers.wait_for(has(PARTITIONS / 2)).await?;
            tokio::time::sleep(self.settled(0)).await;
            let begun = Instant::now();
            ends[0].begin();
            stayers.wait_for(has(PARTITIONS)).await?;
            anyhow::Ok(begun.elapsed())
        };
        let took = tokio::time::timeout(LIMIT, took).await.context("no take-over by ours")??;
        ends[1].begin();
        for run in runs {
            run.await??;
        }
        Ok(took.as_secs_f64() * 1e3)
    }

    /// How long to wait in this side's next round. The same rounds of both wait for the same time.
    fn settled(&self, side: usize) -> Duration {
        SETTLED + STEP * (self.rounds[side].fetch_add(1, Ordering::Relaxed) % STEPS)
    }

    /// The same with bare clients: the one commits and closes, both poll on threads of their own.
    ///
    /// # Errors
    /// When the members do not get so far.
    pub async fn raw(&self, protocol: Protocol) -> Result<f64> {
        let (brokers, topic) = (self.server.brokers(), self.topic.clone());
        let settled = self.settled(1);
        tokio::task::spawn_blocking(move || {
            let group = unique("raw");
            let leaving = RawMember::start(&brokers, &group, &topic, protocol)?;
            let staying = RawMember::start(&brokers, &group, &topic, protocol)?;
            // Each may have all for a moment, before the other comes.
            leaving.has(PARTITIONS / 2)?;
            staying.has(PARTITIONS / 2)?;
            std::thread::sleep(settled);
            let begun = Instant::now();
            drop(leaving.end);
            staying.has(PARTITIONS)?;
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        })
        .await?
    }
}

/// Is given nothing.
struct Nothing;

#[async_trait]
impl Handler<Record> for Nothing {
    async fn handle(&self, _: &Record, _: Attempt<'_>) -> Outcome {
        Outcome::Done
    }
}

/// A client that polls until `end` is dropped, and tells how many partitions it has.
struct RawMember {
    counts: Receiver<usize>,
    end: Sender<()>,
}

struct Counting(Sender<usize>);

impl ClientContext for Counting {}

impl ConsumerContext for Counting {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        // Nobody listens any more at the end.
        let _ = self.0.send(consumer.assignment().map_or(0, |all| all.count()));
    }
}

impl RawMember {
    fn start(brokers: &str, group: &str, topic: &str, protocol: Protocol) -> Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", group).set("enable.auto.commit", "false");
        match protocol {
            Protocol::Consumer => config.set("group.protocol", "consumer"),
            classic => config
                .set("session.timeout.ms", SESSION.as_millis().to_string())
                .set("heartbeat.interval.ms", (SESSION / 10).as_millis().to_string())
                .set(
                    "partition.assignment.strategy",
                    if classic == Protocol::Eager { "range" } else { "cooperative-sticky" },
                ),
        };
        let (count, counts) = channel();
        let (end, ended) = channel();
        let consumer: BaseConsumer<Counting> = config.create_with_context(Counting(count))?;
        consumer.subscribe(&[topic])?;
        std::thread::spawn(move || {
            while let Err(std::sync::mpsc::TryRecvError::Empty) = ended.try_recv() {
                // An error is trouble that passes, or the round does not get to its end.
                let _ = consumer.poll(Duration::from_millis(1));
            }
            drop(consumer);
        });
        Ok(Self { counts, end })
    }

    fn has(&self, count: usize) -> Result<()> {
        let until = Instant::now() + LIMIT;
        while self
            .counts
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .context("no take-over by raw")?
            != count
        {}
        Ok(())
    }
}
