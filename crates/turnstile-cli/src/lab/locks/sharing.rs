//! Claim: readers share, and a writer is alone.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::orders::{Contend, Order, Work};
use super::{PROCESSES, TASKS, close};
use crate::lab::breaks::Break;
use crate::lab::checker;
use crate::lab::crew::ask_all;
use crate::lab::findings::Check;
use crate::lab::trial::Trial;
use crate::lab::words::count;

const NAME: &str = "lab/sharing";

pub async fn run(trial: &Trial<'_>) -> Result<Check> {
    let time = (trial.lab.time / 2).max(Duration::from_secs(1));
    let writers = 2;
    let readers = TASKS - writers;
    trial.phase(&format!(
        "readers and writers: {PROCESSES} processes × {readers} readers and {writers} writers, {time:?}"
    ));
    let mut workers = trial.workers(PROCESSES).await?;
    let order = Order::Contend(Contend {
        name: NAME.to_owned(),
        tasks: TASKS,
        readers,
        millis: u64::try_from(time.as_millis())?,
        guarded: true,
        stay_ms: 2,
        handovers: None,
        apart: trial.breaks(Break::Share),
    });
    let work = Work::sum(ask_all(&mut workers, time, |_| &order).await?);
    close(&mut workers).await?;
    ensure!(work.errors.is_empty(), "a lock failed on a server that is well: {}", work.errors.join("; "));

    let verdict = checker::check(&trial.register.history(NAME));
    let both_came = work.readers_entered > 0 && work.entered > 0;
    Ok(Check::new(
        "readers share, and a writer is alone",
        // Who is turned away as old while its lease is good shared the time with somebody newer.
        verdict.exclusive() && verdict.valid_refused == 0 && both_came && verdict.most_inside > 1,
        format!(
            "{} readers and {} writers entered, up to {} readers at once, {} overlaps with a writer, {} turned away",
            count(work.readers_entered),
            count(work.entered),
            verdict.most_inside,
            count(verdict.overlaps + verdict.lost_entries),
            count(verdict.valid_refused)
        ),
    ))
}
