//! Who had what when: rows along the time, with a bar for each stay.

use super::{Time, colour, figure, legend};
use crate::lab::figures::Lanes;
use crate::lab::report::svg::Plot;
use crate::lab::words::{count, micros};

/// The height of a row, in pixels.
const ROW: f64 = 22.0;

pub fn of(lanes: &Lanes, id: &str) -> Option<String> {
    let begin = lanes.bars.iter().map(|bar| bar.from).min()?;
    let end = lanes.bars.iter().map(|bar| bar.to).max()?;
    let time = Time::new(begin, end);
    let mut plot = Plot::new(ROW * lanes.rows.len() as f64);
    time.draw(&mut plot);
    for (row, name) in lanes.rows.iter().enumerate() {
        plot.at_left(ROW * (row as f64 + 0.5), name);
    }
    for bar in &lanes.bars {
        let (from, to) = (time.place(bar.from), time.place(bar.to));
        let y = ROW * bar.row as f64;
        plot.bar(&colour(bar.colour), from, to - from, y + 3.0, ROW - 6.0);
        // The number of whom it is, where there is room, so that it is not told by colour alone.
        let number = lanes.colours.get(bar.colour).and_then(|name| name.rsplit(' ').next());
        if let Some(number) = number.filter(|_| to - from > 0.07) {
            plot.text("in", (from + to) / 2.0, y + ROW / 2.0 + 4.0, number);
        }
    }
    let happened = time.mark(&mut plot, &lanes.marks);
    let mut seen = format!(
        "{} bars in {} rows over {}.",
        count(lanes.bars.len() as u64),
        lanes.rows.len(),
        micros(time.length() / 1e3)
    );
    for (row, name) in lanes.rows.iter().enumerate() {
        let bars = lanes.bars.iter().filter(|bar| bar.row == row);
        let whose = |bar: &crate::lab::figures::Bar| lanes.colours.get(bar.colour).cloned();
        let mut owners: Vec<String> = bars.clone().filter_map(whose).collect();
        owners.dedup();
        let owners = if owners.is_empty() { String::new() } else { format!(", {}", owners.join(", then ")) };
        let sum: u64 = bars.clone().map(|bar| bar.to - bar.from).sum();
        // Where bars are many, who they were one after another is no help to anybody.
        let owners = if bars.clone().count() > 8 { String::new() } else { owners };
        seen.push_str(&format!(
            " {name}: {} bars, {} in all{owners}.",
            count(bars.count() as u64),
            micros(sum as f64 / 1e3)
        ));
    }
    seen.push_str(&happened);
    let after = if lanes.colours.is_empty() { String::new() } else { legend(lanes.colours.iter().map(String::as_str)) };
    Some(figure(&lanes.title, &lanes.note, &plot.picture(id, &lanes.title, &seen), &after))
}
