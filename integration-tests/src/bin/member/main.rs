//! A member of a consumer group as a process, for tests that stop and kill it: `member ROLE`, with a role in JSON.

mod naive;
mod ours;

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use turnstile_integration_tests::kafka::{Kind, Role};
use turnstile_testkit::history::History;

fn main() -> Result<()> {
    let role = std::env::args().nth(1).context("usage: member ROLE")?;
    let role: Role = serde_json::from_str(&role)?;
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = std::env::var("RUST_LOG")
            .ok()
            .and_then(|level| tracing_subscriber::filter::LevelFilter::from_str(&level).ok());
        let filter = filter.unwrap_or(tracing_subscriber::filter::LevelFilter::INFO);
        tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr).init();
    }
    let recorder = History::at(&role.history).recorder(&role.name)?;
    match role.kind {
        Kind::Ours | Kind::Parallel(_) => ours::run(role, recorder),
        Kind::Naive(naive) => naive::run(&role, naive, &recorder),
    }
}

/// What a record's value asks for.
enum Task {
    Takes(Duration),
    Poison,
}

impl Task {
    fn of(value: Option<&[u8]>, role: &Role) -> Self {
        let text = std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default();
        match text.parse() {
            Ok(millis) => Self::Takes(Duration::from_millis(millis)),
            Err(_) if text == "poison" => Self::Poison,
            Err(_) => Self::Takes(role.work),
        }
    }
}
