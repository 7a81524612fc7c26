//! What the lab finds out about a strategy.

use serde::Serialize;

use super::history::Stay;
use super::latency::Latency;

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

/// What was measured, under contention and without faults.
#[derive(Debug, Default, Serialize)]
pub struct Metrics {
    /// Grants a second of all processes together; where nothing is granted, script calls.
    pub per_second: f64,
    /// From asking to having, half of all.
    pub p50_us: f64,
    /// From asking to having, 99 of 100.
    pub p99_us: f64,
    /// The longest wait, those that were not over at the end included.
    pub max_wait_ms: f64,
    /// Commands that clients sent, a grant: a script counts as one, as it is one round trip.
    pub commands_per_grant: f64,
    /// Commands that the server ran, a grant: a script and each command in it.
    pub server_commands_per_grant: f64,
    pub grants: u64,
    /// Those of them that went from one task to the next in memory, without the server.
    pub handed_over: u64,
    pub processes: u32,
    /// In each process.
    pub tasks: u32,
    pub seconds: f64,
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
