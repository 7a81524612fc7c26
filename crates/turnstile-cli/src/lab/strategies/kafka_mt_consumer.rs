//! kafka-mt-consumer in the lab: two members, of which one has a key that hangs, and is killed. Its workers are those of
//! kafka-group, with lanes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use tokio::time::sleep;
use turnstile_testkit::history::{Event, How, Order as Judged, Rule, What, check};

use super::Strategy;
use super::kafka_group::killed::claim;
use super::kafka_group::orders::{Fault, Join, LaneOrder, Lanes, Left, Order};
use super::kafka_group::{PACE, PARTITIONS, SESSION, come, gather, join, name, planted, soak, speed, spread, worker};
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::WorkerArgs;
use crate::lab::figures::Figure;
use crate::lab::findings::{About, Check, Findings};
use crate::lab::kafka::{Trial, pictures, takeover};
use crate::lab::metrics::{Metrics, Records};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::words::{count, millis};

/// The key that hangs.
const HANGS: &str = "k7";
/// What was done so long before the kill has long been committed.
const COMMITTED: Duration = Duration::from_secs(2);

/// The strategy.
pub struct KafkaMtConsumer;

#[async_trait]
impl Strategy for KafkaMtConsumer {
    fn name(&self) -> &'static str {
        "kafka-mt-consumer"
    }

    fn about(&self) -> About {
        About {
            complexity: "a Kafka and a group; a handler that bears to run many times at once",
            guarantees: "each record at least once, one after another by key; a key that hangs stops no other",
            limits: "order by key alone; memory for what is in flight; a commit's metadata has room for so much",
            guards: &[Break::Lanes, Break::Stuck, Break::Codec, Break::CommitFirst],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        let lanes = Lanes { order: LaneOrder::Key, metadata: 4096, hangs_at: None };
        let (mut records, mut figures) = speed::measure(&trial, Some(&lanes)).await?;
        let checks = Vec::from(killed(&trial, &mut records, lanes, &mut figures).await?);
        Ok(Findings::of(self, Metrics::Records(records), checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        let order = if round.lab.breaks(Break::Lanes) { LaneOrder::Unordered } else { LaneOrder::Key };
        soak::run(round, self.name(), Some(Lanes { order, metadata: 4096, hangs_at: None })).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        worker::work(args, post).await
    }
}

async fn killed(
    trial: &Trial<'_>,
    records: &mut Records,
    mut lanes: Lanes,
    figures: &mut Vec<Figure>,
) -> Result<[Check; 4]> {
    let part = trial.lab.time.max(COMMITTED) * 2;
    trial.phase("two members on 8 partitions: one has a key that hangs, and is killed");
    lanes.order = match (trial.breaks(Break::Lanes), trial.breaks(Break::Stuck)) {
        (true, _) => LaneOrder::Unordered,
        (_, true) => LaneOrder::Partition,
        _ => lanes.order,
    };
    if trial.breaks(Break::Codec) {
        lanes.metadata = 0;
    }
    let fault = planted(trial, &[(Break::CommitFirst, Fault::CommitFirst)]);
    let scene = trial.scene("stuck", PARTITIONS).await?;
    let mut workers = scene.workers(2).await?;
    let observer = scene.observer()?;
    let joins: Vec<_> = (0..2)
        .map(|number| {
            let hangs_at = (number == 0).then(|| HANGS.to_owned());
            Join { lanes: Some(Lanes { hangs_at, ..lanes.clone() }), ..join(&scene, number, fault) }
        })
        .collect();
    gather(&scene, &mut workers, &joins).await?;
    let producer = scene.producer(PACE)?;
    sleep(part).await;
    let mut victim = workers.remove(0);
    let at = scene.kill(&mut victim, &name(0)).await?;
    come(&mut workers, SESSION * 15, spread(PARTITIONS, 1)).await?;
    let produced = producer.end()?;
    scene.settled(&observer, &produced.ends).await?;
    for worker in &mut workers {
        worker.ask::<Left>(&Order::Leave).await?;
    }
    drop(observer);
    let events = scene.history.events()?;
    let verdict = check(&events, Judged::Key);
    let kills = pictures::kills(&events);
    figures.push(pictures::owners("A rebalance: one whose key hangs is killed", &events, kills.clone()));
    figures.push(pictures::done("Throughput meanwhile, at a steady pace", &events, kills));
    let took = takeover(&events, &name(0), at);
    records.takeover_kill_ms = took.map(|took| took.as_secs_f64() * 1e3);
    records.duplicates_kill = verdict.duplicates;

    let took = took.map_or_else(|| "nobody took over".to_owned(), |took| format!("taken over in {}", millis(took)));
    let lost = verdict.broken(Rule::NoLoss) as u64;
    let (past, beyond) = passed(&events);
    let (again, of) = again(&events, at.saturating_sub(u64::try_from(COMMITTED.as_nanos())?));
    Ok([
        claim(
            &verdict,
            "the records of a key are handled in order, one at a time",
            &[Rule::InOrder, Rule::OneAttempt, Rule::Counted],
            format!("{} attempts of 97 keys in {PARTITIONS} partitions", count(verdict.attempts)),
        ),
        claim(
            &verdict,
            "no record is lost when a member is killed",
            &[Rule::NoLoss],
            format!("{} records, {} done, {} lost; {took}", count(verdict.produced), count(verdict.done), count(lost)),
        ),
        Check::new(
            "a key that hangs stops no other",
            past > 0 && beyond >= 10 * past,
            format!("{beyond} records of other keys were done behind {past} that hung"),
        ),
        Check::new(
            "what was done beyond the commit point is not done again after a kill",
            of > 0 && again == 0,
            format!("{again} of {} done more than {COMMITTED:?} before the kill were done again", count(of)),
        ),
    ])
}

/// How many records hung first in their partition, and how many were done behind them by the same member.
fn passed(events: &[Event]) -> (u64, u64) {
    let mut hung: BTreeMap<i32, i64> = BTreeMap::new();
    let mut beyond = 0;
    for event in events.iter().filter(|event| *event.who == *name(0)) {
        match &event.what {
            What::Started { place, key, .. } if key.as_deref() == Some(HANGS) => {
                hung.entry(place.partition).or_insert(place.offset);
            }
            What::Ended { place, how: How::Done, .. } => {
                beyond += u64::from(hung.get(&place.partition).is_some_and(|at| *at < place.offset));
            }
            _ => {}
        }
    }
    (hung.len() as u64, beyond)
}

/// How many records that the first had done before `time` were begun again by the other, and of how many.
fn again(events: &[Event], time: u64) -> (u64, u64) {
    let first = name(0);
    let done: BTreeSet<_> = events
        .iter()
        .filter_map(|event| match &event.what {
            What::Ended { place, how: How::Done, .. } if *event.who == *first && event.at < time => {
                Some((place.partition, place.offset))
            }
            _ => None,
        })
        .collect();
    let again = events.iter().filter(|event| match &event.what {
        What::Started { place, .. } => *event.who != *first && done.contains(&(place.partition, place.offset)),
        _ => false,
    });
    (again.count() as u64, done.len() as u64)
}
