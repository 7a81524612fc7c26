//! The lab's worker processes: this very program, run again. Orders go to a worker as JSON lines on its standard input,
//! its answers come as JSON lines on its standard output, one for each order.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use turnstile_testkit::child::Child;

/// What a worker has to know from its start.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    /// The strategy.
    #[arg(long)]
    pub strategy: String,
    /// The server.
    #[arg(long, env = "TURNSTILE_LAB_URL", hide_env_values = true)]
    pub url: String,
    /// Where the register is.
    #[arg(long)]
    pub register: PathBuf,
    /// The worker's number.
    #[arg(long)]
    pub number: u32,
}

/// A worker's line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said<T> {
    Ok(T),
    Failed(String),
}

/// A worker process. Dropping this ends it, whatever it does.
pub struct Worker {
    number: u32,
    child: Child,
}

impl Worker {
    /// Starts one, and waits until it is connected.
    pub async fn start(args: WorkerArgs) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program, to run it again as a worker")?;
        let mut command = Command::new(program);
        command.args(["lab-worker", "--strategy", &args.strategy, "--number", &args.number.to_string(), "--register"]);
        command.arg(&args.register).env("TURNSTILE_LAB_URL", &args.url);
        let mut worker = Self { number: args.number, child: Child::spawn(command)? };
        worker.hear::<()>(Duration::ZERO).await?;
        Ok(worker)
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The process: to be stopped and killed.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Gives an order.
    pub async fn tell(&mut self, order: &impl Serialize) -> Result<()> {
        self.child.say(&serde_json::to_string(order)?).await
    }

    /// The answer to the first order that was not answered yet, which may take `takes` and some more.
    pub async fn hear<T: DeserializeOwned>(&mut self, takes: Duration) -> Result<T> {
        let limit = takes + Duration::from_secs(30);
        let number = self.number;
        let line = timeout(limit, self.child.line()).await;
        let line = line.with_context(|| format!("worker {number} has not answered within {limit:?}"))?;
        let line = line.with_context(|| format!("worker {number} has ended"))?;
        match serde_json::from_str(&line).with_context(|| format!("worker {number} said {line:?}"))? {
            Said::Ok(answer) => Ok(answer),
            Said::Failed(error) => bail!("worker {number}: {error}"),
        }
    }

    /// Gives an order and waits for its answer.
    pub async fn ask<T: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<T> {
        self.tell(order).await?;
        self.hear(Duration::ZERO).await
    }
}

/// Gives each its order, by its number; they take `takes` to carry them out, all at the same time.
pub async fn ask_all<O: Serialize, T: DeserializeOwned>(
    workers: &mut [Worker],
    takes: Duration,
    order: impl Fn(u32) -> O,
) -> Result<Vec<T>> {
    for worker in workers.iter_mut() {
        worker.tell(&order(worker.number)).await?;
    }
    let mut answers = Vec::with_capacity(workers.len());
    for worker in workers {
        answers.push(worker.hear(takes).await?);
    }
    Ok(answers)
}
