//! Invoices are sent by any of several processes, those of one customer in order, and summed up once.
//!
//! `cargo run -p redis-streams --example invoices -- [redis://HOST] [how many to add]`; start it in several terminals, and
//! end one with Ctrl-C: the others get what it had in hand.

use std::time::Duration;

use anyhow::{Context, Result};
use redis_streams::{Attempt, Client, Effect, Handler, Job, Name, NewJob, Order, Outcome, Queue, Shutdown};

struct Invoices {
    queue: Name,
}

impl Invoices {
    async fn send(&self, job: &Job) -> Result<()> {
        let amount: u64 = std::str::from_utf8(job.body())?.parse().context("the body is the amount")?;
        tokio::time::sleep(Duration::from_millis(100)).await; // The mail server.
        job.on_done(Effect::new("INCRBY", self.queue.key("total")).arg(amount.to_string()));
        println!("{}: {amount} to {:?}", job.id(), job.key());
        Ok(())
    }
}

#[async_trait::async_trait]
impl Handler<Job> for Invoices {
    async fn handle(&self, job: &Job, _: Attempt<'_>) -> Outcome {
        self.send(job).await.into()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let client = Client::connect(args.next().unwrap_or_else(|| "redis://localhost".into())).await?;
    let queue = Queue::new(client, "invoices")?;
    let count: u32 = args.next().map_or(Ok(0), |count| count.parse())?;
    let jobs = (0..count).map(|n| NewJob::new((n * 10).to_string()).key(format!("customer {}", n % 7)));
    queue.producer().add_all(jobs).await.map_err(|(added, error)| {
        anyhow::Error::new(error).context(format!("{} of {count} were added", added.len()))
    })?;

    let shutdown = Shutdown::new(Duration::from_secs(10));
    let on_signal = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        on_signal.begin();
    });
    let handler = Invoices { queue: queue.name().clone() };
    let report = queue.worker_builder().order(Order::ByKey).handler(handler)?.run(shutdown).await?;
    println!("{} done, {} handed back, {} set aside", report.done, report.handed_back, report.dead_letters);
    Ok(())
}
