//! `turnstile lab`: puts each strategy to the test on real servers, with several processes that contend, and measures it.
//!
//! The lab does not take a strategy's word for anything. What is guarded is a [register] in the lab's own process, which
//! no strategy knows of; what happened there is judged by the [checker]; and what a server was sent is read from the
//! server's own counters.

mod args;
mod breaks;
mod checker;
mod clock;
mod crew;
mod figures;
mod findings;
mod history;
mod kafka;
mod latency;
mod locks;
mod metrics;
mod post;
mod progress;
mod redis_stats;
mod register;
mod report;
mod soak;
mod strategies;
mod table;
mod tally;
mod trial;
mod words;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

pub use self::args::LabArgs;
use self::breaks::Break;
pub use self::crew::WorkerArgs;
use self::findings::Findings;
use self::post::Post;
use self::progress::Progress;
use self::trial::NoServer;
use crate::exit;

/// The exit code when a claim did not hold.
const BROKEN: u8 = 1;

/// What all trials share.
pub struct Lab {
    /// How long the longer phases take.
    time: Duration,
    broken: Vec<Break>,
    progress: Progress,
}

impl Lab {
    fn breaks(&self, guard: Break) -> bool {
        self.broken.contains(&guard)
    }
}

/// Runs the lab.
pub fn run(args: &LabArgs) -> ExitCode {
    told(|| {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let mut interrupted = signal(SignalKind::interrupt())?;
            let mut terminated = signal(SignalKind::terminate())?;
            // What is dropped here ends its servers and processes.
            let code = tokio::select! {
                ended = begin(args) => return ended,
                _ = interrupted.recv() => 130,
                _ = terminated.recv() => 143,
            };
            Ok(ExitCode::from(code))
        })
    })
}

/// Is a worker process of the lab.
pub fn work(args: WorkerArgs) -> ExitCode {
    told(|| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let strategy = strategies::all().into_iter().find(|strategy| strategy.name() == args.strategy);
        let strategy = strategy.with_context(|| format!("there is no strategy {:?}", args.strategy))?;
        let done = runtime.block_on(strategy.work(args, Post::new()));
        // Standard input may be read for ever.
        runtime.shutdown_background();
        done.map(|()| ExitCode::SUCCESS)
    })
}

fn told(run: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    run().unwrap_or_else(|error| {
        // If nobody reads, there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "turnstile lab: {error:#}");
        ExitCode::from(if error.is::<NoServer>() { exit::UNAVAILABLE } else { exit::SOFTWARE })
    })
}

async fn begin(args: &LabArgs) -> Result<ExitCode> {
    match args.soak {
        Some(time) => soak::run(args, time).await,
        None => experiment(args).await,
    }
}

async fn experiment(args: &LabArgs) -> Result<ExitCode> {
    let chosen = |name| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let strategies: Vec<_> = strategies::all().into_iter().filter(|strategy| chosen(strategy.name())).collect();
    let progress = Progress::new(strategies.len());
    let lab = Lab { time: Duration::from_secs(args.seconds), broken: args.broken.clone(), progress };
    let mut all = Vec::new();
    for strategy in strategies {
        lab.progress.next();
        all.push(strategy.run(&lab).await.with_context(|| format!("the trial of {} went wrong", strategy.name()))?);
    }
    drop(lab);
    if let Some(dir) = &args.report {
        report::write(dir, args.seconds, &all)
            .with_context(|| format!("cannot write the report to {}", dir.display()))?;
    }
    let text = if args.json { report::json(&all)? } else { table::of(&all) };
    // A reader that went away (`| head -1`) is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if all.iter().all(Findings::all_held) { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}
