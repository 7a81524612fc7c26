//! Claims on a group of which a member is killed in the middle of its work, after another has joined.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;
use turnstile_testkit::history::{Fault as Harm, Rule, Verdict};

use super::orders::{Fault, Order};
use super::{PACE, PARTITIONS, SESSION, WORK_MS, close, come, gather, join, name, planted, spread};
use crate::lab::breaks::Break;
use crate::lab::clock;
use crate::lab::figures::{Figure, Mark};
use crate::lab::findings::Check;
use crate::lab::kafka::{Trial, pictures, takeover};
use crate::lab::metrics::Records;
use crate::lab::words::{count, millis};

pub const FAULTS: &[(Break, Fault)] = &[
    (Break::CommitFirst, Fault::CommitFirst),
    (Break::Revoke, Fault::GoOn),
    (Break::InOrder, Fault::AllAtOnce),
    (Break::CommitBack, Fault::CommitBack),
    (Break::Start, Fault::StartEarlier),
];
/// The longest that a take-over is waited for.
const TAKEOVER: Duration = SESSION.saturating_mul(15);

/// Two members, a third that joins, and the first that is killed.
pub async fn run(trial: &Trial<'_>, records: &mut Records, figures: &mut Vec<Figure>) -> Result<[Check; 6]> {
    let part = trial.lab.time.max(Duration::from_secs(2)) / 4;
    trial.phase("three members on 8 partitions: one joins late, one is killed");
    let fault = planted(trial, FAULTS);
    let scene = trial.scene("killed", PARTITIONS).await?;
    let mut workers = scene.workers(3).await?;
    let observer = scene.observer()?;
    // A consumer with a fault is to have more in hand than it can do: that is when it shows.
    let mut joins: Vec<_> = (0..3).map(|number| join(&scene, number, fault)).collect();
    joins.iter_mut().filter(|_| fault.is_some()).for_each(|join| join.work_ms = WORK_MS * 2);
    gather(&scene, &mut workers[..2], &joins[..2]).await?;
    let producer = scene.producer(PACE)?;
    sleep(part).await;
    let joined = clock::now();
    workers[2].ask::<()>(&Order::Join(joins[2].clone())).await?;
    come(&mut workers, TAKEOVER, spread(PARTITIONS, 1)).await?;
    sleep(part).await;
    let mut victim = workers.remove(0);
    let killed = scene.kill(&mut victim, &name(0)).await?;
    come(&mut workers, TAKEOVER, spread(PARTITIONS, 1)).await?;
    sleep(part).await;
    let produced = producer.end()?;
    scene.settled(&observer, &produced.ends).await?;
    let verdict = close(&scene, &mut workers).await?;
    drop(observer);

    let events = scene.history.events()?;
    let took = takeover(&events, &name(0), killed);
    let marks = || [vec![Mark::new(joined, "member 2 joins")], pictures::kills(&events)].concat();
    figures.push(pictures::owners("Rebalances: one joins, one is killed", &events, marks()));
    figures.push(pictures::done("Throughput meanwhile, at a steady pace", &events, marks()));
    records.takeover_kill_ms = took.map(|took| took.as_secs_f64() * 1e3);
    let blamed = verdict.blames.iter().find(|blame| blame.fault == Harm::Kill);
    let (in_flight, repeated) = blamed.map_or((0, 0), |blame| (blame.in_flight, blame.duplicates));
    records.duplicates_kill = verdict.duplicates;

    let took = took.map_or_else(|| "nobody took over".to_owned(), |took| format!("taken over in {}", millis(took)));
    let lost = verdict.broken(Rule::NoLoss) as u64;
    let seen = count(verdict.commits_seen);
    Ok([
        claim(
            &verdict,
            "no record is lost when a member is killed",
            &[Rule::NoLoss],
            format!("{} records, {} done, {} lost; {took}", count(verdict.produced), count(verdict.done), count(lost)),
        ),
        claim(
            &verdict,
            "one member at a time works on a partition",
            &[Rule::OneMember],
            format!("{} attempts under {} assignments", count(verdict.attempts), verdict.assignments),
        ),
        claim(
            &verdict,
            "the records of a partition are handled in order, one at a time",
            &[Rule::InOrder, Rule::OneAttempt, Rule::Counted],
            format!("{} attempts in {PARTITIONS} partitions", count(verdict.attempts)),
        ),
        claim(
            &verdict,
            "the committed offset never passes a record that is not done",
            &[Rule::CommitNotAhead],
            format!("{seen} commits seen"),
        ),
        claim(&verdict, "the committed offset never goes back", &[Rule::CommitNotBack], format!("{seen} commits seen")),
        claim(
            &verdict,
            "after a kill no more is repeated than was in flight, from the commit on",
            &[Rule::Explained, Rule::FromCommit],
            format!("{repeated} repeated of {in_flight} begun and not seen committed"),
        ),
    ])
}

/// What the checker says of these rules.
pub fn claim(verdict: &Verdict, claim: &'static str, rules: &[Rule], mut observed: String) -> Check {
    let breaches: usize = rules.iter().map(|rule| verdict.broken(*rule)).sum();
    observed.push_str(&format!(", {breaches} breaches"));
    if let Some(first) = verdict.breaches.iter().find(|breach| rules.contains(&breach.rule)) {
        observed.push_str(&format!(": {}", first.text));
    }
    Check::new(claim, rules.iter().all(|rule| verdict.holds(*rule)), observed)
}
