//! Scales and their ticks. A place on an axis is a share of its length, from 0 to 1.

use crate::lab::words::count;

/// From nothing to some most, in even steps.
pub struct Linear {
    pub top: f64,
    step: f64,
}

impl Linear {
    /// An axis to `most`, with about so many steps; where it may end above `most`, it ends at a tick.
    pub fn new(most: f64, steps: u32, ends_at_a_tick: bool) -> Self {
        let rough = (most / f64::from(steps.max(1))).max(f64::MIN_POSITIVE);
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|nice| nice * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let top = if ends_at_a_tick { (most / step * 0.999).ceil().max(1.0) * step } else { most };
        Self { top, step }
    }

    pub fn place(&self, value: f64) -> f64 {
        (value / self.top).clamp(0.0, 1.0)
    }

    /// The values at which there is a tick, nothing among them.
    pub fn ticks(&self) -> Vec<f64> {
        let ticks = (self.top / self.step * 1.001).floor() as u32;
        (0..=ticks).map(|tick| f64::from(tick) * self.step).collect()
    }
}

/// Of durations in nanoseconds, each tenfold as long as the one before.
pub struct Decades {
    pub from: i32,
    pub to: i32,
}

impl Decades {
    /// From the decade of `least` to that of `most`.
    pub fn over(least: u64, most: u64) -> Self {
        let from = least.max(1).ilog10() as i32;
        let to = most.max(2).saturating_sub(1).ilog10() as i32 + 1;
        Self { from, to: to.max(from + 1) }
    }

    pub fn place(&self, nanos: f64) -> f64 {
        ((nanos.max(1.0).log10() - f64::from(self.from)) / f64::from(self.to - self.from)).clamp(0.0, 1.0)
    }

    /// Where the ticks are, in nanoseconds.
    pub fn ticks(&self) -> Vec<f64> {
        (self.from..=self.to).map(|decade| 10_f64.powi(decade)).collect()
    }
}

/// A number of a tick, in as few characters as it takes.
pub fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e4 => (v / 1e3, " k"),
        v => (v, ""),
    };
    if value >= 1e3 { count(value.round() as u64) } else { format!("{}{unit}", trimmed(value)) }
}

/// Nanoseconds of a tick, where the axis goes to `top`.
pub fn time(nanos: f64, top: f64) -> String {
    let (by, unit) = match top {
        top if top < 1e3 => (1.0, "ns"),
        top if top < 1e6 => (1e3, "µs"),
        top if top < 1e9 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    if nanos == 0.0 { "0".to_owned() } else { format!("{} {unit}", trimmed(nanos / by)) }
}

/// Two digits behind the point at the most.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_even_and_begin_at_nothing() {
        assert_eq!(Linear::new(437.0, 4, true).ticks(), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(Linear::new(437.0, 4, false).ticks(), [0.0, 200.0, 400.0]);
        assert_eq!(Linear::new(1.0, 4, true).ticks().last(), Some(&1.0));
        assert_eq!(Linear::new(600.0, 3, true).top, 600.0);
        let axis = Linear::new(437.0, 4, true);
        assert_eq!([0.0, 300.0, 600.0, 900.0].map(|value| axis.place(value)), [0.0, 0.5, 1.0, 1.0]);
        assert!(Linear::new(0.0, 4, true).ticks().len() > 1, "also when there is nothing");
    }

    #[test]
    fn decades_hold_all() {
        let decades = Decades::over(1_500, 999_999);
        assert_eq!(decades.ticks(), [1e3, 1e4, 1e5, 1e6]);
        assert!((decades.place(1e4) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(Decades::over(1_000, 1_000).ticks(), [1e3, 1e4]);
    }

    #[test]
    fn ticks_are_short() {
        assert_eq!(
            [0.0, 0.5, 400.0, 2_500.0, 250_000.0, 1.5e6].map(short),
            ["0", "0.5", "400", "2,500", "250 k", "1.5 M"]
        );
        assert_eq!([0.0, 5e8, 1.25e9].map(|nanos| time(nanos, 2e9)), ["0", "0.5 s", "1.25 s"]);
        assert_eq!([2e4, 1e5].map(|nanos| time(nanos, 1e5)), ["20 µs", "100 µs"]);
    }
}
