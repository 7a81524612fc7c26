//! What the report draws: data alone, as the trials have it. Times are in nanoseconds, by [`clock::now`](super::clock::now).

use super::latency::Latency;
use super::tally::Tally;

/// A chart.
#[derive(Debug, Clone)]
pub enum Figure {
    /// How long something took.
    Latency { of: &'static str, times: Latency },
    /// Who had what when.
    Lanes(Lanes),
    /// How many a second, over time.
    Rate(Rate),
    /// How much there was of something, over time.
    Levels(Levels),
}

/// Rows along the time, with bars in them.
#[derive(Debug, Clone, Default)]
pub struct Lanes {
    pub title: String,
    /// What a bar means.
    pub note: String,
    /// From top to bottom.
    pub rows: Vec<String>,
    /// What the colours stand for; empty where a row has but one.
    pub colours: Vec<String>,
    pub bars: Vec<Bar>,
    pub marks: Vec<Mark>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    pub row: usize,
    pub colour: usize,
    pub from: u64,
    pub to: u64,
}

/// Something that happened to all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub at: u64,
    pub what: String,
}

impl Mark {
    pub fn new(at: u64, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

#[derive(Debug, Clone)]
pub struct Rate {
    pub title: String,
    /// Of what, as in "grants a second".
    pub of: &'static str,
    pub tally: Tally,
    pub marks: Vec<Mark>,
}

#[derive(Debug, Clone)]
pub struct Levels {
    pub title: String,
    /// Of what, as in "jobs".
    pub of: &'static str,
    /// A name for each, and what it was at each time.
    pub series: Vec<(&'static str, Vec<(u64, u64)>)>,
    pub marks: Vec<Mark>,
}

impl Figure {
    pub fn latency(of: &'static str, times: Latency) -> Self {
        Self::Latency { of, times }
    }

    pub fn rate(title: impl Into<String>, of: &'static str, tally: Tally, marks: Vec<Mark>) -> Self {
        Self::Rate(Rate { title: title.into(), of, tally, marks })
    }
}
