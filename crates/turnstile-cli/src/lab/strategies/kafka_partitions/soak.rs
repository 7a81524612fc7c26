//! Random faults over writers, while their topic moves again and again; each time whoever moves it is killed half way, and it
//! is taken up.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kafka_partitions::{Change, Cluster};
use tokio::time::{sleep, timeout};

use super::KEYS;
use super::orders::{Order, Standing};
use super::readers::Readers;
use crate::lab::breaks::Break;
use crate::lab::findings::Check;
use crate::lab::kafka::soak::{ILLS, Patient, trial};
use crate::lab::kafka::{PATIENCE, Scene};
use crate::lab::soak::{Fault, Round, Soaked};
use crate::lab::words::count;

/// How long whoever moves a topic is waited for until it is in the middle.
const HALF_WAY: Duration = Duration::from_secs(5);

pub async fn run(round: &Round<'_>) -> Result<Soaked> {
    let trial = trial(round, "kafka-partitions")?;
    let scene = trial.scene("soak", 4).await?;
    let (topic, cluster) = (scene.topic.clone(), Cluster::new(&scene.brokers));
    let readers = Readers::start(&scene, 1, false, !trial.breaks(Break::Follow));
    let mut patient = Patient::start(round, &trial, scene, None).await?;
    for worker in &mut patient.workers {
        let name = format!("writer-{}", worker.number());
        worker.ask::<()>(&Order::Write { topic: topic.clone(), name, keys: KEYS, stranger: false }).await?;
    }
    let mut faults = round.begin("kafka-partitions", &ILLS).await;
    let mut moves = 0;
    while let Some(step) = faults.next().await {
        // A writer's word on how much it has written is needed, so none is killed.
        if step.fault == Fault::Kill {
            moves += 1;
            moved(&patient.scene, &cluster, moves).await?;
        } else {
            patient.suffer(&mut faults, &step).await?;
        }
    }
    round.calm().await;
    let mut written = 0;
    for worker in &mut patient.workers {
        worker.tell(&Order::End).await?;
        written += worker.hear::<Standing>(PATIENCE).await?.rounds * u64::from(KEYS);
    }
    let read = readers.end_after(written, PATIENCE).await?;
    let check = Check::new(
        "a topic moves with all of its keys in order, and nothing is lost or overtaken",
        read.overtaken == 0 && read.records == written && written > 0,
        format!(
            "{} records through {moves} moves: {} missing, {} keys overtaken",
            count(written),
            written.saturating_sub(read.records),
            read.overtaken
        ),
    );
    let history = [check.observed.clone()];
    round.judged("kafka-partitions", (written, faults), [check], history)
}

/// To a topic of another name and size. Whoever begins it is killed.
async fn moved(scene: &Scene, cluster: &Cluster, nth: i32) -> Result<()> {
    let (topic, into, partitions) = (scene.topic.clone(), format!("{}.{nth}", scene.topic), 2 + nth % 4);
    let mut mover = scene.worker(1000 + u32::try_from(nth)?).await?;
    let order = Order::Move { topic: topic.clone(), into: into.clone(), partitions };
    // The broker may be away: then it is killed before anything has begun.
    if mover.ask::<()>(&order).await.is_ok() {
        let _ = timeout(HALF_WAY, mover.ask::<()>(&Order::Still)).await;
    }
    mover.child().kill()?;
    mover.child().wait().await?;
    let until = Instant::now() + PATIENCE * 3;
    loop {
        let change = async {
            let plan = cluster.plan(Change::into_topic(&topic, &into, partitions)).await?;
            cluster.carry_out(plan, |_| ()).await
        };
        match change.await {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(Instant::now() < until, "the move is not taken up: {error}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}
