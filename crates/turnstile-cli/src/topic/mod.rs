//! `turnstile topic`: what is in a topic, how many partitions it has and needs, which key goes where, and how many it shall have.

mod change;
mod plan;
mod read;
mod show;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use kafka_partitions::{Cluster, Partitioner, TopicError};
use serde::Serialize;
use tokio::runtime;

use crate::brokers::Brokers;
use crate::events::{Event, Style};
use crate::exit::{self, Failure};

/// See what is in a Kafka topic, its partitions and how evenly they are used, and plan how many there should be
///
/// Changes are only planned, and told, unless --execute is given. They keep the order of each key for writers and readers that
/// follow the topic's layouts (the crate kafka-partitions); cut off, the same command takes them up.
///
/// Exit code: 0 if it was done; 64 the command line makes no sense, 69 no broker answers, 70 an error that it does not know,
/// 75 not now: the brokers would bear too much (see --force), or another change is under way, 77 the brokers refuse it, 78 a
/// bad option, an unknown topic, or a number that cannot be.
#[derive(Args)]
pub struct TopicArgs {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    brokers: Brokers,

    /// Print one JSON object; of read, one a record
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    Show(ShowArgs),
    Read(ReadArgs),
    Plan(PlanArgs),
    Grow(GrowArgs),
    Shrink(MoveArgs),
    Move(MoveArgs),
    /// Give up a change that was begun and not brought to its end
    Withdraw {
        /// The topic
        topic: String,
    },
}

/// Give it more partitions, in the order of each key
#[derive(Args)]
struct GrowArgs {
    /// The topic
    topic: String,

    /// How many partitions it shall have
    #[arg(long, value_name = "PARTITIONS", allow_negative_numbers = true)]
    to: i32,

    #[command(flatten)]
    how: HowArgs,
}

/// Move it to a new topic with another number of partitions (shrink: fewer), in the order of each key
///
/// Kafka cannot take partitions away. New records go to the new topic; the old one stays with what is in it, and each group
/// first works that off. The topic keeps its name for writers and readers that follow its layouts.
#[derive(Args)]
struct MoveArgs {
    /// The topic
    topic: String,

    /// How many partitions it shall have
    #[arg(long, value_name = "PARTITIONS", allow_negative_numbers = true)]
    to: i32,

    /// The new topic, which must not be there yet. By default TOPIC.N
    #[arg(long, value_name = "TOPIC")]
    into: Option<String>,

    #[command(flatten)]
    how: HowArgs,
}

/// Whether and how a change is carried out.
#[derive(Args)]
struct HowArgs {
    /// Carry it out, rather than only say what would be done
    #[arg(long)]
    execute: bool,

    /// Also if the brokers would bear more than they should
    #[arg(long)]
    force: bool,

    /// How writers turn a key into a partition, for a topic that has no layouts yet
    #[arg(long, value_name = "NAME", default_value_t)]
    partitioner: Partitioner,

    #[command(flatten)]
    limits: LimitArgs,
}

/// Show its partitions; the partition of a key; how evenly its records lie, and its hottest keys. It only reads
#[derive(Args)]
struct ShowArgs {
    /// The topic
    topic: String,

    /// Which partition this key goes to
    #[arg(long)]
    key: Option<String>,

    /// How its writers turn a key into a partition: murmur2_random as Java clients do, consistent_random as librdkafka does
    /// by default, murmur2, consistent, fnv1a_random, fnv1a
    #[arg(long, value_name = "NAME", default_value_t)]
    partitioner: Partitioner,

    /// Read up to so many of its newest records, and tell how they lie
    #[arg(long, value_name = "RECORDS", num_args = 0..=1, default_missing_value = "100000")]
    skew: Option<u64>,
}

/// Read its records: partition/offset, time, key, value and headers, each partition in order, up to where it ends now
///
/// It belongs to no group and commits nothing. Without --committed, all is read, also what transactions have aborted.
#[derive(Args)]
#[command(after_help = READ_HELP)]
struct ReadArgs {
    /// The topic
    topic: String,

    /// Only what is committed, as members of groups see it: nothing that a transaction has aborted, and in each partition nothing
    /// behind one that is open
    #[arg(long)]
    committed: bool,

