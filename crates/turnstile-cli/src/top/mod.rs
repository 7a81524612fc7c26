//! `turnstile top`: locks, semaphores, queues and groups on one screen, or as one frame for scripts.

mod keys;
mod model;
mod names;
mod redis;
mod screen;
mod view;

#[cfg(feature = "kafka")]
mod kafka;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::model::Picture;
use crate::events::{Event, Style};
use crate::exit::{self, Failure};
use crate::server::Server;

/// Show locks, semaphores, queues and consumer groups, over and over
///
/// It only reads. Names are found by SCAN on the Redis, and by the list of groups on the Kafka, unless they are given. A
/// Redis or a Kafka that does not answer is a line of the view, not its end.
///
/// Keys: q ends it; Tab, Left, Right choose a section; Up, Down a row; s sorts by the next column; r asks at once.
///
/// Exit code: 0; with --once or --json, where neither a Redis nor a Kafka answered, as of `turnstile who`.
#[derive(Args)]
#[command(after_help = HELP)]
pub struct TopArgs {
    /// Show this lock; may be repeated. With a name of a lock, semaphore or queue, no others are looked for
    #[arg(long = "lock", value_name = "NAME")]
    locks: Vec<String>,

    /// Show this semaphore; may be repeated
    #[arg(long = "semaphore", value_name = "NAME")]
    semaphores: Vec<String>,

    /// Show this queue; may be repeated
    #[arg(long = "queue", value_name = "NAME")]
    queues: Vec<String>,

    /// Show this Kafka consumer group, and no others; may be repeated
    #[cfg(feature = "kafka")]
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,

    /// How many keys of the Redis SCAN may look at for each frame, in steps of 1,000; the next frame goes on from there.
    /// 0 looks for nothing. [default: 20000; for one frame 100000]
    #[arg(long, value_name = "KEYS")]
    scan: Option<u64>,

    /// How long from one answer to the next question
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    every: Duration,

    /// Print one frame as text, and end
    #[arg(long)]
    once: bool,

    /// Print one frame as a JSON object, and end
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: Server,

    #[cfg(feature = "kafka")]
    #[command(flatten)]
    brokers: crate::brokers::Brokers,
}

const HELP: &str = "\
Examples:
  turnstile top
  turnstile top --once --queue invoices --group orders
  turnstile top --json | jq -r '.verdicts[]'";

/// The keys that SCAN looks at for each frame, and for the only one. A thousand take the server about a millisecond.
const SCAN: u64 = 20_000;
const SCAN_ONCE: u64 = 100_000;
/// The least time between two questions.
const LEAST: Duration = Duration::from_millis(100);

/// Shows it.
pub fn run(args: TopArgs) -> ExitCode {
    let style = if args.json { Style::Json } else { Style::Normal };
    ExitCode::from(show(args).unwrap_or_else(|failure| {
        if let Some(line) = style.line(&Event::from(&failure)) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        failure.code
    }))
}

/// A part of the picture that is asked for by itself, so that a Kafka that is down does not hold up the Redis.
type Asking = Box<dyn FnMut() -> model::Part + Send>;

fn show(args: TopArgs) -> Result<u8, Failure> {
    let once = args.once || args.json;
    let can_draw = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !once && !can_draw {
        let text = "top draws on a terminal, and this is none: say --once for one frame as text, or --json";
        return Err(Failure::new(exit::USAGE, text));
    }
    let (json, every) = (args.json, args.every.max(LEAST));
    let scan = args.scan.unwrap_or(if once { SCAN_ONCE } else { SCAN });
    let askers = askers(args, scan)?;
    if !once {
        return screen::run(askers, every);
    }
    let mut picture = Picture::default();
    std::thread::scope(|scope| {
        let asked: Vec<_> = askers.into_iter().map(|ask| scope.spawn(ask)).collect();
        for part in asked.into_iter().filter_map(|asked| asked.join().ok()) {
            picture.take(part);
        }
    });
    let text = if json { serde_json::to_string(&picture).unwrap_or_default() } else { view::text(&picture) };
    // A reader that went away (`| head -1`) is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(picture.code())
}

fn askers(args: TopArgs, scan: u64) -> Result<Vec<Asking>, Failure> {
    let mut askers: Vec<Asking> = Vec::new();
    if args.server.address().is_some() {
        let mut redis = redis::Redis::new(args.server, args.locks, args.semaphores, args.queues, scan)?;
        askers.push(Box::new(move || redis.ask()));
    }
    #[cfg(feature = "kafka")]
    if args.brokers.is_given() {
        let mut kafka = kafka::Kafka::new(args.brokers, args.groups);
        askers.push(Box::new(move || kafka.ask()));
    }
    if askers.is_empty() {
        let text = "which servers? Give a Redis by --url or TURNSTILE_REDIS_URL, a Kafka by --brokers or \
                    TURNSTILE_KAFKA_BROKERS, or both";
        return Err(Failure::new(exit::USAGE, text));
    }
    Ok(askers)
}
