//! kafka-partitions in the lab: a topic grows and moves while processes write to it, of which one is stopped; whoever moves it is
//! killed half way.

mod orders;
mod pictures;
mod readers;
mod soak;
mod worker;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use kafka_partitions::{Change, Cluster, Partitioner, Step, WriterOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::time::sleep;

use self::orders::{Order, Standing};
use self::readers::Readers;
use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::clock;
use crate::lab::crew::{Worker, WorkerArgs};
use crate::lab::figures::Figure;
use crate::lab::findings::{About, Check, Findings};
use crate::lab::kafka::{PATIENCE, Scene, Trial, client};
use crate::lab::metrics::{Metrics, Routes};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::tally::Tally;
use crate::lab::words::{count, millis};

const KEYS: u32 = 12;
/// How many rounds are written before anything happens.
const ROUNDS: u64 = 20;
/// How long readers have to come to what they are to leave alone for now.
const MOMENT: Duration = Duration::from_secs(2);

/// The strategy.
pub struct KafkaPartitions;

#[async_trait]
impl Strategy for KafkaPartitions {
    fn name(&self) -> &'static str {
        "kafka-partitions"
    }

    fn about(&self) -> About {
        About {
            complexity: "a Kafka; writers and readers that go by the topic's layout",
            guarantees: "each key stays in order when a topic grows or moves; a stopped writer is fenced",
            limits: "writers write in transactions, and wait while a change switches",
            guards: &[Break::Barrier, Break::FenceWriters, Break::Follow],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        let mut routes = Routes { route_ns: route_ns(), ..Routes::default() };
        let mut figures = vec![writes(&trial, &mut routes).await?];
        let [order, fence] = grows(&trial, &mut routes, &mut figures).await?;
        let checks = vec![order, fence, moves(&trial).await?];
        Ok(Findings::of(self, Metrics::Routes(routes), checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        soak::run(round).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        worker::work(args, post).await
    }
}

/// What it takes to find the partition of a key of 36 bytes.
fn route_ns() -> f64 {
    const TIMES: u32 = 1_000_000;
    let key = [b'k'; 36];
    let begun = Instant::now();
    for _ in 0..TIMES {
        black_box(Partitioner::Murmur2Random.partition(Some(black_box(&key)), black_box(8)));
    }
    begun.elapsed().as_nanos() as f64 / f64::from(TIMES)
}

async fn writes(trial: &Trial<'_>, routes: &mut Routes) -> Result<Figure> {
    trial.phase("one writer, as fast as it can");
    let scene = trial.scene("speed", 8).await?;
    let writer = WriterOptions::new(&Cluster::new(&scene.brokers), &scene.topic, "speed").connect().await?;
    let keys: Vec<_> = (0..2_000).map(|key| format!("key-{key}")).collect();
    let (begun, mut records, mut tally) = (Instant::now(), 0, Tally::default());
    while begun.elapsed() < trial.lab.time {
        worker::round(&writer, &keys, records).await?;
        records += keys.len() as u64;
        tally.many(clock::now(), keys.len() as u64);
    }
    routes.written = records;
    routes.written_per_second = records as f64 / begun.elapsed().as_secs_f64();
    writer.close().await?;
    Ok(Figure::rate("One writer, as fast as it can", "records written a second", tally, Vec::new()))
}

async fn write(scene: &Scene, number: u32, stranger: bool) -> Result<Worker> {
    let mut writer = scene.worker(number).await?;
    let (topic, name) = (scene.topic.clone(), format!("writer-{number}"));
    writer.ask::<()>(&Order::Write { topic, name, keys: KEYS, stranger }).await?;
    Ok(writer)
}

/// Waits until a writer stands so.
async fn until(writer: &mut Worker, right: impl Fn(&Standing) -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !right(&writer.ask::<Standing>(&Order::Stand).await?) {
        ensure!(Instant::now() < until, "a writer has not come on within {PATIENCE:?}");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// From 2 to 5 partitions, with a writer that is stopped meanwhile.
async fn grows(trial: &Trial<'_>, routes: &mut Routes, figures: &mut Vec<Figure>) -> Result<[Check; 2]> {
    trial.phase("a topic grows from 2 to 5 partitions; one writer is stopped meanwhile");
    let scene = trial.scene("grows", 2).await?;
    let cluster = Cluster::new(&scene.brokers);
    let mut goes_on = write(&scene, 0, false).await?;
    let mut stopped = write(&scene, 1, trial.breaks(Break::FenceWriters)).await?;
    // A bare increase changes no route, and readers have the new partitions in hand before anything comes.
    trial.server.grow_topic(&scene.topic, 5).await?;
    let readers = Readers::start(&scene, 2, true, !trial.breaks(Break::Barrier));
    for writer in [&mut goes_on, &mut stopped] {
        until(writer, |standing| standing.rounds >= ROUNDS).await?;
    }
    let old = 0..scene.partitions;
    ensure!(readers.come_to(old, PATIENCE).await, "the old partitions are not read within {PATIENCE:?}");
    stopped.child().stop()?;
    let (begun, (step, steps)) = (clock::now(), std::sync::mpsc::channel());
    let plan = cluster.plan(Change::grow(&scene.topic, 5)).await?;
    let layout = cluster.carry_out(plan, move |one| _ = step.send((one, clock::now()))).await?;
    let steps: Vec<_> = steps.try_iter().collect();
    let at = |wanted| steps.iter().find(|(step, _)| *step == wanted).map(|(_, at)| *at).context("a step is missing");
    routes.change_ms = (clock::now() - begun) as f64 / 1e6;
    routes.closed_ms = (at(Step::Switched)? - at(Step::Closed)?) as f64 / 1e6;
    figures.push(pictures::steps("A topic grows from 2 to 5 partitions", begun, &steps));
    stopped.child().cont()?;
    until(&mut goes_on, |standing| standing.epoch == layout.epoch).await?;
    let rounds = stopped.ask::<Standing>(&Order::Stand).await?.rounds;
    until(&mut stopped, |standing| standing.rounds >= rounds + ROUNDS).await?;
    // Who does not mind the barrier reads the new partitions while there is much to do in the old ones.
    readers.come_to(scene.partitions..layout.partitions, MOMENT).await;
    readers.hurry();
    let mut written = 0;
    for writer in [&mut goes_on, &mut stopped] {
        written += writer.ask::<Standing>(&Order::End).await?.rounds * u64::from(KEYS);
    }
    let read = readers.end(written).await?;
    let (misplaced, looked_at) = misplaced(&scene, &cluster).await?;
    Ok([
        Check::new(
            "each key stays in order when a topic grows, and nothing is lost",
            read.overtaken == 0 && read.records == written,
            format!(
                "{} records of {} keys: {} keys overtaken, {} read again, {} missing; writers waited {}",
                count(written),
                2 * KEYS,
                read.overtaken,
                count(read.again),
                count(written.saturating_sub(read.records)),
                millis(Duration::from_secs_f64(routes.closed_ms / 1e3)),
            ),
        ),
        Check::new(
            "a writer that was stopped writes nothing by the old route behind the barrier",
            misplaced == 0 && looked_at == written,
            format!(
                "{} records looked at, {} where their layout does not have them",
                count(looked_at),
                count(misplaced)
            ),
        ),
    ])
}

/// The records of a topic that are not where their layout puts their keys, and how many there are.
async fn misplaced(scene: &Scene, cluster: &Cluster) -> Result<(u64, u64)> {
    let layouts = cluster.layouts(&scene.topic).await?;
    let (brokers, topic) = (scene.brokers.clone(), scene.topic.clone());
    let look = move || {
        let mut config = client(&brokers);
        let consumer: BaseConsumer = config.set("group.id", "looks").set("enable.partition.eof", "true").create()?;
        let partitions = layouts.current().context("no layout")?.partitions;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(&topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let (mut open, mut misplaced, mut all) = (partitions, 0, 0);
        while open > 0 {
            match consumer.poll(PATIENCE) {
                Some(Ok(record)) if !kafka_partitions::is_barrier(record.key()) => {
                    all += 1;
                    let epoch = layouts.epoch_at(&topic, record.partition(), record.offset());
                    let layout = epoch.and_then(|epoch| layouts.all.get(&epoch));
                    let right = layout.and_then(|layout| layout.partition(record.key()));
                    misplaced += u64::from(right != Some(record.partition()));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(_)) => {}
                None => anyhow::bail!("the topic was not read within {PATIENCE:?}"),
            }
        }
        Ok((misplaced, all))
    };
    tokio::task::spawn_blocking(look).await?
}

/// From 4 partitions to 2; whoever does it is killed half way, and it is taken up.
async fn moves(trial: &Trial<'_>) -> Result<Check> {
    trial.phase("a topic moves from 4 partitions to 2; whoever moves it is killed half way");
    let scene = trial.scene("moves", 4).await?;
    let (cluster, into) = (Cluster::new(&scene.brokers), format!("{}.2", scene.topic));
    let mut writer = write(&scene, 0, false).await?;
    let readers = Readers::start(&scene, 1, false, !trial.breaks(Break::Follow));
    until(&mut writer, |standing| standing.rounds >= ROUNDS).await?;
    let mut mover = scene.worker(1).await?;
    let order = Order::Move { topic: scene.topic.clone(), into: into.clone(), partitions: 2 };
    mover.ask::<()>(&order).await?;
    mover.ask::<()>(&Order::Still).await?;
    mover.child().kill()?;
    let plan = cluster.plan(Change::into_topic(&scene.topic, into, 2)).await?;
    let resumes = plan.resumes;
    let layout = cluster.carry_out(plan, |_| ()).await?;
    until(&mut writer, |standing| standing.epoch == layout.epoch).await?;
    let rounds = writer.ask::<Standing>(&Order::Stand).await?.rounds;
    until(&mut writer, |standing| standing.rounds >= rounds + ROUNDS).await?;
    let written = writer.ask::<Standing>(&Order::End).await?.rounds * u64::from(KEYS);
    let read = readers.end(written).await?;
    Ok(Check::new(
        "a move that is killed half way is taken up, and nothing is lost or overtaken",
        resumes && read.overtaken == 0 && read.records == written,
        format!(
            "{} records: {} missing, {} read again, {} keys overtaken",
            count(written),
            count(written.saturating_sub(read.records)),
            count(read.again),
            read.overtaken
        ),
    ))
}
