//! `turnstile group`: who is in a consumer group, which partitions each has, and how far each is.

pub mod ask;
mod protocol;
mod table;

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::GroupArgs;
use crate::events::{Event, Style};
use crate::exit::{self, Failure};

/// What `--json` prints. Fields may be added; `schema` rises when one changes its meaning.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    pub schema: u32,
    pub group: String,
    /// Whether it has members, or has committed anything.
    pub exists: bool,
    /// What the brokers call its state.
    pub state: Option<String>,
    /// How its members agree on who has which partition: `range`, `cooperative-sticky` and so on.
    pub assignor: Option<String>,
    /// None if they cannot be told.
    pub members: Option<Vec<Member>>,
    pub partitions: Vec<Partition>,
    /// Of all partitions that have committed.
    pub lag: i64,
    /// Of all partitions.
    pub done_beyond: u64,
    /// What could not be told, and why.
    pub notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Member {
    pub id: String,
    pub client_id: String,
    pub host: String,
    /// For static members.
    pub instance_id: Option<String>,
    /// It has no partition.
    pub idle: bool,
    /// As `topic/number`.
    pub partitions: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
    /// The id of the member that has it, if that can be told.
    pub member: Option<String>,
    /// The next offset to be handled.
    pub committed: Option<i64>,
    /// The offset that the next record will get.
    pub end: Option<i64>,
    /// From the one to the other.
    pub lag: Option<i64>,
    /// How many of these are done already, by what Turnstile has written beside the commit.
    pub done_beyond: Option<u64>,
    /// Why something of this cannot be told.
    pub note: Option<String>,
}

impl Partition {
    pub fn name(&self) -> String {
        format!("{}/{}", self.topic, self.partition)
    }
}

/// Shows a group.
pub fn run(args: &GroupArgs) -> ExitCode {
    ExitCode::from(show(args).unwrap_or_else(|failure| {
        let style = if args.json { Style::Json } else { Style::Normal };
        if let Some(line) = style.line(&Event::from(&failure)) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        failure.code
    }))
}

fn show(args: &GroupArgs) -> Result<u8, Failure> {
    if args.name.is_empty() || args.name.contains('\0') {
        return Err(Failure::new(exit::CONFIG, "the name of a group has at least one character, and no NUL"));
    }
    let (client, metadata) = args.brokers.connect(&args.name)?;
    let answer = ask::of(&client, &metadata, &args.name)?;
    let text = if args.json { serde_json::to_string(&answer).unwrap_or_default() } else { table::of(&answer) };
    // A reader that went away (`| head -1`) is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if answer.exists { 0 } else { exit::FREE })
}
