//! A worker process: a writer, or somebody who moves a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use kafka_partitions::{Change, Cluster, Partitioner, Step, Writer, WriterOptions};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::orders::{Order, Standing};
use crate::lab::crew::WorkerArgs;
use crate::lab::kafka::{PATIENCE, client};
use crate::lab::post::Post;

/// Between two rounds.
const REST: Duration = Duration::from_millis(20);

#[derive(Default)]
struct State {
    ends: AtomicBool,
    rounds: AtomicU64,
    epoch: AtomicU64,
    closed: Notify,
}

/// Works until the lab has gone.
pub async fn work(args: WorkerArgs, mut post: Post) -> Result<()> {
    post.answer(anyhow::Ok(())).await?;
    let state = Arc::new(State::default());
    let mut writes: Option<JoinHandle<Result<()>>> = None;
    let standing = |state: &State| Standing {
        rounds: state.rounds.load(Ordering::SeqCst),
        epoch: state.epoch.load(Ordering::SeqCst),
    };
    while let Some(order) = post.order().await? {
        match order {
            Order::Write { topic, name, keys, stranger } => {
                let begun = begin(&args.url, topic, &name, keys, stranger, state.clone()).await;
                post.answer(begun.map(|task| writes = Some(task))).await?;
            }
            Order::Stand => post.answer(anyhow::Ok(standing(&state))).await?,
            Order::End => {
                state.ends.store(true, Ordering::SeqCst);
                let ended = match writes.take() {
                    Some(task) => task.await?,
                    None => Ok(()),
                };
                post.answer(ended.map(|()| standing(&state))).await?;
            }
            Order::Move { topic, into, partitions } => {
                let (cluster, state) = (Cluster::new(&args.url), state.clone());
                let plan = cluster.plan(Change::into_topic(topic, into, partitions)).await;
                let begun = plan.map(|plan| {
                    let on_step = move |step| {
                        if step == Step::Closed {
                            state.closed.notify_one();
                            // To be killed here.
                            std::thread::sleep(PATIENCE * 10);
                        }
                    };
                    tokio::spawn(async move { cluster.carry_out(plan, on_step).await });
                });
                post.answer(begun).await?;
            }
            Order::Still => {
                state.closed.notified().await;
                post.answer(anyhow::Ok(())).await?;
            }
        }
    }
    Ok(())
}

async fn begin(
    brokers: &str,
    topic: String,
    name: &str,
    keys: u32,
    stranger: bool,
    state: Arc<State>,
) -> Result<JoinHandle<Result<()>>> {
    let keys: Vec<_> = (0..keys).map(|key| format!("{name}-{key}")).collect();
    let cluster = Cluster::new(brokers);
    if stranger {
        let partitions = cluster.topic(&topic).await?.count();
        let producer: BaseProducer = client(brokers).set("transactional.id", format!("{topic}-{name}")).create()?;
        return Ok(tokio::task::spawn_blocking(move || {
            producer.init_transactions(PATIENCE)?;
            while !state.ends.load(Ordering::SeqCst) {
                let round = state.rounds.load(Ordering::SeqCst).to_string();
                producer.begin_transaction()?;
                for key in &keys {
                    let partition = Partitioner::default().partition(Some(key.as_bytes()), partitions);
                    let record = BaseRecord::to(&topic).partition(partition.context("no partition")?);
                    producer.send(record.key(key).payload(&round)).map_err(|(error, _)| error)?;
                }
                producer.flush(PATIENCE)?;
                producer.commit_transaction(PATIENCE)?;
                state.rounds.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(REST);
            }
            Ok(())
        }));
    }
    let writer = WriterOptions::new(&cluster, topic, name).change_timeout(PATIENCE).connect().await?;
    Ok(tokio::spawn(async move {
        while !state.ends.load(Ordering::SeqCst) {
            let epoch = round(&writer, &keys, state.rounds.load(Ordering::SeqCst)).await?;
            state.epoch.store(epoch, Ordering::SeqCst);
            state.rounds.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(REST).await;
        }
        Ok(writer.close().await?)
    }))
}

/// A record of this value for each key; the answer is the layout.
pub async fn round(writer: &Writer, keys: &[String], value: u64) -> Result<u64> {
    let value = value.to_string();
    let sent = keys.iter().map(|key| writer.send(Some(key.as_bytes()), Some(value.as_bytes())));
    Ok(try_join_all(sent).await?.first().map_or(0, |written| written.epoch))
}
