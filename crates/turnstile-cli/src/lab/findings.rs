//! What the lab finds out about a strategy.

use serde::Serialize;

use super::breaks::Break;
use super::figures::Figure;
use super::metrics::Metrics;
use super::strategies::Strategy;

/// What can be said of a strategy before anything is measured: a row of the table, but for its numbers.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct About {
    /// What must be run and known.
    pub complexity: &'static str,
    /// What it promises in short; the checks say whether that held.
    pub guarantees: &'static str,
    pub limits: &'static str,
    /// The guards that `--break` takes away, each of which is seen to break a claim.
    pub guards: &'static [Break],
}

/// All that was found out about one strategy.
#[derive(Debug, Serialize)]
pub struct Findings {
    pub name: &'static str,
    #[serde(flatten)]
    pub about: About,
    pub metrics: Metrics,
    pub checks: Vec<Check>,
    /// For the report alone.
    #[serde(skip)]
    pub figures: Vec<Figure>,
}

impl Findings {
    pub fn of(strategy: &dyn Strategy, metrics: Metrics, checks: Vec<Check>, figures: Vec<Figure>) -> Self {
        Self { name: strategy.name(), about: strategy.about(), metrics, checks, figures }
    }

    /// How many claims held.
    pub fn held(&self) -> usize {
        self.checks.iter().filter(|check| check.held).count()
    }

    /// Whether each claim held.
    pub fn all_held(&self) -> bool {
        self.held() == self.checks.len()
    }

    /// "7 of 7 claims held".
    pub fn verdict(&self) -> String {
        format!("{} of {} claims held", self.held(), self.checks.len())
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
