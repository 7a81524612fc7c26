//! `cargo bench -p turnstile-benches --bench mt_consumer -- [--json] [--only ID]`: kafka-mt-consumer, beside bare rdkafka by
//! turns, or beside what the work alone allows.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use turnstile_benches::consume::{Keys, Read, Topic};
use turnstile_benches::options::Options;
use turnstile_benches::parallel::{p99, redone, victim};
use turnstile_benches::report::{Aim, Row};
use turnstile_benches::rounds::{Compared, alone, by_turns, compare};
use turnstile_benches::runtime;
use turnstile_benches::wait::{Exact, Wait};
use turnstile_testkit::kafka::Kafka;

const RECORDS: &str = "mt-consumer/records";
const CPU: &str = "mt-consumer/cpu";
/// What takes so many milliseconds, by an exact clock or tokio's, and how many records are read.
const WORK: [(&str, u64, bool, Keys, u64); 5] = [
    ("mt-consumer/1ms", 1, false, EVEN, 600_000),
    ("mt-consumer/1ms/exact", 1, true, EVEN, 1_000_000),
    ("mt-consumer/1ms/zipf", 1, false, ZIPF, 20_000),
    ("mt-consumer/10ms", 10, false, EVEN, 200_000),
    ("mt-consumer/10ms/zipf", 10, false, ZIPF, 3_000),
];
const SLOW_KEY: &str = "mt-consumer/slow-key-p99";
const REDONE: &str = "mt-consumer/redone";
const IDS: [&str; 9] = [RECORDS, CPU, WORK[0].0, WORK[1].0, WORK[2].0, WORK[3].0, WORK[4].0, SLOW_KEY, REDONE];

const EVEN: Keys = Keys::Even(10_000);
const ZIPF: Keys = Keys::Zipf(10_000);
const IN_FLIGHT: usize = 1000;

/// Ours and the raw client by turns in one run: a table, or JSON.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// How many records the topic has that each round reads.
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// Reads the topic once by key, with this many milliseconds of work, and ends: for a profiler.
    #[arg(long, value_name = "MS")]
    once: Option<u64>,
    /// For itself: a process that is to be killed.
    #[arg(long, hide = true, num_args = 3)]
    victim: Option<Vec<String>>,
}

fn main() -> Result<()> {
    let Args { options, records, once, victim: doomed } = Args::parse();
    let runtime = runtime()?;
    if let Some(told) = doomed {
        return match told.try_into() {
            Ok(told) => runtime.block_on(victim(told)),
            Err(told) => bail!("brokers, topic and group, and not {told:?}"),
        };
    }
    let records = records.unwrap_or(if options.quick() { 20_000 } else { 1_000_000 });
    if let Some(work) = once {
        return runtime.block_on(async {
            let topic = Topic::fill(records, EVEN).await?;
            let work = (work > 0).then(|| Wait::Tokio(Duration::from_millis(work)));
            let Read { rate, cpu } = topic.by_key(work, IN_FLIGHT).await?;
            println!("{} records: {rate:.0} a second, {cpu:.3} s of processor time a million", topic.records());
            Ok(())
        });
    }
    options.begin(&IDS, "medians of rounds taken by turns; records of 100 bytes, 10,000 keys")?;
    runtime.block_on(measure(records, &options))
}

async fn measure(records: u64, options: &Options) -> Result<()> {
    let (quick, rounds) = (options.quick(), options.rounds(7));
    if options.wants_any(&[RECORDS, CPU]) {
        let topic = Topic::fill(records, EVEN).await?;
        let ours = async || topic.by_key(None, IN_FLIGHT).await;
        let reads = by_turns(rounds, ours, async || topic.raw().await).await?;
        let compared = |part: fn(&Read) -> f64| {
            Compared::of(&reads.iter().map(|(ours, raw)| (part(ours), part(raw))).collect::<Vec<_>>())
        };
        options.show(&Row::compared(RECORDS, "records/s", Aim::RatioAtLeast(0.8), compared(|read| read.rate)))?;
        options.show(&Row::compared(CPU, "s/million", Aim::RatioAtMost(1.5), compared(|read| read.cpu)))?;
    }
    for (id, millis, exact, keys, records) in WORK.into_iter().filter(|(id, ..)| options.wants(id)) {
        let (time, records) = (Duration::from_millis(millis), if quick { records / 100 } else { records });
        let topic = Topic::fill(records, keys).await?;
        let of_work = (IN_FLIGHT as f64).min(1.0 / keys.hottest()) / time.as_secs_f64();
        let (mut timers, rounds) = (f64::MAX, rounds.min(5));
        let wait = if exact { Wait::Exact(Exact::new(time)) } else { Wait::Tokio(time) };
        let ours = async || Ok(topic.by_key(Some(wait.clone()), IN_FLIGHT).await?.rate);
        let ideal = async || {
            timers = wait.at_most(IN_FLIGHT).await.min(1.0 / keys.hottest() * wait.at_most(1).await);
            Ok(topic.raw().await?.rate.min(of_work))
        };
        let compared = compare(rounds, ours, ideal).await?;
        let note = format!("tasks that only wait: {timers:.0}");
        options.show(&Row::compared(id, "records/s", Aim::IdealAtLeast(0.9), compared).and(&note))?;
    }
    if !options.wants_any(&[SLOW_KEY, REDONE]) {
        return Ok(());
    }
    let server = Kafka::builder().for_measuring().start().await?;
    if options.wants(SLOW_KEY) {
        let slow = async || p99(&server, Some(Duration::from_millis(100))).await;
        let compared = compare(rounds, slow, async || p99(&server, None).await).await?;
        options.show(&Row::compared(SLOW_KEY, "ms", Aim::RatioAtMost(1.2), compared))?;
    }
    if options.wants(REDONE) {
        let mut left = 0;
        let again = async || {
            let (again, not_done) = redone(&server).await?;
            left = not_done;
            Ok(again)
        };
        let again = alone(rounds.min(3), again).await?;
        let note = format!("{left} that were not done, as they should");
        options.show(&Row::alone(REDONE, "records", Aim::AtMost(0.0), again).only_if(left == 100, note))?;
    }
    Ok(())
}
