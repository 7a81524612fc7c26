//! How many partitions a topic should have.

use std::fmt::Write;
use std::time::Duration;

use kafka_partitions::{Advice, Bearing, Cluster, Demand, Load};
use serde::Serialize;

use super::{PlanArgs, print};
use crate::exit::{self, Failure};
use crate::lock::printable;

/// How long reading for `--skew` may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What `--json` prints. Fields may be added; `schema` rises when one changes its meaning.
#[derive(Serialize)]
struct Answer {
    schema: u32,
    topic: String,
    /// What it has now.
    partitions: i32,
    advice: Advice,
    load: Load,
    /// What the brokers would bear; none if that is more than they should.
    bearing: Option<Bearing>,
    /// Why the brokers should not bear that.
    overload: Option<String>,
}

pub async fn run(cluster: &Cluster, args: &PlanArgs, json: bool) -> Result<u8, Failure> {
    let topic = cluster.topic(&args.topic).await?;
    let mut demand = Demand::new(args.rate, args.time).members(args.members).at_once(args.at_once);
    if let Some(sample) = args.skew
        && let Some(share) = cluster.skew(&args.topic, sample, LIMIT).await?.hottest_share()
    {
        demand = demand.hottest_key(share);
    }
    let advice = demand.advice().map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
    let load = cluster.load().await?;
    let more = u64::try_from(advice.partitions - topic.count()).unwrap_or(0);
    let bearing = args.limits.limits().check(&load, more, topic.replication().unsigned_abs().into());
    let overload = bearing.as_ref().err().map(ToString::to_string);
    let (name, partitions) = (topic.name.clone(), topic.count());
    let answer = Answer { schema: 1, topic: name, partitions, advice, load, bearing: bearing.ok(), overload };
    print(json, &answer, || words(&answer));
    Ok(0)
}

fn words(answer: &Answer) -> String {
    let Answer { topic, partitions, advice, bearing, overload, .. } = answer;
    let mut text = format!("{}: has {partitions} partitions, needs {}\n", printable(topic), advice.partitions);
    let _ = writeln!(text, "{:.1} records are in work at any time: {} partitions", advice.in_work, advice.to_read);
    if advice.members > 1 {
        let _ = writeln!(text, "a multiple of {} members: {} partitions", advice.members, advice.partitions);
    }
    if advice.too_hot() {
        let _ = writeln!(
            text,
            "the hottest key has {:.1} of them, and a key's records are worked on one at a time: no number of partitions is \
             enough for it; make the handler quicker, or the key finer",
            advice.hottest_key.unwrap_or_default()
        );
    }
    match (bearing, overload) {
        (Some(Bearing { brokers, fullest, before, after, .. }), _) => {
            let _ = writeln!(
                text,
                "the brokers ({brokers}) bear it: broker {fullest} would keep {after} replicas in place of {before}"
            );
        }
        (None, Some(why)) => _ = writeln!(text, "too much for the brokers: {why}"),
        (None, None) => {}
    }
    text
}
