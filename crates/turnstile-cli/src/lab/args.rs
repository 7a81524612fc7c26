//! The command line of the lab.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::breaks::Break;
use super::strategies;

/// See each strategy at work on real servers: its claims checked, its numbers measured
///
/// Starts servers of its own (in containers where a Docker engine answers, else local processes) and several processes
/// that contend, or share a topic; kills and stops them, cuts connections, and has what they did judged by an observer that
/// knows nothing of the strategy. Ends with a table of numbers, and for each claim whether it held.
#[derive(Args)]
#[command(after_help = HELP)]
pub struct LabArgs {
    /// Only these strategies
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = PossibleValuesParser::new(strategies::names()))]
    pub only: Vec<String>,

    /// How long each of the longer phases takes
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,

    /// Instead of measuring, let random faults come over all strategies at once for this long, such as 60m, in rounds of a
    /// minute; each round's histories are checked. It ends with the first that shows a broken claim
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub soak: Option<Duration>,

    /// With --soak: what draws the first round's faults; each next round has the next
    #[arg(long, value_name = "N", requires = "soak")]
    pub seed: Option<u64>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Write report.json, and report.html with charts, into this folder; with --soak, soak.json, soak.html, and histories that
    /// show something
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,

    /// Take a guard away, so that a claim is seen to break
    #[arg(long = "break", value_name = "GUARD", hide = true, value_delimiter = ',')]
    pub broken: Vec<Break>,
}

const HELP: &str = "\
It ends with a table of what must be run and known for each strategy, what was measured, what was checked, and its limits.

Performance:
  grants/s         of all processes together, on one lock, with no work done under it; for redis-lua calls/s of a script
  p50, p99         from asking for the lock to having it, under that contention; for redis-lua, of a call
  longest wait     of any task, those that were still waiting at the end included
  commands/grant   what the clients sent: a script counts as one, as it is one round trip. Grants that go from one task
                   to the next in memory cost none
  handed over      the share of such grants
  jobs/s           of all workers together, of a queue that is never empty; an empty handler
  p50, p99         for redis-streams: from added to done, at 1,000 jobs a second
  records/s        of all members together, of a topic that is full; records of 100 bytes, an empty handler
  p50, p99         for kafka-group: from produced to handled, at 1,000 records a second
  take-over        from the kill of a member, or from when one is asked to leave, until others work in all of its
                   partitions; after a kill the session's time limit, 1 s here, is part of it
  repeated         records that were handled again after that kill, or that leave
  ns/completion    for kafka-offsets: to mark one offset as done, in random order within 10,000
  metadata, kept   of 100,000 offsets in flight of which 1 % are not done: its size, and how much of what is done it tells
  encoding         the time it takes to make that metadata

Exit codes: 0 all claims held, 1 one broke, 69 there is no server to be had, 70 the lab itself failed, 64 bad usage";
