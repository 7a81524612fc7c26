//! What the lab prints at its end: the claims of each strategy, then the table of all. Nothing is wider than eighty columns.

use super::findings::{Check, Findings};

const WIDTH: usize = 80;
/// What stands before the text of a row of the table.
const ROW: usize = 15;
/// And before that of a claim.
const CLAIM: usize = 10;

/// The whole.
pub fn of(all: &[Findings]) -> String {
    let mut text = String::new();
    for findings in all {
        text.push_str(&format!("{}\n", findings.name));
        findings.checks.iter().for_each(|check| claim(&mut text, check));
        text.push('\n');
    }
    for findings in all {
        let verdict = findings.verdict();
        let rest = WIDTH - findings.name.len();
        text.push_str(&format!("{}{verdict:>rest$}\n", findings.name));
        let numbers = findings.metrics.columns().into_iter();
        let numbers: Vec<_> = numbers.map(|(head, value)| unbroken(&format!("{head} {value}"))).collect();
        let guards: Vec<_> = findings.about.guards.iter().map(|guard| guard.name()).collect();
        let about = findings.about;
        row(&mut text, "complexity", about.complexity);
        row(&mut text, "performance", &numbers.join(" · "));
        row(&mut text, "guarantees", about.guarantees);
        row(&mut text, "  by guards", &guards.join(", "));
        row(&mut text, "limits", about.limits);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.replace(UNBROKEN, " ")
}

fn row(text: &mut String, head: &str, words: &str) {
    wrapped(text, &format!("  {head:11}  "), ROW, words);
}

fn claim(text: &mut String, check: &Check) {
    wrapped(text, if check.held { "  held    " } else { "  BROKEN  " }, CLAIM, check.claim);
    wrapped(text, &" ".repeat(CLAIM), CLAIM, &check.observed);
}

/// A blank at which no line is to end.
const UNBROKEN: char = '\u{a0}';

fn unbroken(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

/// Words in lines of `WIDTH`, the first behind `head`, all others behind as many blanks.
fn wrapped(text: &mut String, head: &str, indent: usize, words: &str) {
    text.push_str(head);
    let mut column = indent;
    for (nth, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if nth > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if nth > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::metrics::{Metrics, Records};
    use crate::lab::strategies;

    #[test]
    fn no_line_is_wider_than_eighty_columns_and_the_table_comes_last() {
        let long = "a claim that goes on and on, and is longer than any line that a terminal would show as one";
        let strategies = strategies::all();
        let all: Vec<_> = strategies
            .iter()
            .map(|strategy| {
                let records = Metrics::Records(Records { per_second: 1e9, p50_us: 5e9, ..Records::default() });
                let checks = vec![Check::new(long, true, long), Check::new("short", false, "no")];
                Findings::of(&**strategy, records, checks, Vec::new())
            })
            .collect();
        let text = of(&all);
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line:?}");
        }
        let last = text.rsplit("\n\n").next().unwrap();
        for part in
            ["kafka-partitions", "1 of 2 claims held", "complexity", "records/s 1,000,000,000", "by guards", "limits"]
        {
            assert!(last.contains(part), "{part}: {last}");
        }
        assert!(text.contains("  BROKEN  short\n          no\n"));
    }
}