    /// Begin so many offsets before the end of each partition, rather than at its beginning
    #[arg(long, value_name = "OFFSETS", value_parser = clap::value_parser!(u32).range(1..))]
    newest: Option<u32>,

    /// Print so many records at the most
    #[arg(long, value_name = "RECORDS")]
    limit: Option<usize>,
}

const READ_HELP: &str = "\
Examples:
  turnstile topic read orders --newest 10
  turnstile topic read orders --committed --json | jq -r 'select(.key == \"order-42\").value'";

/// Say how many partitions a rate, a record's time and a number of members need, and what the brokers bear
#[derive(Args)]
#[command(after_help = PLAN_HELP)]
struct PlanArgs {
    /// The topic
    topic: String,

    /// How many records a second it is to carry at the worst
    #[arg(long, value_name = "RECORDS")]
    rate: f64,

    /// How long a record takes to be handled, such as 20ms
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    time: std::time::Duration,

    /// How many members the group has
    #[arg(long, default_value_t = 1)]
    members: u32,

    /// How many records of one partition are worked on at once: above 1 where they are ordered by key only
    #[arg(long, value_name = "RECORDS", default_value_t = 1)]
    at_once: u32,

    /// Look at the hottest key too, in up to so many of the newest records
    #[arg(long, value_name = "RECORDS", num_args = 0..=1, default_missing_value = "100000")]
    skew: Option<u64>,

    #[command(flatten)]
    limits: LimitArgs,
}

const PLAN_HELP: &str = "\
rate × time is how many records are in work at any time (Little's law). With 7 of 10 partitions busy, one record at once in
each, at least one a member and a multiple of the members, that makes the number.

Example:
  turnstile topic plan orders --rate 2000 --time 20ms --members 6";

/// How much brokers bear.
#[derive(Args)]
struct LimitArgs {
    /// How many replicas of partitions a broker should keep at the most
    #[arg(long, value_name = "REPLICAS", default_value_t = 4_000)]
    per_broker: u64,

    /// How many all brokers should keep at the most
    #[arg(long, value_name = "REPLICAS", default_value_t = 200_000)]
    per_cluster: u64,
}

impl LimitArgs {
    fn limits(&self) -> kafka_partitions::Limits {
        kafka_partitions::Limits::new(self.per_broker, self.per_cluster)
    }
}

/// Does it.
pub fn run(args: &TopicArgs) -> ExitCode {
    ExitCode::from(act(args).unwrap_or_else(|failure| {
        let style = if args.json { Style::Json } else { Style::Normal };
        if let Some(line) = style.line(&Event::from(&failure)) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        failure.code
    }))
}

fn act(args: &TopicArgs) -> Result<u8, Failure> {
    let (config, _) = args.brokers.config()?;
    let cluster = Cluster::from_config(config.clone());
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(exit::SOFTWARE, format!("no runtime: {error}")))?;
    let done = runtime.block_on(async {
        match &args.action {
            Action::Show(show) => show::run(&cluster, show, args.json).await,
            Action::Read(read) => read::run(&cluster, config, read, args.json).await,
            Action::Plan(plan) => plan::run(&cluster, plan, args.json).await,
            Action::Grow(grow) => change::grow(&cluster, grow, args.json).await,
            Action::Shrink(shrink) => change::shrink(&cluster, shrink, args.json).await,
            Action::Move(relocate) => change::relocate(&cluster, relocate, args.json).await,
            Action::Withdraw { topic } => change::withdraw(&cluster, topic, args.json).await,
        }
    });
    // A call of the client that hangs is not waited for.
    runtime.shutdown_background();
    done
}

/// Prints it as one object, or as words.
fn print(json: bool, answer: &impl Serialize, words: impl FnOnce() -> String) {
    let text = if json { serde_json::to_string(answer).unwrap_or_default() } else { words() };
    // A reader that went away (`| head -1`) is no failure.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

impl From<TopicError> for Failure {
    fn from(error: TopicError) -> Self {
        let code = match &error {
            TopicError::Unreachable { .. } => exit::UNAVAILABLE,
            TopicError::Denied { .. } => exit::DENIED,
            TopicError::UnknownTopic(_) | TopicError::Option { .. } => exit::CONFIG,
            _ => exit::SOFTWARE,
        };
        Self::new(code, crate::lock::printable(&error.to_string()))
    }
}
