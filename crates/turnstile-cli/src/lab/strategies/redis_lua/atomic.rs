//! How fast a script is, and the claims that it is atomic and that the server may forget it at any time.

use std::time::Duration;

use anyhow::{Result, ensure};
use redis_lua::Name;
use redis_lua::redis::cmd;
use tokio::time::sleep;

use super::orders::{By, Count, OnLoss, Order, Work};
use super::{PROCESSES, TASKS};
use crate::lab::breaks::Break;
use crate::lab::crew::ask_all;
use crate::lab::figures::Figure;
use crate::lab::findings::Check;
use crate::lab::metrics::{Grants, Metrics};
use crate::lab::redis_stats::Commands;
use crate::lab::trial::Trial;
use crate::lab::words::count;

fn order(name: &str, readers: u32, time: Duration, by: By) -> Result<Order> {
    let (name, millis) = (name.to_owned(), u64::try_from(time.as_millis())?);
    Ok(Order::Count(Count { name, writers: TASKS - readers, readers, millis, by, on_loss: OnLoss::Fail }))
}

/// Calls a second, how long they take, and charts of both.
pub async fn speed(trial: &Trial<'_>) -> Result<(Metrics, Vec<Figure>)> {
    let time = trial.lab.time;
    trial.phase(&format!("speed: {PROCESSES} processes × {TASKS} tasks call one script, {time:?}"));
    let mut workers = trial.workers(PROCESSES).await?;
    let order = order("lab/speed", 0, time, By::Script)?;
    let before = Commands::read(&trial.client).await?;
    let work = Work::sum(ask_all(&mut workers, time, |_| &order).await?);
    let ran = Commands::read(&trial.client).await?.since(&before);
    ensure!(work.error.is_none(), "a script failed on a server that is well: {}", work.error.unwrap_or_default());
    ensure!(work.calls > 0, "no script call was answered within {time:?}");

    let per_call = |commands: u64| commands as f64 / work.calls as f64;
    let metrics = Metrics::Grants(Grants {
        per_second: work.calls as f64 / time.as_secs_f64(),
        p50_us: work.times.micros(0.5),
        p99_us: work.times.micros(0.99),
        max_wait_ms: work.times.micros(1.0) / 1e3,
        commands_per_grant: per_call(ran.scripts()),
        server_commands_per_grant: per_call(ran.all()),
        grants: work.calls,
        handed_over: 0,
        processes: PROCESSES,
        tasks: TASKS,
        seconds: time.as_secs_f64(),
        calls: true,
    });
    let rate = Figure::rate("Calls over time", "calls a second", work.tally, Vec::new());
    Ok((metrics, vec![Figure::latency("a script call", work.times), rate]))
}

/// The claims. The scripts are flushed all the time, from the lab's own connection.
pub async fn run(trial: &Trial<'_>) -> Result<[Check; 2]> {
    let time = trial.lab.time;
    let name = Name::new("lab/atomic")?;
    let readers = 2;
    trial.phase(&format!(
        "atomic: {PROCESSES} processes × {TASKS} tasks count and read, SCRIPT FLUSH meanwhile, {time:?}"
    ));
    let mut workers = trial.workers(PROCESSES).await?;
    let by = match (trial.breaks(Break::Atomic), trial.breaks(Break::ScriptFlush)) {
        (true, _) => By::TwoCommands,
        (_, true) => By::Sha1Alone,
        _ => By::Script,
    };
    let order = order(name.as_str(), readers, time, by)?;
    let mut flushes = 0;
    let work = tokio::select! {
        work = ask_all(&mut workers, time, |_| &order) => Work::sum(work?),
        error = flush(trial, &mut flushes) => return Err(error),
    };
    let (left, right): (Option<u64>, Option<u64>) =
        trial.run(cmd("MGET").arg(name.key("left")).arg(name.key("right"))).await?;
    let (left, right) = (left.unwrap_or(0), right.unwrap_or(0));
    let atomic = Check::new(
        "a script is atomic: nobody sees it half done",
        work.torn == 0 && left == right && work.reads > 0 && left > 0,
        format!(
            "{} reads beside {} calls, {} of them of a half-done call",
            count(work.reads),
            count(left),
            count(work.torn)
        ),
    );
    let mut observed = format!(
        "{} calls answered and {} carried out, {} SCRIPT FLUSH meanwhile, {} calls failed",
        count(work.calls),
        count(right),
        count(flushes),
        count(work.failed)
    );
    if let Some(error) = &work.error {
        observed.push_str(&format!(": {error}"));
    }
    let flushed = work.failed == 0 && work.calls == right && flushes > 0;
    Ok([atomic, Check::new("SCRIPT FLUSH at any time fails no call", flushed, observed)])
}

/// Ends only by an error.
async fn flush(trial: &Trial<'_>, flushes: &mut u64) -> anyhow::Error {
    loop {
        if let Err(error) = trial.run::<()>(cmd("SCRIPT").arg("FLUSH")).await {
            return error;
        }
        *flushes += 1;
        sleep(Duration::from_millis(5)).await;
    }
}
