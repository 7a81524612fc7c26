//! What the lab prints and writes for others: JSON for programs, and a page for people.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::findings::Findings;
use super::soak::Soak;

mod axis;
mod charts;
mod page;
mod soak;
mod svg;

#[derive(Serialize)]
struct Report<'a> {
    strategies: &'a [Findings],
}

/// One object, on one line.
pub fn json(all: &[Findings]) -> Result<String> {
    Ok(serde_json::to_string(&Report { strategies: all })?)
}

/// report.json and report.html, of phases of so many seconds.
pub fn write(dir: &Path, seconds: u64, all: &[Findings]) -> Result<()> {
    write_both(dir, "report", &Report { strategies: all }, &page::of(seconds, all))
}

/// soak.json and soak.html.
pub fn write_soak(dir: &Path, soak: &Soak) -> Result<()> {
    write_both(dir, "soak", soak, &soak::of(soak))
}

fn write_both(dir: &Path, name: &str, report: &impl Serialize, page: &str) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join(format!("{name}.json")), serde_json::to_string_pretty(report)?)?;
    std::fs::write(dir.join(format!("{name}.html")), page)?;
    Ok(())
}
