//! kafka-txn in the lab: copiers are processes, of which one after another dies at some point of a transaction.

mod checks;
mod soak;
mod speed;
mod worker;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::{Worker, WorkerArgs};
use crate::lab::figures::Figure;
use crate::lab::findings::{About, Findings};
use crate::lab::kafka::{PATIENCE, Scene, Trial};
use crate::lab::metrics::{Copies, Metrics};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};

const PARTITIONS: i32 = 8;
const PROCESSES: u32 = 2;
const SESSION: Duration = Duration::from_secs(2);
/// How often a transaction is committed.
const EVERY: Duration = Duration::from_millis(100);

/// What a worker is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Order {
    /// Copy.
    Copy(Job),
    /// How many records it has handled.
    Stand,
    /// Come to an end.
    Leave,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    from: String,
    to: String,
    group: String,
    every: Duration,
    session: Duration,
    /// At which step it dies, and at which time that it comes there.
    dies: Option<(u32, u32)>,
    guards: Guards,
}

/// What may be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Guards {
    All,
    /// Offsets are committed apart from the outputs.
    NoTransaction,
    /// Records of a key are worked on side by side.
    NoOrder,
}

/// Where a worker stands, by the lab's clock.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Standing {
    partitions: usize,
    handled: u64,
    /// When the first was handled, and when the last transaction was committed.
    first: u64,
    last: u64,
    /// Why partitions make no progress, as far as it knows.
    stalls: Vec<String>,
}

/// The strategy.
pub struct KafkaTxn;

#[async_trait]
impl Strategy for KafkaTxn {
    fn name(&self) -> &'static str {
        "kafka-txn"
    }

    fn about(&self) -> About {
        About {
            complexity: "a Kafka, a group, a topic to write to; readers of committed records only",
            guarantees: "outputs and offsets together or not at all: exactly once within Kafka",
            limits: "effects outside of Kafka are not covered; outputs are seen when their transaction commits",
            guards: &[Break::Transaction, Break::Isolation, Break::KeyOrder],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        let every_ms = u64::try_from(EVERY.as_millis())?;
        let mut copies = Copies { processes: PROCESSES, partitions: PARTITIONS, every_ms, ..Copies::default() };
        speed::throughput(&trial, &mut copies).await?;
        let latency = speed::latency(&trial, &mut copies).await?;
        let (checks, drawn) = checks::run(&trial, &mut copies).await?;
        let of = "a record, from produced to its copy being read as committed";
        let figures = std::iter::once(Figure::latency(of, latency)).chain(drawn).collect();
        Ok(Findings::of(self, Metrics::Copies(copies), checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        soak::run(round).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        worker::work(&args.url, post).await
    }
}

/// A scene with a topic to copy to.
async fn scene(trial: &Trial<'_>, name: &str) -> Result<(Scene, Job)> {
    let scene = trial.scene(name, PARTITIONS).await?;
    let to = format!("{}-copied", scene.topic);
    trial.server.topic(&to, PARTITIONS).await?;
    let (from, group) = (scene.topic.clone(), scene.group.clone());
    Ok((scene, Job { from, to, group, every: EVERY, session: SESSION, dies: None, guards: Guards::All }))
}

async fn stand(workers: &mut [Worker]) -> Result<Vec<Standing>> {
    let mut all = Vec::with_capacity(workers.len());
    for worker in workers {
        all.push(worker.ask::<Standing>(&Order::Stand).await?);
    }
    Ok(all)
}

/// Waits until they stand so.
async fn come(workers: &mut [Worker], what: &str, right: impl Fn(&[Standing]) -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !right(&stand(workers).await?) {
        ensure!(Instant::now() < until, "{what} did not come within {PATIENCE:?}");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
