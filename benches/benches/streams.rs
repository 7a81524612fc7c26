//! `cargo bench -p turnstile-benches --bench streams -- [--json] [--only ID] [--rounds N]`: the work queue beside the commands
//! that it stands on, sent by hand.

use std::process::Command;

use anyhow::Result;
use clap::Parser;
use turnstile_benches::options::Options;
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
    #[command(flatten)]
    options: Options,
    /// What this program says to itself to be killed: the server.
    #[arg(long, hide = true)]
    hold: Option<String>,
}

fn main() -> Result<()> {
    let Args { options, hold: of } = Args::parse();
    let runtime = runtime()?;
    if let Some(url) = of {
        return runtime.block_on(async { tokio::spawn(async move { hold(&url).await }).await? });
    }
    let rounds = options.rounds(15);
    let (jobs, each, idle) = if options.quick() { (2_000, 20, 10) } else { (60_000, 500, 300) };
    options
        .begin(&IDS, &format!("{WORKERS} worker threads (tokio, multi-thread); medians of rounds taken by turns"))?;
    let measure = async move {
        let streams = &tokio::sync::Mutex::new(Streams::start().await?);
        if options.wants(JOBS) {
            let ours = async || streams.lock().await.jobs(jobs).await;
            let compared = compare(rounds, ours, async || streams.lock().await.jobs_by_hand(jobs).await).await?;
            options.show(&Row::compared(JOBS, "jobs/s", Aim::RatioAtLeast(0.9), compared))?;
        }
        if options.wants(ADD) {
            let ours = async || streams.lock().await.adds(each, false).await;
            let compared = compare(rounds, ours, async || streams.lock().await.adds(each, true).await).await?;
            options.show(&Row::compared(ADD, "jobs/s", Aim::RatioAtLeast(0.95), compared))?;
        }
        if options.wants(LATENCY) {
            let median = |mut took: Vec<f64>| quantile(&mut took, 0.5);
            let ours = async || streams.lock().await.latencies(idle).await.map(median);
            let raw = async || streams.lock().await.latencies_by_hand(idle).await.map(median);
            options.show(&Row::compared(LATENCY, "µs", Aim::RatioAtMost(1.3), compare(rounds, ours, raw).await?))?;
        }
        if options.wants(COMMANDS) {
            let ours = alone(rounds, async || streams.lock().await.commands(jobs).await).await?;
            options
                .show(&Row::alone(COMMANDS, "a job", Aim::AtMost(0.1), ours).and("those within scripts included"))?;
        }
        if options.wants(TAKEOVER) {
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
            options.show(&row.only_if(most <= 2.0, format!("the longest {most:.2}")))?;
        }
        if options.wants(HAND_BACK) {
            let mut all = Vec::new();
            let ours = alone(rounds, async || {
                let took = streams.lock().await.hand_back().await?;
                all.push(took);
                Ok(took)
            })
            .await?;
            let most = quantile(&mut all, 1.0);
            let row = Row::alone(HAND_BACK, "ms", Aim::AtMost(100.0), ours);
            options.show(&row.only_if(most <= 100.0, format!("the longest {most:.1}")))?;
        }
        anyhow::Ok(())
    };
    runtime.block_on(measure)
}
