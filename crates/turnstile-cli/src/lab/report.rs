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
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("report.json"), serde_json::to_string_pretty(&Report { strategies: all })?)?;
    std::fs::write(dir.join("report.html"), page::of(seconds, all))?;
    Ok(())
}

/// soak.json and soak.html.
pub fn write_soak(dir: &Path, soak: &Soak) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("soak.json"), serde_json::to_string_pretty(soak)?)?;
    std::fs::write(dir.join("soak.html"), soak::of(soak))?;
    Ok(())
}
