//! `cargo bench -p turnstile-benches --bench locks -- [--json] [--only ID] [--rounds N]`: the locks and semaphores that hand
//! over between processes, beside a hand-over by bare messages.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use turnstile_benches::options::Options;
use turnstile_benches::redlock::Nodes;
use turnstile_benches::report::{Aim, Row};
use turnstile_benches::rounds::{Compared, alone, compare, quantile};
use turnstile_benches::turns::{Plan, Round, Side, Waiters, median, take_turns};
use turnstile_benches::{WORKERS, runtime};

/// What this measures, in the order in which it does.
const IDS: [&str; 8] = [HAND_OVER, HAND_OVER_P99, CROWD, LONGEST, COMMANDS, SEMAPHORE, REDLOCK, ONE_HUNG];
const HAND_OVER: &str = "pubsub-lock/handover";
const HAND_OVER_P99: &str = "pubsub-lock/handover-p99";
const CROWD: &str = "pubsub-lock/16-waiters";
const LONGEST: &str = "pubsub-lock/longest-wait";
const COMMANDS: &str = "pubsub-lock/commands";
const SEMAPHORE: &str = "semaphore/16-waiters";
const REDLOCK: &str = "redlock/p50";
const ONE_HUNG: &str = "redlock/one-hung-p99";

/// Processes, and waiters of each.
const PROCESSES: usize = 4;
const EACH: usize = 4;
/// Permits of the semaphore.
const PERMITS: u32 = 4;

/// Ours and the raw client by turns in one run: a table, or JSON.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// What this program says to itself to take turns: the server.
    #[arg(long, hide = true)]
    turns: Option<String>,
}

/// How much is done of each.
struct Size {
    rounds: usize,
    /// The length of a round of two waiters, and of one of many.
    lengths: (Duration, Duration),
}

fn main() -> Result<()> {
    let Args { options, turns } = Args::parse();
    let runtime = runtime()?;
    if let Some(url) = turns {
        return take_turns(&runtime, &url);
    }
    let short = Duration::from_millis(if options.quick() { 50 } else { 500 });
    let size = Size { rounds: options.rounds(15), lengths: (short, 2 * short) };
    options.begin(
        &IDS,
        &format!("{WORKERS} worker threads (tokio, multi-thread) a process; medians of rounds taken by turns"),
    )?;
    runtime.block_on(async {
        if options.wants_any(&IDS[..6]) {
            by_turns(&size, &options).await?;
        }
        if options.wants_any(&IDS[6..]) {
            over_nodes(&size, &options).await?;
        }
        Ok(())
    })
}

/// One of each kind, one after the other.
struct Rounds {
    raw: Round,
    two: Round,
    crowd: Round,
    semaphore: Option<Round>,
}

