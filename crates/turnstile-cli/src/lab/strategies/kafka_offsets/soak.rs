//! Workers that are killed in the middle, again and again, while the broker is at times away.

use std::time::Duration;

use anyhow::Result;
use kafka_offsets::metadata::DEFAULT_LIMIT;

use super::orders::Fault as Planted;
use super::{LITTLE, RECORDS, compare, killed, scene};
use crate::lab::breaks::Break;
use crate::lab::findings::Check;
use crate::lab::kafka::soak::trial;
use crate::lab::soak::{Fault, Ills, Round, Soaked};
use crate::lab::words::count;

const ILLS: Ills = Ills {
    kinds: &[Fault::Kill],
    lasts: Duration::from_millis(1)..Duration::from_millis(2),
    rest: Duration::from_secs(1)..Duration::from_secs(5),
};

pub async fn run(round: &Round<'_>) -> Result<Soaked> {
    let trial = trial(round, "kafka-offsets")?;
    let planted = if trial.breaks(Break::Codec) { Some(Planted::Blind) } else { None };
    let planted = if trial.breaks(Break::Tail) { Some(Planted::TailIsDone) } else { planted };
    let mut faults = round.begin("kafka-offsets", &ILLS).await;
    let (mut operations, mut broken, mut over) = (0, Vec::new(), false);
    while !over {
        let step = faults.next().await;
        over = step.is_none();
        if over {
            round.calm().await;
        }
        let limit = step.map_or(DEFAULT_LIMIT, |step| LITTLE + step.whom % DEFAULT_LIMIT);
        let once = async { killed(&scene(&trial, "soak").await?, limit, planted).await };
        let (before, after) = match once.await {
            Ok(did) => did,
            // A client of its own that gives up when the broker goes away has shown nothing; in the calm it has to come through.
            Err(error) if over => return Err(error),
            Err(_) => {
                step.iter().for_each(|step| faults.missed(step));
                continue;
            }
        };
        let (repeated, since, missing) = compare(&before, &after);
        operations += RECORDS as u64;
        // What does not fit is repeated; what fits is not.
        let room = before.metadata + 16 < limit;
        if missing > 0 || since != before.untold.len() || (room && repeated > 0) {
            broken.push(format!("{limit} bytes: {missing} missed, {since} since the commit, {repeated} repeated"));
        }
    }
    let observed = format!("{} records; {}", count(operations), broken.join("; "));
    let claim = "what is done beyond the commit point survives a crash as far as there is room, and nothing is missed";
    round.judged("kafka-offsets", (operations, faults), [Check::new(claim, broken.is_empty(), observed)], &broken)
}
