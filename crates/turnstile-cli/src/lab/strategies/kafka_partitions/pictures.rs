//! A chart of a change: when each of its steps was under way.

use kafka_partitions::Step;

use crate::lab::figures::{Bar, Figure, Lanes};

/// Of a change that began at `begun`, and of when its steps were done.
pub fn steps(title: &str, begun: u64, steps: &[(Step, u64)]) -> Figure {
    let froms = std::iter::once(begun).chain(steps.iter().map(|(_, at)| *at));
    let bars = froms.zip(steps).enumerate().map(|(row, (from, (_, to)))| Bar { row, colour: row, from, to: *to });
    Figure::Lanes(Lanes {
        title: title.to_owned(),
        note: "A bar is the time that a step took. Writers wait from closed to switched.".to_owned(),
        rows: steps.iter().map(|(step, _)| format!("{step:?}").to_lowercase()).collect(),
        bars: bars.collect(),
        ..Lanes::default()
    })
}
