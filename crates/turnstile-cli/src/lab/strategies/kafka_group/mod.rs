//! kafka-group in the lab: members are processes, of which some are killed and some leave.

mod idle;
pub mod killed;
mod leaving;
pub mod orders;
mod raw;
pub mod soak;
pub mod speed;
pub mod worker;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use tokio::time::sleep;
use turnstile_testkit::history::{Order as Lanes, Verdict, check};

use self::orders::{Fault, Join, Order, Standing};
use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::{Worker, WorkerArgs};
use crate::lab::findings::{About, Findings};
use crate::lab::kafka::{PATIENCE, Pace, Scene, Trial};
use crate::lab::metrics::Metrics;
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};

pub const PARTITIONS: i32 = 8;
/// After how long without a sign of life a member counts as dead.
pub const SESSION: Duration = Duration::from_secs(1);
/// The pace at which claims are checked: about half of what a member can do.
pub const PACE: Pace = Pace { per_second: 400, poison: None, recorded: true };
/// How long a handler takes then.
pub const WORK_MS: u64 = 5;

/// The strategy.
pub struct KafkaGroup;

#[async_trait]
impl Strategy for KafkaGroup {
    fn name(&self) -> &'static str {
        "kafka-group"
    }

    fn about(&self) -> About {
        About {
            complexity: "a Kafka and a group; a handler",
            guarantees: "each record at least once, one after another in its partition; an orderly leave repeats nothing",
            limits: "as many at a time as partitions; after a crash, what was not committed is done again",
            guards: &[
                Break::CommitFirst,
                Break::Revoke,
                Break::InOrder,
                Break::CommitBack,
                Break::Start,
                Break::HandOver,
                Break::Poison,
                Break::Session,
            ],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        let (mut records, mut figures) = speed::measure(&trial, None).await?;
        let mut checks = Vec::from(killed::run(&trial, &mut records, &mut figures).await?);
        checks.push(leaving::run(&trial, &mut records, &mut figures).await?);
        checks.extend(idle::run(&trial, &mut figures).await?);
        Ok(Findings::of(self, Metrics::Records(records), checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        soak::run(round, self.name(), None).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        worker::work(args, post).await
    }
}

/// The member of this number, as it is in scenes that are judged.
pub fn join(scene: &Scene, number: u32, fault: Option<Fault>) -> Join {
    Join {
        who: name(number),
        topic: scene.topic.clone(),
        group: scene.group.clone(),
        dead_letters: None,
        work_ms: WORK_MS,
        gated: false,
        recorded: true,
        session_ms: u64::try_from(SESSION.as_millis()).unwrap_or(u64::MAX),
        swallow: false,
        lanes: None,
        fault,
    }
}

pub fn name(number: u32) -> String {
    format!("member-{number}")
}

/// The one of these faults that is to be planted.
pub fn planted(trial: &Trial<'_>, faults: &[(Break, Fault)]) -> Option<Fault> {
    faults.iter().find(|(guard, _)| trial.breaks(*guard)).map(|(_, fault)| *fault)
}

/// Where these stand.
async fn stand(workers: &mut [Worker]) -> Result<Vec<Standing>> {
    let mut all = Vec::with_capacity(workers.len());
    for worker in workers {
        all.push(worker.ask::<Standing>(&Order::Stand).await?);
    }
    Ok(all)
}

/// Waits until they stand so; how they stood then, if they did in time.
pub async fn come(
    workers: &mut [Worker],
    limit: Duration,
    right: impl Fn(&[Standing]) -> bool,
) -> Result<Option<Vec<Standing>>> {
    let until = Instant::now() + limit;
    while Instant::now() < until {
        let all = stand(workers).await?;
        if right(&all) {
            return Ok(Some(all));
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(None)
}

/// All partitions are given out, and each member has at least so many.
pub fn spread(partitions: i32, least: usize) -> impl Fn(&[Standing]) -> bool {
    move |all| {
        let sum: usize = all.iter().map(|one| one.partitions).sum();
        sum == partitions as usize && all.iter().all(|one| one.partitions >= least)
    }
}

/// Lets them join, and waits until each has a partition.
pub async fn gather(scene: &Scene, workers: &mut [Worker], joins: &[Join]) -> Result<()> {
    for (worker, join) in workers.iter_mut().zip(joins) {
        worker.ask::<()>(&Order::Join(join.clone())).await?;
    }
    let came = come(workers, PATIENCE, spread(scene.partitions, 1)).await?;
    ensure!(came.is_some(), "the members were not given the partitions within {PATIENCE:?}");
    Ok(())
}

/// Lets them leave, and judges what happened. A member with a fault may have no better end.
async fn close(scene: &Scene, workers: &mut [Worker]) -> Result<Verdict> {
    for worker in workers {
        worker.ask::<orders::Left>(&Order::Leave).await?;
    }
    Ok(check(&scene.history.events()?, Lanes::Partition))
}
