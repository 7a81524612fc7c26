//! What every program of pairs is told on its command line, and the table that it prints.

use anyhow::{Result, bail};

use crate::report::Row;

/// The options that all have.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// One JSON object a line instead of the table.
    #[arg(long)]
    pub json: bool,
    /// These only: an id, or its beginning.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Just to see that it works: the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// How many rounds each has.
    #[arg(long, value_name = "N")]
    pub rounds: Option<usize>,
    /// Said by cargo bench; without it (cargo test) only `--quick` is done.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// Whether it is only to be seen that it works.
    #[must_use]
    pub fn quick(&self) -> bool {
        self.quick || !self.bench
    }

    /// How many rounds: as told, else one when [`quick`](Self::quick), else so many.
    #[must_use]
    pub fn rounds(&self, full: usize) -> usize {
        self.rounds.unwrap_or(if self.quick() { 1 } else { full })
    }

    /// Whether this one is to be measured.
    #[must_use]
    pub fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| id.starts_with(only.as_str()))
    }

    /// Whether one of these is.
    #[must_use]
    pub fn wants_any(&self, ids: &[&str]) -> bool {
        ids.iter().any(|id| self.wants(id))
    }

    /// Says so when none of those that there are is wanted.
    ///
    /// # Errors
    /// Just that.
    pub fn check(&self, ids: &[&str]) -> Result<()> {
        if !self.wants_any(ids) {
            bail!("there is none of that name: choose from {}", ids.join(", "));
        }
        Ok(())
    }

    /// Begins the table of these.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn begin(&self, ids: &[&str], about: &str) -> Result<()> {
        self.check(ids)?;
        if !self.json {
            println!("{about}\n\n{}", Row::head());
        }
        Ok(())
    }

    /// A row of it.
    ///
    /// # Errors
    /// None that is known.
    pub fn show(&self, row: &Row) -> Result<()> {
        println!("{}", if self.json { row.json()? } else { row.line() });
        Ok(())
    }
}
