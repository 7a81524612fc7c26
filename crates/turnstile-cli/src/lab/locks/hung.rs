//! Claim: it goes on while a node hangs. For strategies of several servers.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::orders::{Contend, Order, Work};
use super::{PROCESSES, close};
use crate::lab::breaks::Break;
use crate::lab::checker;
use crate::lab::clock;
use crate::lab::crew::ask_all;
use crate::lab::findings::Check;
use crate::lab::history::What;
use crate::lab::trial::Trial;
use crate::lab::words::count;

const NAME: &str = "lab/hung";
/// Each process waits once for a server that hangs: the third of the time in which one does is to be some times that.
const LEAST: Duration = Duration::from_millis(4_500);

pub async fn run(trial: &Trial<'_>) -> Result<Check> {
    let time = trial.lab.time.max(LEAST);
    let all = trial.others.len() + 1;
    trial.phase(&format!("one of {all} servers hangs for a third of {time:?}"));
    let mut workers = trial.workers(PROCESSES).await?;
    let order = Order::Contend(Contend {
        name: NAME.to_owned(),
        tasks: 2,
        readers: 0,
        millis: u64::try_from(time.as_millis())?,
        guarded: true,
        stay_ms: 0,
        handovers: Some(3),
        apart: false,
    });
    let hung = if trial.breaks(Break::Nodes) { all / 2 + 1 } else { 1 };
    let stops = async {
        sleep(time / 3).await;
        for server in &trial.others[..hung] {
            server.stop().await?;
        }
        let from = clock::now();
        sleep(time / 3).await;
        let to = clock::now();
        for server in &trial.others[..hung] {
            server.cont().await?;
        }
        anyhow::Ok((from, to))
    };
    let (work, stopped) = tokio::join!(ask_all(&mut workers, time, |_| &order), stops);
    let (work, (from, to)) = (Work::sum(work?), stopped.context("a server could not be stopped")?);
    close(&mut workers).await?;
    let is_broken = trial.breaks(Break::Nodes);
    ensure!(is_broken || work.errors.is_empty(), "with one node hung, a lock failed: {}", work.errors.join("; "));

    let events = trial.register.history(NAME);
    let verdict = checker::check(&events);
    // What was under way when they stopped may still have got through.
    let late = from + (to - from) / 4;
    let meanwhile = events.iter().filter(|event| matches!(event.what, What::Entered { .. }) && event.at > late);
    let meanwhile = meanwhile.filter(|event| event.at < to).count() as u64;
    Ok(Check::new(
        "it goes on while a server hangs, with one holder at a time",
        verdict.exclusive() && verdict.tokens_rise() && meanwhile > 0,
        format!(
            "{} of {} entries while {hung} of {all} servers hung, {} overlaps",
            count(meanwhile),
            count(verdict.entries),
            count(verdict.overlaps + verdict.lost_entries)
        ),
    ))
}
