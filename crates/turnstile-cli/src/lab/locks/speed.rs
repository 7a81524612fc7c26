//! How fast: many tasks of many processes take one lock in turn and do nothing with it.

use anyhow::{Result, ensure};

use super::orders::{Contend, Order, Work};
use super::{PROCESSES, TASKS, close};
use crate::lab::crew::ask_all;
use crate::lab::figures::Figure;
use crate::lab::metrics::{Grants, Metrics};
use crate::lab::redis_stats::Commands;
use crate::lab::trial::Trial;
use crate::lab::words;

/// What it measures, and charts of it; `latency_of` says what is waited for.
pub async fn run(trial: &Trial<'_>, latency_of: &'static str) -> Result<(Metrics, Vec<Figure>)> {
    let time = trial.lab.time;
    trial.phase(&format!("speed: {PROCESSES} processes × {TASKS} tasks on one lock, {time:?}"));
    let mut workers = trial.workers(PROCESSES).await?;
    let order = Order::Contend(Contend {
        name: "lab/speed".to_owned(),
        tasks: TASKS,
        readers: 0,
        millis: u64::try_from(time.as_millis())?,
        guarded: false,
        stay_ms: 0,
        handovers: None,
        apart: false,
    });
    let before = Commands::read(&trial.client).await?;
    let work = Work::sum(ask_all(&mut workers, time, |_| &order).await?);
    let ran = Commands::read(&trial.client).await?.since(&before);
    close(&mut workers).await?;
    ensure!(work.errors.is_empty(), "a lock failed on a server that is well: {}", work.errors.join("; "));
    ensure!(work.grants > 0, "nobody was granted the lock within {}", words::millis(time));

    let per_grant = |commands: u64| commands as f64 / work.grants as f64;
    let metrics = Metrics::Grants(Grants {
        per_second: work.grants as f64 / time.as_secs_f64(),
        p50_us: work.waits.micros(0.5),
        p99_us: work.waits.micros(0.99),
        max_wait_ms: work.longest_ns as f64 / 1e6,
        commands_per_grant: per_grant(ran.scripts()),
        server_commands_per_grant: per_grant(ran.all()),
        grants: work.grants,
        handed_over: work.handed_over,
        processes: PROCESSES,
        tasks: TASKS,
        seconds: time.as_secs_f64(),
        calls: false,
    });
    let rate = Figure::rate("Grants over time", "grants a second", work.tally, Vec::new());
    Ok((metrics, vec![Figure::latency(latency_of, work.waits), rate]))
}
