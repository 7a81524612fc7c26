//! Claim: a member that leaves in an orderly way has nothing repeated.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;
use turnstile_testkit::history::Rule;

use super::killed::claim;
use super::orders::{Fault, Left, Order};
use super::{PACE, PARTITIONS, SESSION, close, come, gather, join, name, planted, spread};
use crate::lab::breaks::Break;
use crate::lab::clock;
use crate::lab::figures::{Figure, Mark};
use crate::lab::findings::Check;
use crate::lab::kafka::{Trial, pictures, takeover};
use crate::lab::metrics::Records;
use crate::lab::words::{count, millis};

/// Two members, of which one leaves.
pub async fn run(trial: &Trial<'_>, records: &mut Records, figures: &mut Vec<Figure>) -> Result<Check> {
    let part = trial.lab.time.max(Duration::from_secs(2)) / 4;
    trial.phase("two members on 8 partitions: one leaves in an orderly way");
    let fault = planted(trial, &[(Break::HandOver, Fault::NoLastCommit)]);
    let scene = trial.scene("leaving", PARTITIONS).await?;
    let mut workers = scene.workers(2).await?;
    let observer = scene.observer()?;
    let joins = [0, 1].map(|number| join(&scene, number, fault));
    gather(&scene, &mut workers, &joins).await?;
    let producer = scene.producer(PACE)?;
    sleep(part).await;
    let asked = clock::now();
    workers.remove(0).ask::<Left>(&Order::Leave).await?;
    come(&mut workers, SESSION * 15, spread(PARTITIONS, 1)).await?;
    sleep(part).await;
    let produced = producer.end()?;
    scene.settled(&observer, &produced.ends).await?;
    let verdict = close(&scene, &mut workers).await?;

    let events = scene.history.events()?;
    let took = takeover(&events, &name(0), asked);
    let marks = vec![Mark::new(asked, "member 0 leaves")];
    figures.push(pictures::owners("A rebalance: one leaves in an orderly way", &events, marks));
    records.takeover_leave_ms = took.map(|took| took.as_secs_f64() * 1e3);
    records.duplicates_leave = Some(verdict.duplicates);
    let took = took.map_or_else(|| "nobody took over".to_owned(), |took| format!("taken over in {}", millis(took)));
    Ok(claim(
        &verdict,
        "an orderly leave loses nothing and repeats nothing",
        &[Rule::NoLoss, Rule::Explained, Rule::OneMember, Rule::NotAfterGivenUp],
        format!("{} records, {} repeated; {took}", count(verdict.produced), count(verdict.duplicates)),
    ))
}
