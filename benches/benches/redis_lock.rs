//! redis-lock beside the raw client, by criterion.
//!
//! Criterion measures one benchmark after the other. Here the other side does the same work between our timed parts,
//! so that both meet the same machine and the same server; `ratios` compares them round by round.

use std::time::Duration;

use anyhow::Result;
use criterion::{Criterion, Throughput};
use tokio::runtime::Runtime;
use turnstile_benches::redis_lock::{self as work, Bench};
use turnstile_benches::runtime;

const TASKS: usize = 64;

fn main() -> Result<()> {
    let runtime = runtime()?;
    let bench = runtime.block_on(Bench::start())?;
    let mut criterion = Criterion::default().configure_from_args();
    pair(
        &mut criterion,
        &runtime,
        ("redis-lock/one-task", 1, 100),
        async |cycles| Ok(total(work::one_task(&bench.locks, cycles).await?)),
        async |cycles| Ok(total(work::one_task_raw(&bench.raw, cycles).await?)),
    );
    pair(
        &mut criterion,
        &runtime,
        ("redis-lock/64-keys", TASKS, 20),
        async |cycles| work::many_keys(&bench.locks, TASKS, cycles).await,
        async |cycles| work::many_keys_raw(&bench.raw, TASKS, cycles).await,
    );
    criterion.final_summary();
    Ok(())
}

/// Benchmarks both sides, each with the other in between. `at_once` is how many cycles one iteration has, `part` how
/// many iterations are done before the other side has its turn.
fn pair(
    criterion: &mut Criterion,
    runtime: &Runtime,
    (id, at_once, part): (&str, usize, usize),
    ours: impl AsyncFn(usize) -> Result<Duration>,
    raw: impl AsyncFn(usize) -> Result<Duration>,
) {
    let mut group = criterion.benchmark_group(id);
    group.throughput(Throughput::Elements(at_once as u64)).sample_size(30);
    group.bench_function("ours", |bencher| {
        bencher.iter_custom(|times| runtime.block_on(by_turns(times, part, &ours, &raw)).expect("ours"));
    });
    group.bench_function("raw", |bencher| {
        bencher.iter_custom(|times| runtime.block_on(by_turns(times, part, &raw, &ours)).expect("raw"));
    });
    group.finish();
}

/// How long `timed` takes for `times` iterations, with `between` doing as much in between.
async fn by_turns(
    times: u64,
    part: usize,
    timed: &impl AsyncFn(usize) -> Result<Duration>,
    between: &impl AsyncFn(usize) -> Result<Duration>,
) -> Result<Duration> {
    let mut left = usize::try_from(times)?;
    let mut took = Duration::ZERO;
    while left > 0 {
        let now = left.min(part);
        between(now).await?;
        took += timed(now).await?;
        left -= now;
    }
    Ok(took)
}

fn total(micros: Vec<f64>) -> Duration {
    Duration::from_secs_f64(micros.into_iter().sum::<f64>() / 1e6)
}
