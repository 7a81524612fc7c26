//! What is printed: a table for people, or one JSON object a line.

use serde::Serialize;

/// What a pair is meant to reach.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// Ours / raw is no more than this.
    RatioAtMost(f64),
    /// Ours / raw is no less than this.
    RatioAtLeast(f64),
    /// Ours is no more than this.
    AtMost(f64),
    /// The same two, where there is an ideal in the place of raw.
    IdealAtMost(f64),
    /// See [`IdealAtMost`](Self::IdealAtMost).
    IdealAtLeast(f64),
}

impl Aim {
    fn text(self) -> String {
        match self {
            Self::RatioAtMost(aim) => format!("≤ {aim} × raw"),
            Self::RatioAtLeast(aim) => format!("≥ {aim} × raw"),
            Self::AtMost(aim) => format!("≤ {aim}"),
            Self::IdealAtMost(aim) => format!("≤ {aim} × ideal"),
            Self::IdealAtLeast(aim) => format!("≥ {aim} × ideal"),
        }
    }

    fn met(self, ours: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::RatioAtMost(aim) | Self::IdealAtMost(aim) => ratio.is_some_and(|ratio| ratio <= aim),
            Self::RatioAtLeast(aim) | Self::IdealAtLeast(aim) => ratio.is_some_and(|ratio| ratio >= aim),
            Self::AtMost(aim) => ours <= aim,
        }
    }
}

/// What was measured of a pair.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    id: &'static str,
    unit: &'static str,
    ours: f64,
    raw: Option<f64>,
    ratio: Option<f64>,
    aim: String,
    met: bool,
    #[serde(skip)]
    note: String,
}

impl Row {
    /// A pair with both sides.
    #[must_use]
    pub fn compared(id: &'static str, unit: &'static str, aim: Aim, compared: crate::rounds::Compared) -> Self {
        let crate::rounds::Compared { ours, raw, ratio, quartiles: (low, high) } = compared;
        let met = aim.met(ours, Some(ratio));
        let note = format!("half of the rounds: {low:.2} to {high:.2}");
        Self { id, unit, ours, raw: Some(raw), ratio: Some(ratio), aim: aim.text(), met, note }
    }

    /// A figure that has no raw counterpart.
    #[must_use]
    pub fn alone(id: &'static str, unit: &'static str, aim: Aim, ours: f64) -> Self {
        Self { id, unit, ours, raw: None, ratio: None, aim: aim.text(), met: aim.met(ours, None), note: String::new() }
    }

    /// The same, with what else there is to say; not met, whatever the figure, unless `held`.
    #[must_use]
    pub fn only_if(mut self, held: bool, note: String) -> Self {
        self.met &= held;
        self.note = note;
        self
    }

    /// The same, with more to say.
    #[must_use]
    pub fn and(mut self, note: &str) -> Self {
        self.note += if self.note.is_empty() { "" } else { "; " };
        self.note += note;
        self
    }

    /// As one line of JSON.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// As a line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), short);
        let (raw, ratio, met) = (number(self.raw), number(self.ratio), if self.met { "met" } else { "MISSED" });
        let Self { id, unit, aim, note, .. } = self;
        format!("{id:<28} {:>10} {raw:>10} {unit:<12} {ratio:>7}  {aim:<15} {met:<7} {note}", short(self.ours))
            .trim_end()
            .to_owned()
    }

    /// The head of the table.
    #[must_use]
    pub fn head() -> String {
        format!("{:<28} {:>10} {:>10} {:<12} {:>7}  {:<15}", "pair", "ours", "raw", "unit", "ratio", "aim")
            .trim_end()
            .to_owned()
    }
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_has_nulls_where_there_is_no_raw() {
        let row = Row::alone("a/b", "µs", Aim::AtMost(20.0), 21.5).only_if(true, "so it is".into());
        assert_eq!(
            row.json().unwrap(),
            r#"{"id":"a/b","unit":"µs","ours":21.5,"raw":null,"ratio":null,"aim":"≤ 20","met":false}"#
        );
    }

    #[test]
    fn a_figure_within_its_aim_is_not_met_when_a_condition_is_broken() {
        let row = |held| Row::alone("a/b", "bytes", Aim::AtMost(1024.0), 1000.0).only_if(held, String::new());
        assert!(row(true).met && !row(false).met);
    }

    #[test]
    fn ratios_are_judged_in_their_direction() {
        assert!(Aim::RatioAtMost(1.05).met(9.0, Some(1.05)) && !Aim::RatioAtMost(1.05).met(9.0, Some(1.06)));
        assert!(Aim::RatioAtLeast(0.95).met(9.0, Some(0.95)) && !Aim::RatioAtLeast(0.95).met(9.0, Some(0.94)));
        assert!(!Aim::RatioAtMost(1.05).met(9.0, Some(f64::NAN)));
    }
}
