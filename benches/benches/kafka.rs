//! `cargo bench -p turnstile-benches --bench kafka -- [--json] [--only ID]`: kafka-offsets and kafka-group, the latter
//! beside bare rdkafka by turns.

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use kafka_group::Protocol;
use turnstile_benches::consume::{Keys, Read, Topic};
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
    /// One JSON object a line instead of the table.
    #[arg(long)]
    json: bool,
    /// These pairs only: an id, or its beginning.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Just to see that it works: the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// How many records the topic has that each round reads.
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// How many rounds each pair has of reading the topic.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Reads the topic once by this side alone and ends: for a profiler.
    #[arg(long, value_name = "SIDE")]
    once: Option<Side>,
    /// Said by cargo bench; without it (cargo test) only `--quick` is done.
    #[arg(long, hide = true)]
    bench: bool,
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
    let args = Args::parse();
    let runtime = runtime()?;
    let mut size = if args.quick || !args.bench {
        Size { completions: 2, records: 20_000, reads: 1, takeovers: 1 }
    } else {
        Size { completions: 100, records: 2_000_000, reads: 11, takeovers: 15 }
    };
    size.records = args.records.unwrap_or(size.records);
    size.reads = args.rounds.unwrap_or(size.reads);
    if let Some(side) = args.once {
        return runtime.block_on(once(side, size.records));
    }
    let wanted = |id: &str| args.only.is_empty() || args.only.iter().any(|only| id.starts_with(only.as_str()));
    if !IDS.iter().any(|id| wanted(id)) {
        bail!("there is no such pair: choose from {}", IDS.join(", "));
    }
    if !args.json {
        println!("medians of rounds taken by turns; {} records of 100 bytes\n\n{}", size.records, Row::head());
    }
    runtime.block_on(measure(&size, wanted, |row| {
        println!("{}", if args.json { row.json()? } else { row.line() });
        Ok(())
    }))
}

async fn measure(size: &Size, wanted: impl Fn(&str) -> bool, mut show: impl FnMut(Row) -> Result<()>) -> Result<()> {
    if wanted(COMPLETE) {
        let orders = offsets::orders();
        let nanos = alone(size.completions, async || Ok(offsets::complete(&orders))).await?;
        show(Row::alone(COMPLETE, "ns", Aim::AtMost(20.0), nanos))?;
    }
    if wanted(METADATA) {
        let offsets::Metadata { bytes, dropped, note } = offsets::metadata();
        show(Row::alone(METADATA, "bytes", Aim::AtMost(4096.0), bytes as f64).only_if(dropped == 0, note))?;
    }
    let reads = [(RECORDS, CPU, true), (RECORDS_BARE, CPU_BARE, false)];
    if reads.iter().any(|(records, cpu, _)| wanted(records) || wanted(cpu)) {
        let topic = Topic::fill(size.records, Keys::Empty).await?;
        for (records, cpu, headers) in reads.into_iter().filter(|(records, cpu, _)| wanted(records) || wanted(cpu)) {
            let reads = by_turns(size.reads, async || topic.ours(headers).await, async || topic.raw().await).await?;
            let compared = |part: fn(&Read) -> f64| {
                Compared::of(&reads.iter().map(|(ours, raw)| (part(ours), part(raw))).collect::<Vec<_>>())
            };
            if wanted(records) {
                let rates = compared(|read| read.rate);
                show(Row::compared(records, "records/s", Aim::RatioAtLeast(0.9), rates))?;
            }
            if wanted(cpu) {
                show(Row::compared(cpu, "s/million", Aim::RatioAtMost(1.15), compared(|read| read.cpu)))?;
            }
        }
    }
    let takeovers =
        [(TAKEOVER, Protocol::Cooperative), (TAKEOVER_EAGER, Protocol::Eager), (TAKEOVER_CONSUMER, Protocol::Consumer)];
    if takeovers.iter().any(|(id, _)| wanted(id)) {
        let shared = Shared::start().await?;
        for (id, protocol) in takeovers.into_iter().filter(|(id, _)| wanted(id)) {
            let ours = async || shared.ours(protocol).await;
            let compared = compare(size.takeovers, ours, async || shared.raw(protocol).await).await?;
            show(Row::compared(id, "ms", Aim::RatioAtMost(1.2), compared))?;
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
