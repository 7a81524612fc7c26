//! Claim: a process sends no more than one waiter's commands, however many of its tasks wait.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::orders::{Acquire, Acquired, Order};
use super::{LONG, close};
use crate::lab::breaks::Break;
use crate::lab::crew::Worker;
use crate::lab::findings::Check;
use crate::lab::redis_stats::Commands;
use crate::lab::trial::Trial;

const NAME: &str = "lab/queue";
const MANY: u32 = 64;

pub async fn run(trial: &Trial<'_>) -> Result<Check> {
    trial.phase(&format!("waiting: one task, then {MANY} tasks of a process"));
    let mut workers = trial.pair().await?;
    let [holder, waiter] = &mut workers;
    let ttl_ms = u64::try_from(LONG.as_millis())?;
    let acquire = Acquire { name: NAME.to_owned(), ttl_ms, wait_ms: 0, anew: false };
    let held: Acquired = holder.ask(&Order::Acquire(acquire)).await?;
    ensure!(matches!(held, Acquired::Token(_)), "a lock that nobody holds was not granted");
    let one = asked(trial, waiter, 1).await?;
    let many = asked(trial, waiter, MANY).await?;
    close(&mut workers).await?;
    Ok(Check::new(
        "a process asks for one waiter at a time",
        // Delays are random, so the two counts differ; without a queue it were 64 times as many.
        one > 0 && many <= 3 * one + 10,
        format!("{MANY} waiting tasks of a process asked {many} times in {WINDOW:?}, one task {one} times"),
    ))
}

const WINDOW: Duration = Duration::from_secs(1);

/// How often the server is asked while so many tasks wait.
async fn asked(trial: &Trial<'_>, waiter: &mut Worker, tasks: u32) -> Result<u64> {
    let apart = trial.breaks(Break::Queue);
    waiter.ask::<()>(&Order::Wait { name: NAME.to_owned(), tasks, apart }).await?;
    // The first delays are shorter.
    sleep(WINDOW / 4).await;
    let before = Commands::read(&trial.client).await?;
    sleep(WINDOW).await;
    Ok(Commands::read(&trial.client).await?.since(&before).scripts())
}
