//! Random faults over copiers; what is read as committed at the end is to be f of the input all the same.

use anyhow::{Context, Result};
use kafka_txn::Isolation;

use super::checks::{Judged, judge, read};
use super::{Guards, Job, Order, Standing, scene};
use crate::lab::breaks::Break;
use crate::lab::findings::Check;
use crate::lab::kafka::soak::{Patient, SESSION, trial};
use crate::lab::kafka::{PATIENCE, Pace};
use crate::lab::soak::{Round, Soaked};
use crate::lab::words::count;

const PACE: Pace = Pace { per_second: 150, poison: None, recorded: false };

pub async fn run(round: &Round<'_>) -> Result<Soaked> {
    let trial = trial(round, "kafka-txn")?;
    let (scene, job) = scene(&trial, "soak").await?;
    let guards = match (trial.breaks(Break::Transaction), trial.breaks(Break::KeyOrder)) {
        (true, _) => Guards::NoTransaction,
        (_, true) => Guards::NoOrder,
        _ => Guards::All,
    };
    let order = |_| Order::Copy(Job { session: SESSION, guards, ..job.clone() });
    let straight = scene.brokers.clone();
    let mut patient = Patient::start(round, &trial, scene, Some(PACE)).await?;
    let (produced, settled, faults) = patient.endure(round, "kafka-txn", order, &Order::Stand).await?;
    for worker in &mut patient.workers {
        worker.tell(&Order::Leave).await?;
        worker.hear::<Standing>(PATIENCE).await.context("a copier does not leave")?;
    }
    patient.scene.brokers = straight;
    let isolation = if trial.breaks(Break::Isolation) { Isolation::Everything } else { Isolation::Committed };
    let seen = read(&patient.scene, &job.to, isolation).await?;
    let Judged { right, missing, twice, foreign, out_of_order } = judge(&seen, &produced.ends)?;
    let checks = [
        Check::new(
            "what is read as committed is f of the input, each once",
            settled && missing == 0 && twice == 0 && foreign == 0,
            format!(
                "{} records, {} copied, {missing} missing, {twice} twice, {foreign} from nowhere; all committed: {settled}; {}",
                count(produced.records),
                count(right),
                patient.last_words
            ),
        ),
        Check::new(
            "outputs of a key are in the order of its input",
            out_of_order == 0,
            format!("{} outputs, {out_of_order} out of order", count(right)),
        ),
    ];
    round.judged("kafka-txn", (right, faults), checks, seen.iter().map(|record| format!("{record:?}")))
}
