//! Claims on workers of which one is killed in the middle of its work, and one is stopped for longer than it counts as alive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis_lua::redis::cmd;
use redis_streams::{DEFAULT_GROUP, Queue};
use tokio::time::sleep;
use turnstile_testkit::jobs::check;

use super::orders::{Left, Order, Produce};
use super::pictures;
use super::{ALIVE, EFFECTS, HISTORY, PATIENCE, judged, settled};
use crate::lab::breaks::Break;
use crate::lab::clock;
use crate::lab::crew::ask_all;
use crate::lab::figures::{Figure, Mark};
use crate::lab::findings::Check;
use crate::lab::metrics::Jobs;
use crate::lab::trial::Trial;
use crate::lab::words::{count, millis};

const QUEUE: &str = "lab/killed";
const WORKERS: u32 = 4;
const KEYS: u32 = 40;
/// About half of what the workers can do.
const PER_SECOND: u64 = 400;
/// Without a guard: a worker that is missed after so long.
const TOO_LONG: Duration = Duration::from_secs(20);
/// When a dead worker is missed at the latest, on a machine that does much else.
const MISSED: Duration = ALIVE.saturating_mul(5);

/// Three go on, one is killed, one of the three is stopped for a while.
pub async fn run(trial: &Trial<'_>, jobs: &mut Jobs, figures: &mut Vec<Figure>) -> Result<[Check; 5]> {
    let part = trial.lab.time.max(Duration::from_secs(2)) / 2;
    trial.phase(&format!("{WORKERS} workers: one is killed, one is stopped; they count as alive for {ALIVE:?}"));
    let queue = Queue::new(trial.client.clone(), QUEUE)?;
    let mut workers = trial.workers(WORKERS).await?;
    let mut producer = trial.workers(1).await?;
    ask_all::<_, ()>(&mut workers, part, |number| {
        let mut work = judged(trial, QUEUE, &who(number));
        if trial.breaks(Break::Alive) {
            work.alive_ms = u64::try_from(TOO_LONG.as_millis()).unwrap_or(u64::MAX);
        }
        Order::Work(work)
    })
    .await?;
    let whole = part * 2 + ALIVE * 3;
    let order = Produce {
        queue: QUEUE.into(),
        per_second: Some(PER_SECOND),
        millis: u64::try_from(whole.as_millis())?,
        keys: KEYS,
    };
    for producer in &mut producer {
        producer.tell(&Order::Produce(order.clone())).await?;
    }
    let harm = async {
        while trial.breaks(Break::Claim) {
            sleep(Duration::from_millis(20)).await;
            steal(trial, &queue).await?;
        }
        std::future::pending::<Result<()>>().await
    };
    let mut levels = pictures::levels();
    let faults = async {
        sleep(part).await;
        let mut victim = workers.remove(0);
        at_work(trial, &who(0)).await?;
        let killed = clock::now();
        victim.child().kill()?;
        victim.child().wait().await?;
        out(trial, &who(0)).await?;
        sleep(part).await;
        workers[0].child().stop()?;
        let stopped = clock::now();
        // Now that it writes nothing more.
        out(trial, &who(1)).await?;
        sleep(ALIVE * 3 / 2).await;
        workers[0].child().cont()?;
        let marks = vec![
            Mark::new(killed, "worker 0 killed"),
            Mark::new(stopped, "worker 1 stopped"),
            Mark::new(clock::now(), "it goes on"),
        ];
        let mut added = 0;
        for producer in &mut producer {
            added = producer.hear::<u32>(whole).await?;
        }
        let settled = settled(&queue).await?;
        anyhow::Ok((killed, added, settled, marks))
    };
    let (killed, added, settled, marks) = tokio::select! {
        done = faults => done?,
        Err(error) = pictures::watch(&queue, &mut levels) => return Err(error),
        Err(error) = harm => return Err(error),
    };
    ask_all::<_, Left>(&mut workers, PATIENCE, |_| Order::Leave).await?;

    let oracle = trial.clients().nth(1).context("no second server")?;
    let events: Vec<String> = oracle.run(cmd("LRANGE").arg(HISTORY).arg(0).arg(-1)).await?;
    let findings = check(&events, added)?;
    figures.extend(pictures::of(&events, levels, &marks)?);
    let effects: BTreeMap<u32, u32> = trial.run(cmd("HGETALL").arg(queue.name().key(EFFECTS))).await?;
    let (had, took) = taken(&events, killed)?;
    ensure!(had > 0, "the worker that was killed had nothing in hand");
    jobs.takeover_ms = took.map(|took| took.as_secs_f64() * 1e3);
    jobs.duplicates = u64::try_from(findings.again.len())?;
    let twice = effects.values().filter(|times| **times > 1).count();
    let seen = took.map_or_else(
        || "nobody took all of them over".to_owned(),
        |took| format!("others had them {} later", millis(took)),
    );
    Ok([
        Check::new(
            "no job is lost",
            settled && findings.lost.is_empty(),
            format!(
                "{} jobs, {} never done, {} done again",
                count(added.into()),
                findings.lost.len(),
                findings.again.len()
            ),
        ),
        Check::new(
            "a job is never in two workers' hands while the first is alive",
            findings.overlaps.is_empty(),
            format!("{} begun beside a worker that was at it", findings.overlaps.len()),
        ),
        Check::new(
            "jobs of a key are worked on one after another in order, with retries",
            findings.out_of_order.is_empty() && findings.beside.is_empty(),
            format!(
                "{KEYS} keys; {} begun after a later one, {} beside another",
                findings.out_of_order.len(),
                findings.beside.len()
            ),
        ),
        Check::new(
            "an effect that comes with the acknowledgement happens once",
            twice == 0 && (0..added).all(|job| effects.contains_key(&job) || findings.lost.contains(&job)),
            format!("{} effects, {twice} of them twice", count(effects.len() as u64)),
        ),
        Check::new(
            "a killed worker's jobs are taken over once it counts as dead",
            took.is_some_and(|took| took <= MISSED),
            format!("{had} in hand; {seen}; after a sign of life it counts as alive for {}", millis(ALIVE)),
        ),
    ])
}

