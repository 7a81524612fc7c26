//! Charts of a queue whose workers die: who was at work when, how many jobs were done, and how many waited.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result};
use redis_streams::Queue;
use tokio::time::sleep;

use crate::lab::clock;
use crate::lab::figures::{Bar, Figure, Lanes, Levels, Mark};

/// How often is looked.
const EACH: Duration = Duration::from_millis(50);
/// A rest that is longer than this is seen as one.
const REST: u64 = 100_000_000;

pub fn levels() -> Levels {
    let names = ["in hand, or to be tried again", "not fetched yet"];
    let series = names.into_iter().map(|name| (name, Vec::new())).collect();
    Levels { title: "Jobs that are not done yet".to_owned(), of: "jobs", series, marks: Vec::new() }
}

/// Looks at the queue again and again; ends by an error alone.
pub async fn watch(queue: &Queue, levels: &mut Levels) -> Result<Infallible> {
    loop {
        let stats = queue.stats().await?;
        let now = clock::now();
        for ((_, values), value) in levels.series.iter_mut().zip([Some(stats.pending), stats.unread]) {
            values.extend(value.map(|value| (now, value)));
        }
        sleep(EACH).await;
    }
}

/// Of these events, and of what was seen of the queue.
pub fn of(events: &[String], levels: Levels, marks: &[Mark]) -> Result<[Figure; 3]> {
    let mut at_work: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    let mut done = Vec::new();
    for event in events {
        let words: Vec<&str> = event.split(' ').collect();
        let [what, who, _, _, at] = words[..] else { continue };
        let at: u64 = at.parse().context("an event without a time")?;
        if what == "done" {
            done.push(at);
        }
        let spans = at_work.entry(who).or_default();
        match spans.last_mut() {
            Some((_, to)) if at.saturating_sub(*to) < REST => *to = at.max(*to),
            _ => spans.push((at, at)),
        }
    }
    let bars = at_work
        .values()
        .enumerate()
        .flat_map(|(row, spans)| spans.iter().map(move |(from, to)| Bar { row, colour: row, from: *from, to: *to }));
    let lanes = Lanes {
        title: "Workers: one is killed, one is stopped".to_owned(),
        note: "A bar is a time in which a worker began or ended jobs without a rest of 100 ms.".to_owned(),
        rows: at_work.keys().map(|who| who.replace('w', "worker ")).collect(),
        bars: bars.collect(),
        marks: marks.to_vec(),
        ..Lanes::default()
    };
    let tally = done.into_iter().collect();
    let rate = Figure::rate("Throughput meanwhile, at a steady pace", "jobs done a second", tally, marks.to_vec());
    Ok([Figure::Lanes(lanes), rate, Figure::Levels(Levels { marks: marks.to_vec(), ..levels })])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_parts_the_bars_of_a_worker() {
        let events = ["begin w0 k 0 1", "done w0 k 0 50000000", "begin w1 k 1 7", "again w0 k 2 400000000"];
        let events: Vec<String> = events.map(str::to_owned).into();
        let [Figure::Lanes(lanes), Figure::Rate(rate), _] = of(&events, levels(), &[]).unwrap() else {
            panic!("other charts")
        };
        assert_eq!(lanes.rows, ["worker 0", "worker 1"]);
        let bars: Vec<_> = lanes.bars.iter().map(|bar| (bar.row, bar.from, bar.to)).collect();
        assert_eq!(bars, [(0, 1, 50_000_000), (0, 400_000_000, 400_000_000), (1, 7, 7)]);
        assert_eq!(rate.tally, [50_000_000].into_iter().collect());
    }
}
