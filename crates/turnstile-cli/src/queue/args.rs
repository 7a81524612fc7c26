//! The command line of `turnstile queue`.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use redis_streams::{DEFAULT_GROUP, JobId};

use crate::server::Server;

/// Add jobs to a work queue, work on them, and look after it
///
/// Exit code: 0 as asked, 1 nothing of that is there; 64 the command line makes no sense, 69 the server is out of reach or
/// cannot serve, 70 an error that it does not know, 75 the queue is full, 77 the server refuses, 78 a bad URL or name, or
/// a name in use by something else.
#[derive(Args)]
pub struct QueueArgs {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Subcommand)]
pub enum What {
    Add(AddArgs),
    Work(WorkArgs),
    Stat(StatArgs),
    Dead(DeadArgs),
    Replay(ReplayArgs),
    Purge(PurgeArgs),
    Trim(TrimArgs),
}

/// Which queue, and how it is told.
#[derive(Args)]
pub struct Which {
    /// The name of the queue: 1 to 1,024 bytes of printable text, such as invoices
    pub name: String,

    #[command(flatten)]
    pub server: Server,

    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// Which group of its workers.
#[derive(Args)]
pub struct Group {
    /// The group of workers. Each group gets every job
    #[arg(short, long, value_name = "GROUP", default_value = DEFAULT_GROUP)]
    pub group: String,
}

/// Add a job, or one for each line of the input
///
/// Prints the job's id, `delayed` and the time when it is due, or `duplicate`.
#[derive(Args)]
#[command(after_help = ADD_HELP)]
pub struct AddArgs {
    #[command(flatten)]
    pub which: Which,

    /// The body; without it, or with -, it is the standard input
    pub body: Option<String>,

    /// A job for each line of the standard input
    #[arg(long, conflicts_with_all = ["body", "dedup"])]
    pub lines: bool,

    /// The key: workers with --order key work on jobs of one key one after another
    #[arg(short, long)]
    pub key: Option<String>,

    /// A further field. May be repeated
    #[arg(short, long = "field", value_name = "NAME=VALUE", value_parser = field)]
    pub fields: Vec<(String, String)>,

    /// Add it only if no job with this id was added within --window
    #[arg(long, value_name = "ID")]
    pub dedup: Option<String>,

    /// How long --dedup counts
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub window: Duration,

    /// To be worked on after this time
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub delay: Option<Duration>,

    /// Refuse to add beyond so many jobs in the queue: exit code 75
    #[arg(long, value_name = "JOBS")]
    pub limit: Option<u64>,

    /// With --limit: wait this long for room
    #[arg(short, long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "limit")]
    pub wait: Option<Duration>,
}

/// Run a command for each job
///
/// The job's body is the command's standard input; the environment has the rest. Exit code 0 means done; 65 that it will
/// never work: it is set aside at once; another, or a signal, that it is to be tried again. SIGINT and SIGTERM end it in
/// an orderly way: commands may finish, and the rest goes to other workers.
#[derive(Args)]
#[command(after_help = WORK_HELP)]
pub struct WorkArgs {
    #[command(flatten)]
    pub which: Which,

    #[command(flatten)]
    pub group: Group,

    /// How many commands run at a time
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,

    /// How often a job is tried before it is set aside
    #[arg(long, value_name = "N", default_value = "5")]
    pub max_attempts: NonZeroU32,

    /// How long a command may take: then all of its process group is killed, and it is tried again
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,

    /// The order that all workers of the group keep
    #[arg(long, value_enum, default_value_t = Order::None)]
    pub order: Order,

    /// How long this worker counts as alive after a sign of life; then others take its jobs
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub alive_for: Duration,

    /// At the end: how long commands may go on. In the last fifth they get SIGTERM, then SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub grace: Duration,

    /// End when there is nothing to do any more: nothing unread, pending or delayed
    #[arg(long)]
    pub exit_when_empty: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// In which order jobs are worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Any
    None,
    /// Jobs of one key one after another
    Key,
    /// All jobs one after another, one at a time over all workers
    Sequential,
}

/// Show how large a queue is, by part, and who works on it
#[derive(Args)]
pub struct StatArgs {
    #[command(flatten)]
    pub which: Which,

    #[command(flatten)]
    pub group: Group,
}

/// Show the dead letters: jobs that were set aside, the oldest first
///
/// Exit code 1 if there are none.
#[derive(Args)]
pub struct DeadArgs {
    #[command(flatten)]
    pub which: Which,

    #[command(flatten)]
    pub group: Group,

    /// From this one on
    #[arg(long, value_name = "ID")]
    pub from: Option<JobId>,

    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub count: usize,
}

/// Which letters.
#[derive(Args)]
#[group(id = "letters", required = true, multiple = false)]
pub struct Letters {
    /// Their ids, as `turnstile queue dead` tells them
    #[arg(value_name = "ID")]
    pub ids: Vec<JobId>,

    /// All that there are now
    #[arg(long)]
    pub all: bool,
}

/// Put dead letters back into the queue, as new jobs
///
/// Exit code 1 if one of them was not there.
#[derive(Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub which: Which,

    #[command(flatten)]
    pub group: Group,

    #[command(flatten)]
    pub letters: Letters,
}

/// Delete dead letters for good
///
/// Exit code 1 if one of them was not there.
#[derive(Args)]
pub struct PurgeArgs {
    #[command(flatten)]
    pub which: Which,

    #[command(flatten)]
    pub group: Group,

    #[command(flatten)]
    pub letters: Letters,

    /// With --all: yes, all of them
    #[arg(long)]
    pub yes: bool,
}

/// Remove jobs that every group has acknowledged
///
/// Workers do so by themselves. What is pending or unread is never removed.
#[derive(Args)]
pub struct TrimArgs {
    #[command(flatten)]
    pub which: Which,

    /// Only what was added so long ago
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "to_length")]
    pub older_than: Option<Duration>,

    /// Only as much as it takes to come down to so many jobs
    #[arg(long, value_name = "JOBS")]
    pub to_length: Option<u64>,
}

fn field(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, _)) if name.is_empty() || name.starts_with('@') || name == "body" => {
            Err("a field's name is not empty, does not begin with @, and is not `body`".to_owned())
        }
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("a field is NAME=VALUE".to_owned()),
    }
}

const ADD_HELP: &str = "\
Examples:
  turnstile queue add invoices 4711
  turnstile queue add invoices --key customer-7 --delay 10m < invoice.pdf
  find . -name '*.tif' | turnstile queue add scans --lines --limit 100000 --wait 1h";

const WORK_HELP: &str = "\
The command's environment:
  TURNSTILE_QUEUE    the name of the queue
  TURNSTILE_JOB      the id of the job: the same in each attempt. Give it along as idempotency key
  TURNSTILE_ATTEMPT  which attempt it is, from 1 on
  TURNSTILE_KEY      the key, if the job has one
  TURNSTILE_FIELD_…  the fields, their names in capitals, with _ for what is no letter or digit

Examples:
  turnstile queue work invoices -- ./send.sh
  turnstile queue work scans --concurrency 4 --timeout 5m --max-attempts 3 -- sh -c 'read -r f; convert \"$f\"'";