fn who(number: u32) -> String {
    format!("w{number}")
}

/// Waits until this worker has just begun a job.
async fn at_work(trial: &Trial<'_>, who: &str) -> Result<()> {
    let oracle = trial.clients().nth(1).context("no second server")?;
    let (until, begun) = (Instant::now() + PATIENCE, format!("begin {who} "));
    loop {
        let last: Option<String> = oracle.run(cmd("LINDEX").arg(HISTORY).arg(-1)).await?;
        if last.is_some_and(|last| last.starts_with(&begun)) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{who} begins nothing");
    }
}

async fn out(trial: &Trial<'_>, who: &str) -> Result<()> {
    let oracle = trial.clients().nth(1).context("no second server")?;
    Ok(oracle.run(cmd("RPUSH").arg(HISTORY).arg(format!("out {who} - 0"))).await?)
}

/// Gives away what others have in hand.
async fn steal(trial: &Trial<'_>, queue: &Queue) -> Result<()> {
    let mut pending = cmd("XPENDING");
    pending.arg(queue.name().as_key()).arg(DEFAULT_GROUP).arg("-").arg("+").arg(20);
    let jobs: Vec<(String, String, u64, u64)> = trial.run(&pending).await?;
    let due = format!("{DEFAULT_GROUP}:due");
    for (id, ..) in jobs {
        trial.run::<()>(cmd("ZADD").arg(queue.name().key(&due)).arg("NX").arg(0).arg(id)).await?;
    }
    Ok(())
}

/// How many jobs the first worker had in hand when it was killed, and how long it took until others had begun them all.
fn taken(events: &[String], killed: u64) -> Result<(usize, Option<Duration>)> {
    let (mut in_hand, mut last) = (BTreeSet::new(), killed);
    let first = who(0);
    for event in events {
        let words: Vec<&str> = event.split(' ').collect();
        let [what, by, _, job, ..] = words[..] else { continue };
        match (what, by == first) {
            ("begin", true) => _ = in_hand.insert(job),
            ("done" | "again", true) => _ = in_hand.remove(job),
            _ => {}
        }
    }
    let had = in_hand.len();
    for event in events {
        let words: Vec<&str> = event.split(' ').collect();
        if let ["begin", by, _, job, at] = words[..]
            && by != first
            && at.parse::<u64>()? > killed
            && in_hand.remove(job)
        {
            last = at.parse()?;
        }
    }
    Ok((had, in_hand.is_empty().then(|| Duration::from_nanos(last - killed))))
}
