//! Random faults over the workers of a queue and over its server, which keeps on disk what it has answered. The history is on
//! another server, which is spared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use redis_lua::redis::cmd;
use redis_streams::{NewJob, Queue};
use tokio::time::{Instant, sleep};
use turnstile_testkit::jobs::check;

use super::orders::{Left, Order};
use super::{ALIVE, EFFECTS, HISTORY, PATIENCE, judged, settled};
use crate::lab::clock;
use crate::lab::crew::Worker;
use crate::lab::findings::Check;
use crate::lab::soak::{Patient, REDIS, Round, Soaked};
use crate::lab::words::count;

const QUEUE: &str = "lab/soak";
const KEYS: u32 = 40;
/// Between two jobs: about a third of what the workers can do.
const PACE: Duration = Duration::from_millis(5);
/// How long a job's number is remembered: longer than a round.
const REMEMBERED: Duration = Duration::from_secs(600);

pub async fn run(round: &Round<'_>) -> Result<Soaked> {
    let mut patient = Patient::start(round, "redis-streams", 1, 1).await?;
    let queue = Queue::new(patient.trial.client.clone(), QUEUE)?;
    let oracle = patient.trial.clients().nth(1).context("no second server")?.clone();
    let work = {
        let work = judged(&patient.trial, QUEUE, "");
        // Longer than by default: who is out of reach for some time is not dead yet.
        let alive_ms = u64::try_from((ALIVE * 2).as_millis())?;
        move |number: u32| Order::Work(super::Work { who: format!("w{number}"), alive_ms, ..work.clone() })
    };
    // Of these nothing is expected any more but that they do no harm: whatever they were at may be another's.
    let out = async |crew: &[u32]| -> Result<()> {
        let mut push = cmd("RPUSH");
        push.arg(HISTORY);
        crew.iter().for_each(|number| _ = push.arg(format!("out w{number} - 0")));
        Ok(oracle.run(&push).await?)
    };
    let over = Arc::new(AtomicBool::new(false));
    let adding = tokio::spawn(add(queue.clone(), over.clone()));
    for worker in &mut patient.workers {
        begin(worker, &work(worker.number())).await?;
    }
    let mut faults = round.begin("redis-streams", &REDIS).await;
    while let Some(step) = faults.next().await {
        // A fault is over before anybody counts as dead: but the machine may be slow.
        let crew: Vec<u32> = patient.workers.iter().map(Worker::number).collect();
        out(&crew).await?;
        let missing = patient.suffer(&mut faults, &step).await?;
        out(&crew).await?;
        if missing {
            let new = patient.join().await?;
            begin(new, &work(new.number())).await?;
        }
    }
    over.store(true, Ordering::Relaxed);
    let added = adding.await?;
    let settled = settled(&queue).await?;
    let stats = queue.stats().await?;
    for worker in &mut patient.workers {
        worker.tell(&Order::Leave).await?;
        worker.hear::<Left>(PATIENCE).await?;
    }

    let events: Vec<String> = oracle.run(cmd("LRANGE").arg(HISTORY).arg(0).arg(-1)).await?;
    let found = check(&events, added)?;
    let effects: BTreeMap<u32, u32> = patient.trial.run(cmd("HGETALL").arg(queue.name().key(EFFECTS))).await?;
    let twice = effects.values().filter(|times| **times > 1).count();
    let without = (0..added).filter(|job| !effects.contains_key(job)).count();
    let jobs = count(added.into());
    let checks = [
        Check::new(
            "no job is lost",
            settled && found.lost.is_empty() && added > 0,
            format!("{jobs} jobs, {} never done; worked off at the end: {settled}, {stats:?}", found.lost.len()),
        ),
        Check::new(
            "a job is never in two workers' hands while the first is alive",
            found.overlaps.is_empty(),
            format!("{jobs} jobs, {:?} begun beside a worker that was at it", found.overlaps),
        ),
        Check::new(
            "jobs of a key are worked on one after another in order, with retries",
            found.out_of_order.is_empty() && found.beside.is_empty(),
            format!("{:?} begun after a later one, {:?} beside another", found.out_of_order, found.beside),
        ),
        Check::new(
            "an effect that comes with the acknowledgement happens once",
            twice == 0 && without == 0,
            format!("{jobs} jobs, {twice} effects twice, {without} not at all"),
        ),
    ];
    round.judged("redis-streams", (added.into(), faults), checks, events)
}

/// Lets it work, and waits until it is at it: where the server is away as it begins, it does not begin.
async fn begin(worker: &mut Worker, order: &Order) -> Result<()> {
    worker.ask::<()>(order).await?;
    let until = Instant::now() + PATIENCE;
    while worker.ask::<u64>(&Order::Count).await? == 0 && Instant::now() < until {
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Adds jobs until it is over; what may have been added is asked for again under its own id.
async fn add(queue: Queue, over: Arc<AtomicBool>) -> u32 {
    let (producer, mut number) = (queue.producer(), 0_u32);
    while !over.load(Ordering::Relaxed) || number == 0 {
        let job = NewJob::new(format!("{number} {} ", clock::now())).key(format!("k{}", number % KEYS));
        if producer.add(job.dedup(number.to_string(), REMEMBERED)).await.is_ok() {
            number += 1;
        }
        sleep(PACE).await;
    }
    number
}
