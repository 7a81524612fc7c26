//! What the lab prints at its end.

use super::findings::Findings;

/// The numbers of all strategies, in a table for each kind of numbers, then the claims of each.
pub fn of(all: &[Findings]) -> String {
    let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
    for findings in all {
        let (heads, cells): (Vec<_>, Vec<_>) = findings.metrics.columns().into_iter().unzip();
        let row = |first: &str, rest: Vec<String>| [vec![first.to_owned()], rest].concat();
        let head = row("", heads.into_iter().map(str::to_owned).collect());
        match tables.iter_mut().find(|table| table.first() == Some(&head)) {
            Some(table) => table.push(row(findings.name, cells)),
            None => tables.push(vec![head, row(findings.name, cells)]),
        }
    }
    let mut text = tables.iter().map(|rows| aligned(rows)).collect::<Vec<_>>().join("\n");
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

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = if column == 0 { format!("{cell:width$}") } else { format!("   {cell:>width$}") };
            text.push_str(&cell);
        }
        text.push('\n');
    }
    text
}
