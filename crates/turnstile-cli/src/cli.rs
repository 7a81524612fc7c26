//! The command line. Its help texts are the reference; the README is the manual.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[cfg(feature = "kafka")]
use crate::brokers::Brokers;
#[cfg(feature = "lab")]
use crate::lab::{LabArgs, WorkerArgs};
use crate::queue::QueueArgs;
use crate::server::Server;
#[cfg(feature = "top")]
use crate::top::TopArgs;
#[cfg(feature = "kafka")]
use crate::topic::TopicArgs;

/// Concurrency control over Redis and Kafka, for the shell
#[derive(Parser)]
#[command(name = "turnstile", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    Lock(LockArgs),
    Semaphore(SemaphoreArgs),
    Who(WhoArgs),
    Queue(QueueArgs),
    #[cfg(feature = "kafka")]
    Group(GroupArgs),
    #[cfg(feature = "top")]
    Top(TopArgs),
    #[cfg(feature = "kafka")]
    Topic(TopicArgs),
    #[cfg(feature = "lab")]
    Lab(LabArgs),
    #[command(name = "__exec", hide = true)]
    Exec(ExecArgs),
    #[cfg(feature = "lab")]
    #[command(hide = true)]
    LabWorker(WorkerArgs),
}

/// Run a command while holding a lock
///
/// Waits for the lock, runs the command, keeps the lock renewed meanwhile, and gives it back when the command ends. If
/// the lock is lost, the command is ended before another holder can get it. The command is run as it stands, without a
/// shell.
#[derive(Args)]
#[command(after_help = LOCK_EXIT, after_long_help = LOCK_HELP)]
pub struct LockArgs {
    /// What to lock: 1 to 1,024 bytes of printable text, such as orders/42
    #[arg(value_name = "NAME")]
    pub first_name: String,

    /// Lock this name too: all or none of them, never in a deadlock. May be repeated
    #[arg(long = "name", value_name = "NAME", conflicts_with = "shared")]
    pub more_names: Vec<String>,

    /// Share the lock with others that do so too; it excludes, and is excluded by, those without -s
    #[arg(short, long)]
    pub shared: bool,

    /// First come, first served over all processes: waiters stand in a queue on the server, and are woken. A fair lock is
    /// another lock than the one of that name without --fair: let all use one of them
    #[arg(long, conflicts_with_all = ["shared", "more_names"])]
    pub fair: bool,

    /// Over several independent Redis servers, at best three or five, of which a majority has to grant it: it goes on
    /// while the others are down. Waiters ask again. Instead of --url; let all who use the name give the same servers
    #[arg(
        long,
        value_name = "URL,URL,…",
        value_delimiter = ',',
        env = "TURNSTILE_REDLOCK_URLS",
        hide_env_values = true
    )]
    #[arg(conflicts_with = "fair")]
    pub redlock: Vec<String>,

    #[command(flatten)]
    pub run: RunArgs,

    #[command(flatten)]
    pub server: Server,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// How long to wait, what to do when it is lost, and what is told: alike for all that run a command.
#[derive(Args)]
pub struct RunArgs {
    /// Wait at most this long for the lock, such as 10s or 500ms; 0 is -n. Otherwise as long as it takes
    #[arg(short, long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub wait: Option<Duration>,

    /// Do not wait: give up at once if the lock is held
    #[arg(short, long = "no-wait", conflicts_with = "wait")]
    pub no_wait: bool,

    /// The exit code when the lock is not acquired
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = crate::exit::NOT_ACQUIRED)]
    pub conflict_exit_code: u8,

    /// How long the lock outlives this process if it dies, or loses the server. It is renewed each third of it
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub ttl: Duration,

    /// What to do with the command when the lock is lost
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnLost::Term)]
    pub on_lost: OnLost,

    /// With --on-lost term, the time from TERM to KILL; at most half of --ttl. [default: 5s, or a third of --ttl if
    /// that is less]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub grace: Option<Duration>,

    /// Tell what happens as JSON, one event a line, on stderr
    #[arg(long, conflicts_with_all = ["verbose", "quiet"])]
    pub json: bool,

    /// Tell on stderr when it waits, acquires and releases
    #[arg(short, long)]
    pub verbose: bool,

    /// Do not even tell that the lock was not acquired; the exit code does
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// Run a command while holding permits of a semaphore: at most N at a time
///
/// As `turnstile lock`, but for up to --limit permits in all. First come, first served over all processes: a heavy one
/// is not passed by lighter ones that came later. The server keeps the limit of the first use; another one is refused.
#[derive(Args)]
#[command(after_help = LOCK_EXIT, after_long_help = SEMAPHORE_HELP)]
pub struct SemaphoreArgs {
    /// The name of the semaphore: 1 to 1,024 bytes of printable text, such as exports
    pub name: String,

    /// How many permits there are
    #[arg(short = 'l', long, value_name = "N", required_unless_present_any = ["set_limit", "review"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,

    /// How many permits the command takes
    #[arg(long, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub weight: u32,

    /// Go by the server's limit where it keeps another: --limit is for the first use
    #[arg(long)]
    pub any_limit: bool,

    /// Count by a counter rather than by adding up: for hundreds of holders
    #[arg(long)]
    pub counter: bool,

    /// Keep to no order: ask again and again, and take what is free before those in the queue
    #[arg(long)]
    pub unfair: bool,

    /// Change the limit that the server keeps, and run nothing. Who says another limit is refused from then on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["limit", "review", "command"])]
    pub set_limit: Option<u32>,

