//! What the lab prints at its end.

use super::findings::Findings;
use super::words::{count, micros};

const HEAD: [&str; 7] = ["", "grants/s", "p50", "p99", "longest wait", "commands/grant", "handed over"];

/// The numbers of all strategies in a table, then the claims of each.
pub fn of(all: &[Findings]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(all.iter().map(row));
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let cell = if column == 0 { format!("{cell:width$}") } else { format!("   {cell:>width$}") };
            text.push_str(&cell);
        }
        text.push('\n');
    }
    for findings in all {
        text.push_str(&format!("\n{}\n", findings.name));
        let width = findings.checks.iter().map(|check| check.claim.chars().count()).max().unwrap_or(0);
        for check in &findings.checks {
            let word = if check.held { "held" } else { "BROKEN" };
            text.push_str(&format!("  {word:6}  {:width$}  {}\n", check.claim, check.observed));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn row(findings: &Findings) -> [String; 7] {
    let metrics = &findings.metrics;
    let handed_over = match metrics.handed_over {
        0 => "-".to_owned(),
        handed_over => format!("{:.1} %", 100.0 * handed_over as f64 / metrics.grants.max(1) as f64),
    };
    [
        findings.name.to_owned(),
        count(metrics.per_second.round() as u64),
        micros(metrics.p50_us),
        micros(metrics.p99_us),
        micros(metrics.max_wait_ms * 1e3),
        format!("{:.3}", metrics.commands_per_grant),
        handed_over,
    ]
}
