//! A claim on jobs that nobody can do.

use anyhow::{Context, Result};
use redis_lua::redis::cmd;
use redis_streams::{NewJob, Queue};

use super::orders::{Left, Order};
use super::{ATTEMPTS, HISTORY, PATIENCE, POISON, judged, settled};
use crate::lab::breaks::Break;
use crate::lab::crew::ask_all;
use crate::lab::findings::Check;
use crate::lab::trial::Trial;

const QUEUE: &str = "lab/poison";
const JOBS: u32 = 20;

/// Each is tried so many times, by whichever worker, and set aside.
pub async fn run(trial: &Trial<'_>) -> Result<Check> {
    trial.phase(&format!("{JOBS} jobs that nobody can do, {ATTEMPTS} attempts each"));
    let queue = Queue::new(trial.client.clone(), QUEUE)?;
    let oracle = trial.clients().nth(1).context("no second server")?;
    oracle.run::<()>(cmd("DEL").arg(HISTORY)).await?;
    let mut workers = trial.workers(2).await?;
    ask_all::<_, ()>(&mut workers, PATIENCE, |number| {
        let mut work = judged(trial, QUEUE, &format!("p{number}"));
        work.fault = None;
        work.attempts += u32::from(trial.breaks(Break::Attempts));
        Order::Work(work)
    })
    .await?;
    let jobs = (0..JOBS).map(|number| NewJob::new(format!("{number} 0 ")).key(POISON));
    queue.producer().add_all(jobs).await.map_err(|(_, error)| error)?;
    settled(&queue).await?;
    ask_all::<_, Left>(&mut workers, PATIENCE, |_| Order::Leave).await?;
    let events: Vec<String> = oracle.run(cmd("LRANGE").arg(HISTORY).arg(0).arg(-1)).await?;
    let mut tried = vec![0; JOBS as usize];
    for event in events.iter().filter(|event| event.starts_with("begin ")) {
        let job: usize = event.split(' ').nth(3).context("no job")?.parse()?;
        tried[job] += 1;
    }
    let dead = queue.dead_letters().len().await?;
    Ok(Check::new(
        "a job that nobody can do is set aside after exactly so many attempts",
        tried.iter().all(|times| *times == ATTEMPTS) && dead == u64::from(JOBS),
        format!(
            "{dead} of {JOBS} set aside after {} to {} attempts",
            tried.iter().min().unwrap_or(&0),
            tried.iter().max().unwrap_or(&0)
        ),
    ))
}