/// The lock and the semaphore.
async fn by_turns(size: &Size, options: &Options) -> Result<()> {
    let mut waiters = Waiters::start(PROCESSES, || {
        let mut command = Command::new(std::env::current_exe().unwrap_or_default());
        command.arg("--turns");
        command
    })
    .await?;
    let two = |side| Plan { side, crowd: (2, 1), pause: Duration::from_micros(200), length: size.lengths.0 };
    let many = |side| Plan { side, crowd: (PROCESSES, EACH), pause: Duration::ZERO, length: size.lengths.1 };
    let mut rounds = Vec::new();
    for round in 0..=size.rounds {
        let mut pair = [Side::Raw, Side::Lock];
        pair.rotate_left(round % 2);
        let mut done = Vec::new();
        for side in pair {
            done.push(waiters.round(two(side)).await?);
        }
        done.rotate_left(round % 2);
        let [raw, two] = done.try_into().map_err(|_| anyhow::anyhow!("two sides"))?;
        let crowd = waiters.round(many(Side::Lock)).await?;
        let semaphore =
            if options.wants(SEMAPHORE) { Some(waiters.round(many(Side::Semaphore(PERMITS))).await?) } else { None };
        rounds.push(Rounds { raw, two, crowd, semaphore });
    }
    rounds.remove(0); // The first does not count.

    let pairs = |ours: &dyn Fn(&Rounds) -> f64, raw: &dyn Fn(&Rounds) -> f64| {
        Compared::of(&rounds.iter().map(|round| (ours(round), raw(round))).collect::<Vec<_>>())
    };
    let raw_p50 = |round: &Rounds| median(round.raw.hand_overs());
    let p50 = |round: &Rounds| median(round.two.hand_overs());
    let p99 = |round: &Round| quantile(&mut round.hand_overs(), 0.99);
    // What the work takes is what it takes by hand; one turn is that and our hand-over.
    let one_turn = |round: &Rounds| median(round.raw.work()) + p50(round);
    if options.wants(HAND_OVER) {
        options.show(&Row::compared(HAND_OVER, "µs", Aim::RatioAtMost(1.5), pairs(&p50, &raw_p50)))?;
    }
    if options.wants(HAND_OVER_P99) {
        let compared = pairs(&|round| p99(&round.two), &raw_p50);
        let raw = median(rounds.iter().map(|round| p99(&round.raw)).collect());
        let row = Row::compared(HAND_OVER_P99, "µs", Aim::RatioAtMost(5.0), compared);
        options.show(&row.and(&format!("raw is its p50; its p99 is {raw:.0}")))?;
    }
    if options.wants(CROWD) {
        let compared = pairs(&|round| round.crowd.rate(), &|round| 1e6 / one_turn(round));
        let row = Row::compared(CROWD, "grants/s", Aim::IdealAtLeast(0.9), compared);
        let handed = median(rounds.iter().flat_map(|round| round.crowd.hand_overs()).collect());
        options.show(&row.and(&format!("{}; hand-over here {handed:.0}", work(&rounds, |round| &round.crowd))))?;
    }
    if options.wants(LONGEST) {
        let compared = pairs(&|round| round.crowd.longest_wait() / 1e3, &|round| {
            one_turn(round) * (PROCESSES * EACH) as f64 / 1e3
        });
        options.show(&Row::compared(LONGEST, "ms", Aim::IdealAtMost(1.3), compared))?;
    }
    if options.wants(COMMANDS) {
        let commands = median(rounds.iter().map(|round| round.crowd.commands).collect());
        options.show(&Row::alone(COMMANDS, "a grant", Aim::AtMost(3.0), commands))?;
    }
    if options.wants(SEMAPHORE) {
        let rate = |round: &Rounds| round.semaphore.as_ref().map_or(f64::NAN, Round::rate);
        let compared = pairs(&rate, &|round| f64::from(PERMITS) * 1e6 / one_turn(round));
        let row = Row::compared(SEMAPHORE, "grants/s", Aim::IdealAtLeast(0.9), compared);
        let commands = median(rounds.iter().filter_map(|round| Some(round.semaphore.as_ref()?.commands)).collect());
        let work = work(&rounds, |round| round.semaphore.as_ref().unwrap_or(&round.crowd));
        options.show(&row.and(&format!("{commands:.2} requests a grant; {work}")))?;
    }
    Ok(())
}

/// The lock over five nodes.
async fn over_nodes(size: &Size, options: &Options) -> Result<()> {
    let nodes = Nodes::start().await?;
    let (short, long) = size.lengths;
    if options.wants(REDLOCK) {
        let plain = alone(size.rounds, async || nodes.plain(short).await.map(median)).await?;
        let ours = async || nodes.ours(short).await.map(median);
        let compared = compare(size.rounds, ours, async || nodes.by_hand(short).await.map(median)).await?;
        let row = Row::compared(REDLOCK, "µs", Aim::RatioAtMost(1.3), compared);
        options.show(&row.and(&format!("plain SET NX PX: {plain:.0} µs")))?;
    }
    if options.wants(ONE_HUNG) {
        let p99 = |mut took: Vec<f64>| quantile(&mut took, 0.99);
        let mut node = 0;
        let hung = async || {
            node += 1;
            nodes.ours_with_one_hung(node, long).await.map(p99)
        };
        let compared = compare(size.rounds, hung, async || nodes.ours(long).await.map(p99)).await?;
        let row = Row::compared(ONE_HUNG, "µs", Aim::RatioAtMost(1.5), compared);
        options.show(&row.and("raw is ours with five healthy"))?;
    }
    Ok(())
}

/// What the work took, in µs: by hand, and in these rounds.
fn work(rounds: &[Rounds], of: impl Fn(&Rounds) -> &Round) -> String {
    let alone = median(rounds.iter().flat_map(|round| round.raw.work()).collect());
    let here = median(rounds.iter().flat_map(|round| of(round).work()).collect());
    format!("the work takes {alone:.0} µs by hand, {here:.0} here")
}
