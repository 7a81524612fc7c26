//! `cargo bench -p turnstile-benches --bench streams -- [--json] [--only ID] [--rounds N]`: the work queue beside the commands
//! that it stands on, sent by hand.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Parser;
use turnstile_benches::report::{Aim, Row};
use turnstile_benches::rounds::{alone, compare, quantile};
use turnstile_benches::streams::{Streams, hold};
use turnstile_benches::{WORKERS, runtime};

const IDS: [&str; 6] = [JOBS, ADD, LATENCY, COMMANDS, TAKEOVER, HAND_BACK];
const JOBS: &str = "streams/jobs";
const ADD: &str = "streams/add";
const LATENCY: &str = "streams/latency";
const COMMANDS: &str = "streams/commands";
const TAKEOVER: &str = "streams/takeover";
const HAND_BACK: &str = "streams/hand-back";

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
    /// How many rounds each pair has.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Said by cargo bench; without it (cargo test) only `--quick` is done.
    #[arg(long, hide = true)]
    bench: bool,
    /// What this program says to itself to be killed: the server.
    #[arg(long, hide = true)]
    hold: Option<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = runtime()?;
    if let Some(url) = args.hold {
        return runtime.block_on(async { tokio::spawn(async move { hold(&url).await }).await? });
    }
    let wanted = |id: &str| args.only.is_empty() || args.only.iter().any(|only| id.starts_with(only.as_str()));
    if !IDS.iter().any(|id| wanted(id)) {
        bail!("there is no such pair: choose from {}", IDS.join(", "));
    }
    let quick = args.quick || !args.bench;
    let rounds = args.rounds.unwrap_or(if quick { 1 } else { 15 });
    let (jobs, each, idle) = if quick { (2_000, 20, 10) } else { (60_000, 500, 300) };
    if !args.json {
        println!("{WORKERS} worker threads (tokio, multi-thread); medians of rounds taken by turns\n");
        println!("{}", Row::head());
    }
    let show = |row: Row| {
        println!("{}", if args.json { row.json()? } else { row.line() });
        anyhow::Ok(())
    };
    let measure = async move {
        let streams = &tokio::sync::Mutex::new(Streams::start().await?);
        if wanted(JOBS) {
            let ours = async || streams.lock().await.jobs(jobs).await;
            let compared = compare(rounds, ours, async || streams.lock().await.jobs_by_hand(jobs).await).await?;
            show(Row::compared(JOBS, "jobs/s", Aim::RatioAtLeast(0.9), compared))?;
        }
        if wanted(ADD) {
            let ours = async || streams.lock().await.adds(each, false).await;
            let compared = compare(rounds, ours, async || streams.lock().await.adds(each, true).await).await?;
            show(Row::compared(ADD, "jobs/s", Aim::RatioAtLeast(0.95), compared))?;
        }
        if wanted(LATENCY) {
            let median = |mut took: Vec<f64>| quantile(&mut took, 0.5);
            let ours = async || streams.lock().await.latencies(idle).await.map(median);
            let raw = async || streams.lock().await.latencies_by_hand(idle).await.map(median);
            show(Row::compared(LATENCY, "µs", Aim::RatioAtMost(1.3), compare(rounds, ours, raw).await?))?;
        }
        if wanted(COMMANDS) {
            let ours = alone(rounds, async || streams.lock().await.commands(jobs).await).await?;
            show(Row::alone(COMMANDS, "a job", Aim::AtMost(0.1), ours).and("those within scripts included"))?;
        }
        if wanted(TAKEOVER) {
            let (mut round, mut all) = (0, Vec::new());
            let ours = alone(rounds, async || {
                round += 1;
                let worker = |url: &str| {
                    let mut command = Command::new(std::env::current_exe().unwrap_or_default());
                    command.args(["--hold", url]);
                    command
                };
                let took = streams.lock().await.take_over(round, worker).await?;
                all.push(took);
                Ok(took)
            })
            .await?;
            let most = quantile(&mut all, 1.0);
            let row = Row::alone(TAKEOVER, "× limit", Aim::AtMost(2.0), ours);
            show(row.only_if(most <= 2.0, format!("the longest {most:.2}")))?;
        }
        if wanted(HAND_BACK) {
            let mut all = Vec::new();
            let ours = alone(rounds, async || {
                let took = streams.lock().await.hand_back().await?;
                all.push(took);
                Ok(took)
            })
            .await?;
            let most = quantile(&mut all, 1.0);
            let row = Row::alone(HAND_BACK, "ms", Aim::AtMost(100.0), ours);
            show(row.only_if(most <= 100.0, format!("the longest {most:.1}")))?;
        }
        anyhow::Ok(())
    };
    runtime.block_on(measure)
}
