//! `turnstile who`: who holds a lock.

use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use redis_lock::Holder;
use serde::Serialize;

use crate::cli::WhoArgs;
use crate::events::{Event, Style};
use crate::exit::{self, Failure};

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    name: &'a str,
    held: bool,
    holders: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    label: String,
    owner: String,
    token: u64,
    shared: bool,
    since: String,
    held_ms: u64,
    /// None for a key that never ends by itself.
    remaining_ms: Option<u64>,
}

impl From<Holder> for Row {
    fn from(holder: Holder) -> Self {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let since = SystemTime::now().checked_sub(holder.held_for).unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            label: crate::lock::printable(&holder.label),
            owner: holder.owner,
            token: holder.token.get(),
            shared: holder.shared,
            since: humantime::format_rfc3339_seconds(since).to_string(),
            held_ms: millis(holder.held_for),
            remaining_ms: holder.remaining.map(millis),
        }
    }
}

impl Row {
    fn words(&self, name: &str) -> String {
        let Self { label, owner, token, since, held_ms, .. } = self;
        let how = if self.shared { "shared" } else { "held" };
        let left = match self.remaining_ms {
            Some(left) => format!("{} left unless renewed", seconds(left)),
            None => "without an end".to_owned(),
        };
        format!(
            "{name}: {how} by {label} for {} (since {since}), {left}, token {token}, owner {owner}",
            seconds(*held_ms)
        )
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{}s", millis / 1000, millis % 1000 / 100)
}

pub fn run(args: &WhoArgs) -> ExitCode {
    ExitCode::from(show(args).unwrap_or_else(|failure| {
        let style = if args.json { Style::Json } else { Style::Normal };
        if let Some(line) = style.line(&Event::from(&failure)) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        failure.code
    }))
}

fn show(args: &WhoArgs) -> Result<u8, Failure> {
    let runtime = crate::lock::runtime()?;
    let holders = runtime.block_on(async { Ok::<_, Failure>(args.server.connect().await?.who(&args.name).await?) })?;
    let rows: Vec<Row> = holders.into_iter().map(Row::from).collect();
    let held = !rows.is_empty();
    let text = if args.json {
        serde_json::to_string(&Answer { name: &args.name, held, holders: rows }).unwrap_or_default()
    } else if held {
        rows.iter().map(|row| row.words(&args.name)).collect::<Vec<_>>().join("\n")
    } else {
        format!("{}: free", args.name)
    };
    // A reader that went away (`| head -1`) is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if held { 0 } else { exit::FREE })
}
