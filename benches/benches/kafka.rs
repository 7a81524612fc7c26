//! `cargo bench -p turnstile-benches --bench kafka -- [--json] [--only ID]`: kafka-offsets and kafka-group, the latter
//! beside bare rdkafka by turns.

use anyhow::Result;
use clap::{Parser, ValueEnum};
use kafka_group::Protocol;
use turnstile_benches::consume::{Keys, Read, Topic};
use turnstile_benches::options::Options;
use turnstile_benches::report::{Aim, Row};
use turnstile_benches::rounds::{Compared, alone, by_turns, compare};
use turnstile_benches::takeover::Shared;
use turnstile_benches::{offsets, runtime};

/// What this measures, in the order in which it does. Records and processor time come from the same rounds.
const IDS: [&str; 9] =
    [COMPLETE, METADATA, RECORDS, CPU, RECORDS_BARE, CPU_BARE, TAKEOVER, TAKEOVER_EAGER, TAKEOVER_CONSUMER];
const COMPLETE: &str = "kafka-offsets/complete";
const METADATA: &str = "kafka-offsets/metadata";
const RECORDS: &str = "kafka-group/records";
const CPU: &str = "kafka-group/cpu";
const RECORDS_BARE: &str = "kafka-group/records/without-headers";
const CPU_BARE: &str = "kafka-group/cpu/without-headers";
const TAKEOVER: &str = "kafka-group/takeover";
const TAKEOVER_EAGER: &str = "kafka-group/takeover/eager";
const TAKEOVER_CONSUMER: &str = "kafka-group/takeover/848";

/// Ours and the raw client by turns in one run: a table, or JSON.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// How many records the topic has that each round reads.
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// Reads the topic once by this side alone and ends: for a profiler.
    #[arg(long, value_name = "SIDE")]
    once: Option<Side>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Side {
    Ours,
    Raw,
}

/// How much is done of each.
struct Size {
    /// Rounds of windows of completions.
    completions: usize,
    records: u64,
    /// Rounds of reading the topic.
    reads: usize,
    /// Rounds of take-overs.
    takeovers: usize,
}

fn main() -> Result<()> {
    let Args { options, records, once: by } = Args::parse();
    let (runtime, quick) = (runtime()?, options.quick());
    let size = Size {
        completions: if quick { 2 } else { 100 },
        records: records.unwrap_or(if quick { 20_000 } else { 2_000_000 }),
        reads: options.rounds(11),
        takeovers: options.rounds(15),
    };
    if let Some(side) = by {
        return runtime.block_on(once(side, size.records));
    }
    options.begin(&IDS, &format!("medians of rounds taken by turns; {} records of 100 bytes", size.records))?;
    runtime.block_on(measure(&size, &options))
}

async fn measure(size: &Size, options: &Options) -> Result<()> {
    if options.wants(COMPLETE) {
        let orders = offsets::orders();
        let nanos = alone(size.completions, async || Ok(offsets::complete(&orders))).await?;
        options.show(&Row::alone(COMPLETE, "ns", Aim::AtMost(20.0), nanos))?;
    }
    if options.wants(METADATA) {
        let offsets::Metadata { bytes, dropped, note } = offsets::metadata();
        options.show(&Row::alone(METADATA, "bytes", Aim::AtMost(4096.0), bytes as f64).only_if(dropped == 0, note))?;
    }
    let reads = [(RECORDS, CPU, true), (RECORDS_BARE, CPU_BARE, false)];
    if reads.iter().any(|(records, cpu, _)| options.wants_any(&[records, cpu])) {
        let topic = Topic::fill(size.records, Keys::Empty).await?;
        for (records, cpu, headers) in reads.into_iter().filter(|(records, cpu, _)| options.wants_any(&[records, cpu]))
        {
            let reads = by_turns(size.reads, async || topic.ours(headers).await, async || topic.raw().await).await?;
            let compared = |part: fn(&Read) -> f64| {
                Compared::of(&reads.iter().map(|(ours, raw)| (part(ours), part(raw))).collect::<Vec<_>>())
            };
            if options.wants(records) {
                let rates = compared(|read| read.rate);
                options.show(&Row::compared(records, "records/s", Aim::RatioAtLeast(0.9), rates))?;
            }
            if options.wants(cpu) {
                options.show(&Row::compared(cpu, "s/million", Aim::RatioAtMost(1.15), compared(|read| read.cpu)))?;
            }
        }
    }
    let takeovers =
        [(TAKEOVER, Protocol::Cooperative), (TAKEOVER_EAGER, Protocol::Eager), (TAKEOVER_CONSUMER, Protocol::Consumer)];
    if takeovers.iter().any(|(id, _)| options.wants(id)) {
        let shared = Shared::start().await?;
        for (id, protocol) in takeovers.into_iter().filter(|(id, _)| options.wants(id)) {
            let ours = async || shared.ours(protocol).await;
            let compared = compare(size.takeovers, ours, async || shared.raw(protocol).await).await?;
            options.show(&Row::compared(id, "ms", Aim::RatioAtMost(1.2), compared))?;
        }
    }
    Ok(())
}

/// One reading by one side. The broker is another process, and so is not in a profile of this one.
async fn once(side: Side, records: u64) -> Result<()> {
    let topic = Topic::fill(records, Keys::Empty).await?;
    let Read { rate, cpu } = match side {
        Side::Ours => topic.ours(true).await?,
        Side::Raw => topic.raw().await?,
    };
    println!("{} records: {rate:.0} a second, {cpu:.3} s of processor time a million", topic.records());
    Ok(())
}