    /// Drop permits that have ended, set the counter to what the others weigh, and run nothing. It is done by itself, too
    #[arg(long, conflicts_with_all = ["limit", "command"])]
    pub review: bool,

    #[command(flatten)]
    pub run: RunArgs,

    #[command(flatten)]
    pub server: Server,

    /// The command and its arguments
    #[arg(last = true, required_unless_present_any = ["set_limit", "review"], value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What becomes of the command when the lock is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnLost {
    /// SIGTERM early enough that SIGKILL, after --grace, still comes before the lock ends
    Term,
    /// SIGKILL, just before the lock ends
    Kill,
    /// Let it run on, without the lock
    Ignore,
}

/// Show who holds a lock or permits of a semaphore, and who stands in its queue
///
/// Exit code: 0 if it is held, 1 if it is free; 64 and above as `turnstile lock` has them. What it shows may have
/// changed by the time you read it: do not decide by it, use `turnstile lock -n`.
#[derive(Args)]
#[command(after_help = WHO_HELP)]
pub struct WhoArgs {
    /// The name of the lock or semaphore
    pub name: String,

    #[command(flatten)]
    pub server: Server,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Show a Kafka consumer group
///
/// Its members and which of them are idle, its partitions, what is committed for each, how far that is from the end, and
/// how much beyond it is done already, as Turnstile's consumers write it beside the commit. It only reads.
///
/// Exit code: 0 if there is such a group, 1 if there is not; 64 the command line makes no sense, 69 no broker answers, 70
/// an error that it does not know, 77 the brokers refuse it, 78 a bad option or name.
#[cfg(feature = "kafka")]
#[derive(Args)]
#[command(after_help = GROUP_HELP)]
pub struct GroupArgs {
    /// The name of the group
    pub name: String,

    #[command(flatten)]
    pub brokers: Brokers,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The inner half of `lock`: becomes the command.
#[derive(Args)]
pub struct ExecArgs {
    /// The process that holds the lock.
    #[arg(long)]
    pub parent: i32,

    /// Whether to outlive it.
    #[arg(long)]
    pub outlive: bool,

    /// Tell errors as JSON.
    #[arg(long)]
    pub json: bool,

    /// The command.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

const LOCK_EXIT: &str = "\
Exit codes: the command's own, or 128+n if signal n ended it; 75 not acquired (or -E), 79 lock lost,
69 server out of reach, 77 refused by it, 78 bad URL, name or server, 64 bad usage, 126/127 command
not run. More, and examples: --help";

const LOCK_HELP: &str = "\
Exit codes:
  the command's own, or 128+n if signal n ended it; else
   64  the command line makes no sense
   69  the server is out of reach, or cannot serve
   70  a fault of turnstile, or an answer from the server that it does not know
   75  the lock was not acquired (or what -E says)
   77  the server refuses the credentials, or forbids a command
   78  a bad URL, a bad name, a name in use by something else, or a server older than Redis 7.0
   79  the lock was lost, or could not be renewed so near its end that the command had to be ended, even if the
       command exited 0: another holder may have run at the same time, or the work was cut short
  126  the command could not be executed
  127  the command was not found
  128+n  signal n came before the command was started; it was not started

The command's environment:
  TURNSTILE_NAME   the name; of several, one a line
  TURNSTILE_OWNER  32 hexadecimal digits, new for each grant
  TURNSTILE_TOKEN  the fencing token: a number that rises with each grant. Send it along with what the command
                   changes elsewhere, and have older ones refused there

Examples:
  export TURNSTILE_REDIS_URL=redis://:secret@db.internal
  turnstile lock nightly-report -- ./report.sh        # one at a time, in the whole fleet
  turnstile lock -n cleanup -- ./cleanup.sh           # skip it if another runs it: exit code 75
  turnstile lock -n -E 0 -q cleanup -- ./cleanup.sh   # the same for cron: skipped is success
  turnstile lock -w 10m --ttl 10s deploy -- make deploy
  turnstile lock -s index -- ./query.sh               # readers share it; a writer locks it without -s
  turnstile lock --fair -w 10m deploy -- make deploy  # in the order of arrival; at the limit, the place is told
  turnstile lock --redlock redis://a,redis://b,redis://c deploy -- make deploy
  turnstile lock accounts/1 --name accounts/2 -- ./transfer.sh
  turnstile lock job -- sh -c './one && ./two'        # a shell, if one is wanted";

const SEMAPHORE_HELP: &str = "\
Exit codes and the command's environment: as of `turnstile lock --help`; 78 too where the server keeps another limit
or form.

Examples:
  turnstile semaphore exports -l 4 -- ./export.sh             # four at a time, in the whole fleet
  turnstile semaphore exports -l 4 --weight 2 -- ./big.sh     # it counts as two
  turnstile semaphore exports -l 4 -n -- ./export.sh          # or not at all: exit code 75
  turnstile semaphore exports --set-limit 6
  turnstile who exports";

const WHO_HELP: &str = "\
Examples:
  turnstile who nightly-report
  turnstile who --json nightly-report | jq '.holders[].label'";

#[cfg(feature = "kafka")]
const GROUP_HELP: &str = "\
Members of groups of the new protocol (KIP-848, group.protocol=consumer) cannot be told yet; their offsets and lag can.

Examples:
  export TURNSTILE_KAFKA_BROKERS=kafka-1:9092,kafka-2:9092
  turnstile group orders
  turnstile group --json orders | jq '.partitions[] | select(.lag > 1000)'";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
