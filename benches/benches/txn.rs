//! `cargo bench -p turnstile-benches --bench txn -- [--json] [--only ID]`: kafka-txn beside a bare transactional loop, and
//! beside at-least-once, by turns.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use turnstile_benches::copy::{Copy, Limits};
use turnstile_benches::options::Options;
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
    #[command(flatten)]
    options: Options,
}

fn main() -> Result<()> {
    let Args { options } = Args::parse();
    options.begin(&IDS, "medians of rounds of seconds, taken by turns; records of 100 bytes")?;
    runtime()?.block_on(measure(&options))
}

async fn measure(options: &Options) -> Result<()> {
    let quick = options.quick();
    let copy = Copy::fill(if quick { 10_000 } else { 20_000 }).await?;
    for (id, limits) in [(COPY, SMALL), (COPY_LARGE, LARGE)] {
        if options.wants(id) {
            let ours = async |copy: &Copy| copy.ours(limits).await;
            let compared = pair(&copy, options, ours, async |copy| copy.raw(limits).await).await?;
            options.show(&Row::compared(id, "records/s", Aim::RatioAtLeast(2.0), compared))?;
        }
    }
    if options.wants(AT_LEAST_ONCE) {
        let ours = async |copy: &Copy| copy.ours(TIMED).await;
        let compared = pair(&copy, options, ours, async |copy| copy.at_least_once().await).await?;
        options.show(&Row::compared(AT_LEAST_ONCE, "records/s", Aim::RatioAtLeast(0.7), compared))?;
    }
    if options.wants(PARALLEL) {
        let (work, at_once) = (Duration::from_millis(10), NonZeroUsize::MIN.saturating_add(999));
        let ours = async |copy: &Copy| copy.ours_parallel(LARGE, work, at_once).await;
        let raw = async |copy: &Copy| copy.parallel_at_least_once(work, at_once).await;
        let compared = pair(&copy, options, ours, raw).await?;
        options.show(&Row::compared(PARALLEL, "records/s", Aim::RatioAtLeast(0.85), compared))?;
    }
    if options.wants(LATENCY) {
        // A tenth of the top rate, as it is here and now.
        let ours = async |copy: &Copy| copy.ours(LARGE).await;
        let rate = if quick { ours(&copy).await? } else { ours(&copy.sized(ours).await?).await? };
        let rate = (rate / 10.0) as u64;
        let time = Duration::from_secs(if quick { 1 } else { 15 });
        let (median, p99) = copy.latency(LARGE, rate.max(100), time).await?;
        let note = format!("at {rate} records/s; the median is {median:.0} ms");
        options.show(&Row::alone(LATENCY, "ms", Aim::AtMost(250.0), p99).and(&note))?;
    }
    Ok(())
}

/// Each side by turns, with inputs that keep them busy for seconds.
async fn pair(
    copy: &Copy,
    options: &Options,
    mut ours: impl AsyncFnMut(&Copy) -> Result<f64>,
    mut raw: impl AsyncFnMut(&Copy) -> Result<f64>,
) -> Result<Compared> {
    let rounds = options.rounds(7);
    if options.quick() {
        return compare(rounds, async || ours(copy).await, async || raw(copy).await).await;
    }
    let (of_ours, of_raw) = (copy.sized(&mut ours).await?, copy.sized(&mut raw).await?);
    compare(rounds, async || ours(&of_ours).await, async || raw(&of_raw).await).await
}
