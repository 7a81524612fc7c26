//! `cargo bench -p turnstile-benches --bench ratios -- [--json] [--only ID]`: each pair, ours and raw by turns.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use turnstile_benches::held::{self, Plan};
use turnstile_benches::options::Options;
use turnstile_benches::redis_lock::{self as work, Bench};
use turnstile_benches::report::{Aim, Row};
use turnstile_benches::rounds::{alone, compare, quantile};
use turnstile_benches::{WORKERS, runtime};

/// What this measures, in the order in which it does. The last two come from one run.
const IDS: [&str; 6] = [ONE_TASK, MANY_KEYS, ONE_KEY, HAND_OVER, HELD_BYTES, RENEW_CPU];
const ONE_TASK: &str = "redis-lock/one-task";
const MANY_KEYS: &str = "redis-lock/64-keys";
const ONE_KEY: &str = "redis-lock/one-key-16-tasks";
const HAND_OVER: &str = "redis-lock/local-handover";
const HELD_BYTES: &str = "redis-lock/held-bytes";
const RENEW_CPU: &str = "redis-lock/renew-cpu";

/// Ours and the raw client by turns in one run: a table, or JSON.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// What this program says to itself to hold leases: the server and the plan.
    #[arg(long, hide = true, num_args = 2)]
    hold: Vec<String>,
}

fn main() -> Result<()> {
    let Args { options, hold } = Args::parse();
    let runtime = runtime()?;
    if let [url, plan] = &hold[..] {
        return runtime.block_on(held::hold(url, plan));
    }
    let mut size = if options.quick() { Size::QUICK } else { Size::FULL };
    if let Some(rounds) = options.rounds {
        size.rounds = (rounds, rounds);
    }
    options.begin(
        &IDS,
        &format!("{WORKERS} worker threads (tokio, multi-thread), for both sides; medians of rounds taken by turns"),
    )?;
    runtime.block_on(measure(&size, &options))
}

/// How much is done of each.
struct Size {
    /// Rounds of one task, and of many.
    rounds: (usize, usize),
    /// Cycles of one task in a round, and of each of many.
    cycles: (usize, usize),
    /// The length of a round that is measured by time.
    round: Duration,
    held: Plan,
}

impl Size {
    const FULL: Self = Self {
        rounds: (200, 40),
        cycles: (250, 100),
        round: Duration::from_millis(100),
        held: Plan { leases: 100_000, ttl: Duration::from_secs(30), window: Duration::from_secs(30) },
    };
    const QUICK: Self = Self {
        rounds: (4, 4),
        cycles: (50, 10),
        round: Duration::from_millis(20),
        held: Plan { leases: 2_000, ttl: Duration::from_secs(3), window: Duration::from_secs(3) },
    };
}

async fn measure(size: &Size, options: &Options) -> Result<()> {
    let bench = Bench::start().await?;
    let Bench { locks, raw, .. } = &bench;
    let (few, many) = (size.rounds.1, size.rounds.0);

    if options.wants(ONE_TASK) {
        let cycles = size.cycles.0;
        let compared = compare(
            many,
            async || Ok(quantile(&mut work::one_task(locks, cycles).await?, 0.5)),
            async || Ok(quantile(&mut work::one_task_raw(raw, cycles).await?, 0.5)),
        );
        options.show(&Row::compared(ONE_TASK, "µs", Aim::RatioAtMost(1.05), compared.await?))?;
    }
    if options.wants(MANY_KEYS) {
        let (tasks, cycles) = (64, size.cycles.1);
        let rate = |took: Duration| (tasks * cycles) as f64 / took.as_secs_f64();
        let compared = compare(
            few,
            async || work::many_keys(locks, tasks, cycles).await.map(rate),
            async || work::many_keys_raw(raw, tasks, cycles).await.map(rate),
        );
        options.show(&Row::compared(MANY_KEYS, "cycles/s", Aim::RatioAtLeast(0.95), compared.await?))?;
    }
    if options.wants(ONE_KEY) {
        let compared = compare(
            few,
            async || work::one_key(locks, 16, size.round).await,
            async || work::one_key_raw(raw, 16, size.round).await,
        );
        options.show(&Row::compared(ONE_KEY, "grants/s", Aim::RatioAtLeast(20.0), compared.await?))?;
    }
    if options.wants(HAND_OVER) {
        let p50 = async || Ok(quantile(&mut work::hand_overs(locks, 4, size.round).await?, 0.5));
        options.show(&Row::alone(HAND_OVER, "µs", Aim::AtMost(20.0), alone(few, p50).await?))?;
    }
    drop(bench);

    if options.wants_any(&[HELD_BYTES, RENEW_CPU]) {
        let mut holder = Command::new(std::env::current_exe()?);
        holder.arg("--hold");
        let held = size.held.run(holder).await?;
        let (late, renewals, longest) = (held.late, held.renewals, held.longest.as_secs_f64());
        let note = format!("{late} late; {renewals} renewals seen, {longest:.2} s apart at the most");
        let none_late = late == 0;
        if options.wants(HELD_BYTES) {
            let row = Row::alone(HELD_BYTES, "bytes", Aim::AtMost(1024.0), held.bytes_each);
            options.show(&row.only_if(none_late, note.clone()))?;
        }
        if options.wants(RENEW_CPU) {
            let row = Row::alone(RENEW_CPU, "% of a core", Aim::AtMost(5.0), held.cpu_percent);
            options.show(&row.only_if(none_late, note))?;
        }
    }
    Ok(())
}
