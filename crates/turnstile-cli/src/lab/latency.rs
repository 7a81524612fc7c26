//! How long things took: histograms that workers send to the lab, where they are added up.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Durations in nanoseconds, to three digits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// Notes one that took `nanos`.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.max(1));
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        // It fails only for a histogram of other bounds.
        let _ = self.0.add(&other.0);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The shortest and the longest, in nanoseconds, if there are any.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        (!self.0.is_empty()).then(|| (self.0.min(), self.0.max()))
    }

    /// Nanoseconds, and how many took about as long.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value()))
    }

    /// The time in microseconds that this share of them took at most.
    pub fn micros(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 / 1e3 }
    }
}

impl Default for Latency {
    #[allow(clippy::expect_used, reason = "the bounds are constants, and they are good")]
    fn default() -> Self {
        // Up to an hour.
        Self(Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("good bounds"))
    }
}

impl From<Vec<(u64, u64)>> for Latency {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut latency = Self::default();
        for (value, count) in pairs {
            let _ = latency.0.record_n(value, count);
        }
        latency
    }
}

impl From<Latency> for Vec<(u64, u64)> {
    fn from(latency: Latency) -> Self {
        latency.recorded().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives_and_adds_up() {
        let mut latency = Latency::default();
        for micros in 1..=1000 {
            latency.record(micros * 1000);
        }
        let sent = serde_json::to_string(&latency).unwrap();
        let mut sum: Latency = serde_json::from_str(&sent).unwrap();
        sum.add(&latency);
        assert_eq!(sum.count(), 2000);
        assert!((495.0..505.0).contains(&sum.micros(0.5)), "{}", sum.micros(0.5));
        assert!((985.0..1005.0).contains(&sum.micros(0.99)), "{}", sum.micros(0.99));
        assert_eq!(Latency::default().micros(0.5), 0.0);
    }
}
