//! The charts: each is a figure with a title, a picture, and what is to be read in its stead.

mod lanes;
mod latency;
mod levels;
mod rate;

use super::axis::{Linear, time};
use super::svg::{Plot, escape};
use crate::lab::figures::{Figure, Mark};

/// The height of a plot that has no rows, in pixels.
const HEIGHT: f64 = 150.0;
/// How many steps an axis of time has where it is narrow.
const STEPS: u32 = 5;

/// The chart of a figure, if there is anything to be drawn.
pub fn of(figure: &Figure, id: &str) -> Option<String> {
    match figure {
        Figure::Latency { of, times } => latency::of(of, times, id),
        Figure::Lanes(lanes) => lanes::of(lanes, id),
        Figure::Rate(rate) => rate::of(rate, id),
        Figure::Levels(levels) => levels::of(levels, id),
    }
}

/// What is around a picture. What comes after it is HTML.
fn figure(title: &str, note: &str, picture: &str, after: &str) -> String {
    format!(
        "<figure>\n<figcaption><strong>{}</strong> {}</figcaption>\n{picture}{after}</figure>\n",
        escape(title),
        escape(note)
    )
}

/// What the colours stand for.
fn legend<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names = names.into_iter().enumerate();
    let names = names.map(|(nth, name)| format!("<li><i class=\"{}\"></i>{}</li>", colour(nth), escape(name)));
    format!("<ul class=legend>{}</ul>\n", names.collect::<String>())
}

fn colour(nth: usize) -> String {
    format!("c{}", nth % 8)
}

/// The time of a chart, from its first moment on.
struct Time {
    begin: u64,
    axis: Linear,
}

impl Time {
    fn new(begin: u64, end: u64) -> Self {
        Self { begin, axis: Linear::new(end.saturating_sub(begin).max(1) as f64, STEPS, false) }
    }

    fn place(&self, at: u64) -> f64 {
        self.axis.place(at.saturating_sub(self.begin) as f64)
    }

    fn length(&self) -> f64 {
        self.axis.top
    }

    fn draw(&self, plot: &mut Plot) {
        for tick in self.axis.ticks() {
            plot.tick(self.axis.place(tick), &time(tick, self.axis.top));
        }
    }

    /// Those that are within the time; also in words.
    fn mark(&self, plot: &mut Plot, marks: &[Mark]) -> String {
        let end = self.begin + self.length() as u64;
        let mut words = String::new();
        for mark in marks.iter().filter(|mark| (self.begin..=end).contains(&mark.at)) {
            plot.mark(self.place(mark.at), &mark.what);
            let at = (mark.at - self.begin) as f64;
            words.push_str(&format!(" At {} s: {}.", (at / 1e7).round() / 1e2, mark.what));
        }
        words
    }
}

/// Lines at even heights with their numbers, for an axis at the left.
fn heights(plot: &mut Plot, axis: &Linear, height: f64, unit: &str) {
    for tick in axis.ticks() {
        let y = height * (1.0 - axis.place(tick));
        plot.line("grid", (0.0, y), (1.0, y));
        plot.at_left(y, &format!("{}{unit}", super::axis::short(tick)));
    }
}
