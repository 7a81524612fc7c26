//! A worker process: copies each record to the other topic, with its place as the value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use async_trait::async_trait;
use kafka_group::{CommitPolicy, Handler};
use kafka_txn::{
    Attempt, GroupBuilder, LaneOptions, Outcome, Output, Outputs, Record, Shutdown, Start, StartAt, Status, Step,
    Transform, TxnBuilder,
};
use rdkafka::producer::{BaseProducer, BaseRecord};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Guards, Job, Order, Standing};
use crate::lab::clock;
use crate::lab::post::Post;

pub async fn work(brokers: &str, mut post: Post) -> Result<()> {
    let mut copier = None;
    post.answer(anyhow::Ok(())).await?;
    while let Some(order) = post.order().await? {
        match order {
            Order::Copy(job) => {
                let begun = Copier::start(brokers, job);
                post.answer(begun.map(|begun| copier = Some(begun))).await?;
            }
            Order::Stand => {
                let standing = match copier.take_if(|copier| copier.run.is_finished()) {
                    Some(ended) => ended.leave().await,
                    None => copier.as_ref().context("it does not copy").map(Copier::stand),
                };
                post.answer(standing).await?;
            }
            Order::Leave => {
                let left = match copier.take() {
                    Some(copier) => copier.leave().await,
                    None => Err(anyhow!("it does not copy")),
                };
                post.answer(left).await?;
            }
        }
    }
    Ok(())
}

struct Copier {
    tally: Arc<Tally>,
    status: watch::Receiver<Status>,
    shutdown: Shutdown,
    run: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Tally {
    handled: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
    /// How often it came to the step at which it dies.
    times: AtomicU32,
}

impl Copier {
    fn start(brokers: &str, job: Job) -> Result<Self> {
        let tally = Arc::new(Tally::default());
        let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
        let group = GroupBuilder::new(brokers, &job.group, [&job.from], start).session_timeout(job.session);
        let shutdown = Shutdown::new(Duration::from_secs(10));
        let copy = Copy { to: job.to.clone(), tally: tally.clone(), guards: job.guards };
        let ends = shutdown.clone();
        if job.guards == Guards::NoTransaction {
            let producer = rdkafka::ClientConfig::new().set("bootstrap.servers", brokers).create()?;
            let apart = Apart { copy, producer, dies: job.dies };
            let member = group.commits(CommitPolicy::at_the_end().every(job.every)).handler(apart)?;
            let status = member.status();
            let run = tokio::spawn(async move { Ok(member.run(ends).await.map(drop)?) });
            return Ok(Self { tally, status, shutdown, run });
        }
        let (steps, dies) = (tally.clone(), job.dies);
        let builder = TxnBuilder::new(group).every(job.every).on_step(move |step| {
            let step = match step {
                Step::Begin => 0,
                Step::Produce => 1,
                Step::SendOffsets => 2,
                Step::Commit => 3,
                _ => {
                    steps.last.store(clock::now(), SeqCst);
                    4
                }
            };
            die(dies, step, &steps.times);
        });
        let lanes = LaneOptions::default();
        let lanes = if job.guards == Guards::NoOrder { lanes.order(kafka_txn::Order::Unordered) } else { lanes };
        let member = builder.parallel(copy, lanes)?;
        let status = member.status();
        let run = tokio::spawn(async move { Ok(member.run(ends).await.map(drop)?) });
        Ok(Self { tally, status, shutdown, run })
    }

    fn stand(&self) -> Standing {
        let Tally { handled, first, last, .. } = &*self.tally;
        let status = self.status.borrow();
        let (handled, first, last) = (handled.load(SeqCst), first.load(SeqCst), last.load(SeqCst));
        let stalls = status.partitions.iter().filter_map(|one| {
            one.stall.as_ref().map(|stall| format!("{}: for {:?}, {}", one.partition, stall.since, stall.reason))
        });
        Standing { partitions: status.partitions.len(), handled, first, last, stalls: stalls.collect() }
    }

    async fn leave(self) -> Result<Standing> {
        ensure!(!self.run.is_finished(), "the copier has ended: {:?}", self.run.await);
        self.shutdown.begin();
        let Self { tally, status, shutdown, run } = self;
        run.await??;
        let run = tokio::spawn(async { Ok(()) });
        Ok(Self { tally, status, shutdown, run }.stand())
    }
}

/// As a SIGKILL would have it: nothing is said, nothing is closed.
fn die(dies: Option<(u32, u32)>, step: u32, times: &AtomicU32) {
    if dies.is_some_and(|(at, time)| at == step && times.fetch_add(1, SeqCst) + 1 == time) {
        std::process::abort();
    }
}

struct Copy {
    to: String,
    tally: Arc<Tally>,
    guards: Guards,
}

impl Copy {
    async fn work(&self, record: &Record) -> String {
        let _ = self.tally.first.compare_exchange(0, clock::now(), SeqCst, SeqCst);
        if self.guards == Guards::NoOrder && record.offset() % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.tally.handled.fetch_add(1, SeqCst);
        let at = String::from_utf8_lossy(record.value().unwrap_or_default());
        format!("{} {} {}", record.partition(), record.offset(), at.trim())
    }
}

#[async_trait]
impl Transform for Copy {
    async fn transform(&self, record: &Record, outputs: &mut Outputs, _: Attempt<'_>) -> Outcome {
        let value = self.work(record).await;
        outputs.push(Output::to(&self.to).key(record.key().unwrap_or_default()).value(&value));
        Outcome::Done
    }
}

/// Produces by itself, and lets the group commit.
struct Apart {
    copy: Copy,
    producer: BaseProducer,
    dies: Option<(u32, u32)>,
}

#[async_trait]
impl Handler<Record> for Apart {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        let value = self.copy.work(record).await;
        let output = BaseRecord::to(&self.copy.to).key(record.key().unwrap_or_default()).payload(&value);
        let sent = self.producer.send(output).map_err(|(error, _)| error);
        self.producer.poll(Duration::ZERO);
        // After some records rather than transactions: between an output and its commit.
        die(self.dies.map(|(_, time)| (0, time * 300)), 0, &self.copy.tally.times);
        sent.into()
    }
}
