//! How fast, without faults: a queue that is never empty, then a steady pace.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::judged;
use super::orders::{Left, Order, Produce, Work};
use crate::lab::crew::ask_all;
use crate::lab::latency::Latency;
use crate::lab::metrics::Jobs;
use crate::lab::trial::Trial;

const WORKERS: u32 = 2;
const PACED: u64 = 1_000;

fn work(trial: &Trial<'_>, queue: &str) -> Order {
    Order::Work(Work { judged: false, concurrency: 128, work_ms: 0, fault: None, ..judged(trial, queue, "worker") })
}

/// One producer that adds as many as the queue takes, two workers with nothing to do.
pub async fn throughput(trial: &Trial<'_>, jobs: &mut Jobs) -> Result<()> {
    const QUEUE: &str = "lab/full";
    let time = trial.lab.time;
    trial.phase(&format!("speed: {WORKERS} workers, one producer, {time:?}"));
    let mut workers = trial.workers(WORKERS + 1).await?;
    let mut producer = workers.pop().into_iter().collect::<Vec<_>>();
    ask_all::<_, ()>(&mut workers, time, |_| work(trial, QUEUE)).await?;
    let millis = u64::try_from(time.as_millis())? + 500;
    for producer in &mut producer {
        producer.tell(&Order::Produce(Produce { queue: QUEUE.into(), per_second: None, millis, keys: 1 })).await?;
    }
    sleep(Duration::from_millis(400)).await;
    let (before, begin) = (count(&mut workers).await?, std::time::Instant::now());
    sleep(time).await;
    jobs.jobs = count(&mut workers).await? - before;
    jobs.per_second = jobs.jobs as f64 / begin.elapsed().as_secs_f64();
    jobs.processes = WORKERS;
    for producer in &mut producer {
        producer.hear::<u32>(time).await?;
    }
    ask_all::<_, Left>(&mut workers, time, |_| Order::Leave).await?;
    Ok(())
}

async fn count(workers: &mut [crate::lab::crew::Worker]) -> Result<u64> {
    Ok(ask_all::<_, u64>(workers, Duration::ZERO, |_| Order::Count).await?.into_iter().sum())
}

/// From added to done, at a steady pace.
pub async fn latency(trial: &Trial<'_>, jobs: &mut Jobs) -> Result<Latency> {
    const QUEUE: &str = "lab/paced";
    let time = trial.lab.time;
    trial.phase(&format!("latency: {PACED} jobs a second, {time:?}"));
    let mut workers = trial.workers(WORKERS).await?;
    let mut producer = trial.workers(1).await?;
    ask_all::<_, ()>(&mut workers, time, |_| work(trial, QUEUE)).await?;
    let millis = u64::try_from(time.as_millis())?;
    let order = Order::Produce(Produce { queue: QUEUE.into(), per_second: Some(PACED), millis, keys: 1 });
    ask_all::<_, u32>(&mut producer, time, |_| &order).await?;
    let mut times = Latency::default();
    for left in ask_all::<_, Left>(&mut workers, time, |_| Order::Leave).await? {
        times.add(&left.times);
    }
    (jobs.p50_us, jobs.p99_us, jobs.paced_per_second) = (times.micros(0.5), times.micros(0.99), PACED);
    Ok(times)
}
