//! redis-streams in the lab: producers and workers are processes, of which one is killed and one is stopped.

mod killed;
mod orders;
mod pictures;
mod poison;
mod soak;
mod speed;
mod worker;

use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use redis_streams::Queue;
use tokio::time::sleep;

use self::orders::{Fault, Work};
use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::WorkerArgs;
use crate::lab::figures::Figure;
use crate::lab::findings::{About, Findings};
use crate::lab::metrics::{Jobs, Metrics};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::trial::Trial;

/// How long a worker counts as alive after a sign of life.
const ALIVE: Duration = Duration::from_secs(2);
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a job is tried.
const ATTEMPTS: u32 = 4;
/// The list of events on the second server.
const HISTORY: &str = "history";
/// Where effects are counted, beside the queue.
const EFFECTS: &str = "effects";
/// The key of jobs that nobody can do.
const POISON: &str = "poison";

/// The strategy.
pub struct RedisStreams;

#[async_trait]
impl Strategy for RedisStreams {
    fn name(&self) -> &'static str {
        "redis-streams"
    }

    fn about(&self) -> About {
        About {
            complexity: "one Redis with streams; a handler",
            guarantees: "each job at least once, by key in order on request; dead letters; effects with the acknowledgement once",
            limits: "one server's memory and disk; after a crash, what was not acknowledged is done again",
            guards: &[Break::AckFirst, Break::Claim, Break::Lanes, Break::Effects, Break::Alive, Break::Attempts],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        // The second server keeps the history.
        let trial = Trial::over(lab, self.name(), 2).await?;
        let mut jobs = Jobs { alive_ms: u64::try_from(ALIVE.as_millis())?, ..Jobs::default() };
        speed::throughput(&trial, &mut jobs).await?;
        let mut figures = vec![Figure::latency("a job, from added to done", speed::latency(&trial, &mut jobs).await?)];
        let mut checks = Vec::from(killed::run(&trial, &mut jobs, &mut figures).await?);
        checks.push(poison::run(&trial).await?);
        Ok(Findings::of(self, Metrics::Jobs(jobs), checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        soak::run(round).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        worker::work(args, post).await
    }
}

/// A worker whose work is judged.
fn judged(trial: &Trial<'_>, queue: &str, who: &str) -> Work {
    let faults =
        [(Break::AckFirst, Fault::AckFirst), (Break::Lanes, Fault::NoOrder), (Break::Effects, Fault::PlainEffect)];
    Work {
        queue: queue.to_owned(),
        who: who.to_owned(),
        judged: true,
        concurrency: 4,
        alive_ms: u64::try_from(ALIVE.as_millis()).unwrap_or(u64::MAX),
        work_ms: 20,
        attempts: ATTEMPTS,
        fault: faults.into_iter().find(|(guard, _)| trial.breaks(*guard)).map(|(_, fault)| fault),
    }
}

/// Waits until all is worked off; or for long enough, which the checks will tell.
async fn settled(queue: &Queue) -> Result<bool> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let stats = queue.stats().await?;
        // How many are unread a server may not know, such as one that was restarted.
        if stats.oldest_unread.is_none() && stats.pending == 0 && stats.delayed == 0 {
            return Ok(true);
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(false)
}
