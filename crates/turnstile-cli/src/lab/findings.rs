//! What the lab finds out about a strategy.

use serde::Serialize;

use super::history::Stay;
use super::latency::Latency;
use super::metrics::Metrics;

/// All that was found out about one strategy.
#[derive(Debug, Serialize)]
pub struct Findings {
    pub name: &'static str,
    pub metrics: Metrics,
    pub checks: Vec<Check>,
    /// For the report alone.
    #[serde(skip)]
    pub latency: Latency,
    /// What the latency is of.
    #[serde(skip)]
    pub latency_of: &'static str,
    /// Who held it when, for the report alone; empty where nothing is held.
    #[serde(skip)]
    pub stays: Vec<Stay>,
}

impl Findings {
    /// Whether each claim held.
    pub fn all_held(&self) -> bool {
        self.checks.iter().all(|check| check.held)
    }
}

/// A claim, and what became of it.
#[derive(Debug, Serialize)]
pub struct Check {
    pub claim: &'static str,
    pub held: bool,
    pub observed: String,
}

impl Check {
    pub fn new(claim: &'static str, held: bool, observed: impl Into<String>) -> Self {
        Self { claim, held, observed: observed.into() }
    }
}
