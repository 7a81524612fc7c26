//! Claims: one holder at a time, and tokens that rise. Many tasks of many processes enter the register in turn.

use std::time::Duration;

use anyhow::{Result, ensure};
use redis_lua::Name;
use redis_lua::redis::cmd;
use tokio::time::sleep;

use super::orders::{Contend, Order, Work};
use super::{PROCESSES, TASKS, close};
use crate::lab::breaks::Break;
use crate::lab::checker;
use crate::lab::crew::ask_all;
use crate::lab::figures::Figure;
use crate::lab::findings::Check;
use crate::lab::history::{self, TASKS_OF};
use crate::lab::trial::Trial;
use crate::lab::words::count;

const NAME: &str = "lab/exclusion";

/// The claims, and a chart of the first stays.
pub async fn run(trial: &Trial<'_>) -> Result<([Check; 2], Figure)> {
    let time = trial.lab.time;
    trial.phase(&format!("one holder at a time: {PROCESSES} processes × {TASKS} tasks, {time:?}"));
    let mut workers = trial.workers(PROCESSES).await?;
    let order = Order::Contend(Contend {
        name: NAME.to_owned(),
        tasks: TASKS,
        readers: 0,
        millis: u64::try_from(time.as_millis())?,
        guarded: true,
        // Who waits may ask but seldom: time enough for it to be seen.
        stay_ms: 2 * u64::from(trial.breaks(Break::ReleaseCompare)),
        // Few, since what is to be seen is how processes exclude each other.
        handovers: Some(3),
        apart: false,
    });
    let work = tokio::select! {
        work = ask_all(&mut workers, time, |_| &order) => Work::sum(work?),
        fault = sabotage(trial) => return Err(fault),
    };
    close(&mut workers).await?;
    ensure!(work.errors.is_empty(), "a lock failed on a server that is well: {}", work.errors.join("; "));

    let events = trial.register.history(NAME);
    let verdict = checker::check(&events);
    let all_written_down = work.entered == verdict.entries;
    let entries = format!("{} entries by {PROCESSES} processes × {TASKS} tasks", count(verdict.entries));
    let changes = events.windows(2).filter(|pair| pair[0].who / TASKS_OF != pair[1].who / TASKS_OF).count();
    let lost = if all_written_down { String::new() } else { format!(", {} by their own count", count(work.entered)) };
    let exclusion = Check::new(
        "no two holders at once",
        verdict.exclusive() && verdict.still_inside == 0 && all_written_down && changes > 0,
        format!(
            "{entries}{lost}, {} times from one process to another, {} overlaps",
            count(changes as u64),
            count(verdict.overlaps + verdict.lost_entries)
        ),
    );
    let back = work.tokens_back + verdict.tokens_back;
    let tokens = Check::new(
        "tokens strictly rise",
        verdict.tokens_rise() && work.tokens_back == 0,
        format!(
            "{} grants, {} tokens not above the one before, {} holders with a good lease turned away as old",
            count(work.grants),
            count(back),
            count(verdict.valid_refused)
        ),
    );
    Ok(([exclusion, tokens], Figure::Lanes(history::by_process(&events))))
}

/// Does harm if it is asked to, and never ends by itself.
async fn sabotage(trial: &Trial<'_>) -> anyhow::Error {
    let harm = async || -> Result<()> {
        let name = Name::new(NAME)?;
        loop {
            if trial.breaks(Break::Token) {
                trial.everywhere(cmd("SET").arg(name.key("fence")).arg(0)).await?;
            }
            if trial.breaks(Break::ReleaseCompare) {
                // As often as can be: it is seen only when somebody asks before the holder has left.
                trial.everywhere(cmd("DEL").arg(name.as_key())).await?;
            } else {
                sleep(Duration::from_millis(5)).await;
            }
        }
    };
    match harm().await {
        Ok(()) => std::future::pending().await,
        Err(error) => error,
    }
}
