//! Random faults over the members of a group, with lanes or without.

use anyhow::Result;
use turnstile_testkit::history::{Order as Judged, Rule, check};

use super::killed::{FAULTS, claim};
use super::orders::{Join, Lanes, Left, Order};
use super::{PARTITIONS, join, planted};
use crate::lab::findings::Check;
use crate::lab::kafka::soak::{Patient, SESSION, trial};
use crate::lab::kafka::{PATIENCE, Pace};
use crate::lab::soak::{Round, Soaked};
use crate::lab::words::count;

/// All strategies of Kafka share a broker and a machine.
const PACE: Pace = Pace { per_second: 150, ..super::PACE };

pub async fn run(round: &Round<'_>, strategy: &'static str, lanes: Option<Lanes>) -> Result<Soaked> {
    let trial = trial(round, strategy)?;
    let fault = planted(&trial, FAULTS);
    let judged = if lanes.is_some() { Judged::Key } else { Judged::Partition };
    let session_ms = u64::try_from(SESSION.as_millis())?;
    let scene = trial.scene("soak", PARTITIONS).await?;
    let first = join(&scene, 0, fault);
    let mut patient = Patient::start(round, &trial, scene, Some(PACE)).await?;
    let order =
        |number| Order::Join(Join { who: super::name(number), session_ms, lanes: lanes.clone(), ..first.clone() });
    let (_, settled, faults) = patient.endure(round, strategy, order, &Order::Stand).await?;
    for worker in &mut patient.workers {
        worker.tell(&Order::Leave).await?;
        worker.hear::<Left>(PATIENCE).await?;
    }
    let events = patient.scene.history.events()?;
    let verdict = check(&events, judged);
    let records = count(verdict.produced);
    let observed = format!(
        "{records} records, {} repeated; all committed at the end: {settled}; {}",
        verdict.duplicates, patient.last_words
    );
    // What is repeated is counted and not judged: on a machine that does so much, a member may be missed without a fault of ours.
    let rules: Vec<_> = Rule::ALL.into_iter().filter(|rule| *rule != Rule::Explained).collect();
    let checks = [
        Check::new("all is committed once the faults are over", settled, &observed),
        claim(&verdict, "no history breaks a rule of groups", &rules, observed),
    ];
    round.judged(strategy, (verdict.done, faults), checks, events.iter().map(|event| format!("{event:?}")))
}
