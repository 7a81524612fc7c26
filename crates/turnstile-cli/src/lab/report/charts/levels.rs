//! How much there was of something over time: a line for each.

use super::{HEIGHT, Time, colour, figure, heights, legend};
use crate::lab::figures::Levels;
use crate::lab::report::axis::Linear;
use crate::lab::report::svg::Plot;
use crate::lab::words::count;

/// The most points that are drawn of a line.
const POINTS: usize = 200;

pub fn of(levels: &Levels, id: &str) -> Option<String> {
    let points = || levels.series.iter().flat_map(|(_, values)| values.iter().copied());
    let (begin, end) = (points().map(|(at, _)| at).min()?, points().map(|(at, _)| at).max()?);
    let time = Time::new(begin, end);
    let axis = Linear::new(points().map(|(_, value)| value).max()? as f64, 4, true);
    let mut plot = Plot::new(HEIGHT);
    time.draw(&mut plot);
    heights(&mut plot, &axis, HEIGHT, "");
    let mut seen = String::new();
    for (nth, (name, values)) in levels.series.iter().enumerate() {
        let class = format!("line {}", colour(nth));
        let together = values.len().div_ceil(POINTS).max(1);
        // Of several, the one that is highest: a short peak is not to be overlooked.
        let drawn = values.chunks(together).filter_map(|chunk| chunk.iter().max_by_key(|(_, value)| *value));
        let drawn: Vec<_> =
            drawn.map(|(at, value)| (time.place(*at), HEIGHT * (1.0 - axis.place(*value as f64)))).collect();
        for pair in drawn.windows(2) {
            plot.line(&class, pair[0], pair[1]);
        }
        let most = values.iter().map(|(_, value)| *value).max().unwrap_or(0);
        let last = values.last().map_or(0, |(_, value)| *value);
        seen.push_str(&format!("{name}: up to {}, {} at the end. ", count(most), count(last)));
    }
    seen.push_str(&time.mark(&mut plot, &levels.marks));
    let note = format!("{}, by looking at the server now and then.", levels.of);
    let names = legend(levels.series.iter().map(|(name, _)| *name));
    Some(figure(&levels.title, &note, &plot.picture(id, &levels.title, &seen), &names))
}
