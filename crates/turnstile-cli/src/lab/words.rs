//! Numbers as people read them.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with the unit that fits them.
pub fn micros(micros: f64) -> String {
    match micros {
        m if m < 10.0 => format!("{m:.1} µs"),
        m if m < 1e3 => format!("{m:.0} µs"),
        m if m < 1e4 => format!("{:.1} ms", m / 1e3),
        m if m < 1e6 => format!("{:.0} ms", m / 1e3),
        m => format!("{:.1} s", m / 1e6),
    }
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> String {
    format!("{} ms", count(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_groups_and_times_in_their_unit() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let times = [0.81, 25.4, 1500.0, 52_000.0, 1_500_000.0].map(micros);
        assert_eq!(times, ["0.8 µs", "25 µs", "1.5 ms", "52 ms", "1.5 s"]);
        assert_eq!(millis(Duration::from_micros(1_234_567)), "1,234 ms");
    }
}
