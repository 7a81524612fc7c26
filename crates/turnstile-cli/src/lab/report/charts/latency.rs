//! How long something took: how many of all in each tenth of a decade, and its quantiles.

use super::{HEIGHT, figure, heights};
use crate::lab::latency::Latency;
use crate::lab::report::axis::{Decades, Linear, time};
use crate::lab::report::svg::Plot;
use crate::lab::words::{count, micros};

/// Bars in a decade.
const FINE: i32 = 10;
const QUANTILES: [(&str, f64); 6] =
    [("half", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("99.9 %", 0.999), ("99.99 %", 0.9999), ("all", 1.0)];

pub fn of(of: &str, times: &Latency, id: &str) -> Option<String> {
    let all = times.count();
    let (least, most) = times.bounds()?;
    let decades = Decades::over(least, most);
    let mut bars = vec![0_u64; usize::try_from((decades.to - decades.from) * FINE).ok()?];
    for (nanos, count) in times.recorded() {
        let bar = (decades.place(nanos as f64) * bars.len() as f64) as usize;
        let last = bars.len() - 1;
        bars[bar.min(last)] += count;
    }
    let share = |count: u64| 100.0 * count as f64 / all as f64;
    let axis = Linear::new(share(bars.iter().copied().max()?), 4, true);
    let mut plot = Plot::new(HEIGHT);
    heights(&mut plot, &axis, HEIGHT, " %");
    let width = 1.0 / bars.len() as f64;
    for (nth, bar) in bars.iter().enumerate().filter(|(_, bar)| **bar > 0) {
        let height = (axis.place(share(*bar)) * HEIGHT).max(0.7);
        plot.bar("c0", nth as f64 * width, width * 0.94, HEIGHT - height, height);
    }
    for tick in decades.ticks() {
        plot.tick(decades.place(tick), &time(tick, tick));
    }
    let told = |quantile: f64| micros(times.micros(quantile));
    for (name, quantile) in [("half", 0.5), ("99 %", 0.99), ("longest", 1.0)] {
        plot.mark(decades.place(times.micros(quantile) * 1e3), &format!("{name} {}", told(quantile)));
    }
    let title = format!("Latency of {of}");
    let seen = format!(
        "{} in all. Half took at most {}, 99 % at most {}, the longest {}.",
        count(all),
        told(0.5),
        told(0.99),
        told(1.0)
    );
    let cells = QUANTILES.map(|(name, quantile)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", told(quantile)));
    let after = format!("<dl class=quantiles>{}</dl>\n", cells.concat());
    let note = format!(
        "{} in all; a bar is the share that took so long. Each step of the axis is ten times the one before.",
        count(all)
    );
    Some(figure(&title, &note, &plot.picture(id, &title, &seen), &after))
}
