//! Claim: a guarded write refuses older tokens. The lab reads the data all the while: it must never go back.

use std::time::Duration;

use anyhow::{Result, ensure};
use redis_lua::Name;
use redis_lua::redis::cmd;
use tokio::time::sleep;

use super::orders::{Order, Work, Write};
use super::{PROCESSES, TASKS};
use crate::lab::breaks::Break;
use crate::lab::crew::ask_all;
use crate::lab::findings::Check;
use crate::lab::trial::Trial;
use crate::lab::words::count;

pub async fn run(trial: &Trial<'_>) -> Result<Check> {
    let time = (trial.lab.time / 2).max(Duration::from_secs(1));
    let name = Name::new("lab/guarded")?;
    trial.phase(&format!("guarded writes: {PROCESSES} processes × {TASKS} tasks, {time:?}"));
    let mut workers = trial.workers(PROCESSES).await?;
    let order = Order::Write(Write {
        name: name.as_str().to_owned(),
        tasks: TASKS,
        millis: u64::try_from(time.as_millis())?,
        plain: trial.breaks(Break::GuardedWrite),
    });
    let mut seen = Seen::default();
    let work = tokio::select! {
        work = ask_all(&mut workers, time, |_| &order) => Work::sum(work?),
        error = watch(trial, &name, &mut seen) => return Err(error),
    };
    ensure!(work.error.is_none(), "a write failed on a server that is well: {}", work.error.unwrap_or_default());
    let last: u64 = trial.run(cmd("GET").arg(name.as_key())).await?;
    Ok(Check::new(
        "a guarded write refuses older tokens",
        seen.went_back == 0 && last == work.newest && work.refused > 0 && seen.reads > 0,
        format!(
            "{} writes taken and {} with older tokens refused; in {} reads the data went back {} times, and it is {} at \
             the end",
            count(work.calls),
            count(work.refused),
            count(seen.reads),
            count(seen.went_back),
            if last == work.newest { "the newest's" } else { "not the newest's" }
        ),
    ))
}

/// What the lab saw of the data.
#[derive(Default)]
struct Seen {
    reads: u64,
    newest: u64,
    went_back: u64,
}

/// Ends only by an error.
async fn watch(trial: &Trial<'_>, name: &Name, seen: &mut Seen) -> anyhow::Error {
    loop {
        let token = match trial.run::<Option<u64>>(cmd("GET").arg(name.as_key())).await {
            Ok(token) => token.unwrap_or(0),
            Err(error) => return error,
        };
        seen.reads += 1;
        seen.went_back += u64::from(token < seen.newest);
        seen.newest = seen.newest.max(token);
        sleep(Duration::from_micros(500)).await;
    }
}
