//! `cargo bench -p turnstile-benches --bench txn -- [--json] [--only ID]`: kafka-txn beside a bare transactional loop, and
//! beside at-least-once, by turns.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use turnstile_benches::copy::{Copy, Limits};
use turnstile_benches::report::{Aim, Row};
use turnstile_benches::rounds::{Compared, compare};
use turnstile_benches::runtime;

const IDS: [&str; 5] = [COPY, COPY_LARGE, AT_LEAST_ONCE, PARALLEL, LATENCY];
const COPY: &str = "txn/copy";
const COPY_LARGE: &str = "txn/copy/10k";
const AT_LEAST_ONCE: &str = "txn/against-at-least-once";
const PARALLEL: &str = "txn/parallel";
const LATENCY: &str = "txn/p99-ms";

/// 100 ms, or 1,000 records.
const SMALL: Limits = Limits { every: Duration::from_millis(100), records: 1_000 };
/// 100 ms, or 10,000 records.
const LARGE: Limits = Limits { every: Duration::from_millis(100), records: 10_000 };
/// 100 ms, whatever comes in them.
const TIMED: Limits = Limits { every: Duration::from_millis(100), records: 100_000 };

/// Ours and the other side by turns in one run: a table, or JSON.
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
    /// How many records are copied in each round.
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// How many rounds each pair has.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Said by cargo bench; without it (cargo test) only `--quick` is done.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let quick = args.quick || !args.bench;
    let (records, rounds) = if quick { (10_000, 1) } else { (200_000, 7) };
    let (records, rounds) = (args.records.unwrap_or(records), args.rounds.unwrap_or(rounds));
    let wanted = |id: &str| args.only.is_empty() || args.only.iter().any(|only| id.starts_with(only.as_str()));
    if !IDS.iter().any(|id| wanted(id)) {
        bail!("there is no such pair: choose from {}", IDS.join(", "));
    }
    if !args.json {
        println!("medians of rounds taken by turns; {records} records of 100 bytes\n\n{}", Row::head());
    }
    runtime()?.block_on(measure(records, rounds, quick, wanted, |row| {
        println!("{}", if args.json { row.json()? } else { row.line() });
        Ok(())
    }))
}

async fn measure(
    records: u64,
    rounds: usize,
    quick: bool,
    wanted: impl Fn(&str) -> bool,
    mut show: impl FnMut(Row) -> Result<()>,
) -> Result<()> {
    let copy = Copy::fill(records.min(20_000)).await?;
    for (id, limits) in [(COPY, SMALL), (COPY_LARGE, LARGE)] {
        if wanted(id) {
            let ours = async |copy: &Copy| copy.ours(limits).await;
            let compared = pair(&copy, rounds, quick, ours, async |copy| copy.raw(limits).await).await?;
            show(Row::compared(id, "records/s", Aim::RatioAtLeast(2.0), compared))?;
        }
    }
    if wanted(AT_LEAST_ONCE) {
        let ours = async |copy: &Copy| copy.ours(TIMED).await;
        let compared = pair(&copy, rounds, quick, ours, async |copy| copy.at_least_once().await).await?;
        show(Row::compared(AT_LEAST_ONCE, "records/s", Aim::RatioAtLeast(0.7), compared))?;
    }
    if wanted(PARALLEL) {
        let (work, at_once) = (Duration::from_millis(10), NonZeroUsize::MIN.saturating_add(999));
        let ours = async |copy: &Copy| copy.ours_parallel(LARGE, work, at_once).await;
        let raw = async |copy: &Copy| copy.parallel_at_least_once(work, at_once).await;
        let compared = pair(&copy, rounds, quick, ours, raw).await?;
        show(Row::compared(PARALLEL, "records/s", Aim::RatioAtLeast(0.85), compared))?;
    }
    if wanted(LATENCY) {
        // A tenth of the top rate, as it is here and now.
        let ours = async |copy: &Copy| copy.ours(LARGE).await;
        let rate = match quick {
            true => ours(&copy).await?,
            false => ours(&copy.sized(ours).await?).await?,
        };
        let rate = (rate / 10.0) as u64;
        let time = Duration::from_secs(if quick { 1 } else { 15 });
        let (median, p99) = copy.latency(LARGE, rate.max(100), time).await?;
        let note = format!("at {rate} records/s; the median is {median:.0} ms");
        show(Row::alone(LATENCY, "ms", Aim::AtMost(250.0), p99).and(&note))?;
    }
    Ok(())
}

/// Each side by turns, with inputs that keep them busy for seconds.
async fn pair(
    copy: &Copy,
    rounds: usize,
    quick: bool,
    mut ours: impl AsyncFnMut(&Copy) -> Result<f64>,
    mut raw: impl AsyncFnMut(&Copy) -> Result<f64>,
) -> Result<Compared> {
    if quick {
        return compare(rounds, async || ours(copy).await, async || raw(copy).await).await;
    }
    let (of_ours, of_raw) = (copy.sized(&mut ours).await?, copy.sized(&mut raw).await?);
    compare(rounds, async || ours(&of_ours).await, async || raw(&of_raw).await).await
}
