//! A process that works on a queue, for tests that stop and kill it.
//!
//! `queue_worker QUEUE URL ORACLE_URL WHO ORDER ALIVE_MS [DIES]` says `begun JOB` and `done JOB`. What it does of each job
//! it counts twice: in `{QUEUE}:plain` when the handler is at its end, and in `{QUEUE}:once` with the acknowledgement.
//! DIES is where it kills itself: `read`, `begin`, `end` or `settled`. With `TELL_JUMPS` set it says `jumped` when the wall
//! clock does.

use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow, bail};
use redis_lua::redis::cmd;
use redis_streams::{
    AtLimit, Attempt, Backoff, Client, Effect, Handler, Job, Name, Order, Outcome, Queue, RetryPolicy, Shutdown,
};
use turnstile_integration_tests::Jobs;

struct Works {
    who: String,
    queue: Name,
    client: Client,
    history: Jobs,
    order: Order,
    dies: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [name, url, oracle, who, order, alive, dies @ ..] = &args[..] else {
        bail!("usage: queue_worker QUEUE URL ORACLE_URL WHO ORDER ALIVE_MS [DIES]")
    };
    let order = match order.as_str() {
        "key" => Order::ByKey,
        "all" => Order::Sequential,
        _ => Order::None,
    };
    if std::env::var_os("TELL_JUMPS").is_some() {
        std::thread::spawn(tell_jumps);
    }
    let client = Client::connect(url).await?;
    let queue = Queue::new(client.clone(), name)?;
    let handler = Works {
        who: who.clone(),
        queue: queue.name().clone(),
        client,
        history: Jobs::new(Client::connect(oracle).await?, name),
        order,
        dies: dies.first().cloned().unwrap_or_default(),
    };
    let retries = RetryPolicy::new(std::num::NonZeroU32::MAX, AtLimit::DeadLetter)
        .backoff(Backoff::new(Duration::from_millis(2), Duration::from_millis(10)));
    let builder = queue.worker_builder().name(who).order(order).concurrency(4).retries(retries);
    let worker = builder.alive_for(Duration::from_millis(alive.parse()?)).handler(handler)?;
    let report = worker.run(Shutdown::new(Duration::from_secs(5))).await?;
    println!("ended {report:?}");
    Ok(())
}

/// Says when the wall clock jumps.
fn tell_jumps() {
    let mut last = SystemTime::now();
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let now = SystemTime::now();
        if now.duration_since(last).unwrap_or(Duration::MAX) > Duration::from_secs(1_800) {
            println!("jumped");
        }
        last = now;
    }
}

impl Works {
    /// As `kill -9` would: nothing is written, nothing is given back.
    async fn die(&self, at: &str, job: u32) {
        // Some jobs in, so that others are in hand.
        if self.dies == at && job >= 20 {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            std::future::pending::<()>().await;
        }
    }

    async fn work(&self, job: &Job, attempt: u32) -> Result<()> {
        let number: u32 = std::str::from_utf8(job.body())?.parse()?;
        // Sequentially all are of one lane.
        let key = match job.key() {
            Some(key) if self.order == Order::ByKey => String::from_utf8_lossy(key).into_owned(),
            _ => "-".into(),
        };
        self.die("read", number).await;
        self.history.begin(&self.who, &key, number).await?;
        println!("begun {number}");
        self.die("begin", number).await;
        tokio::time::sleep(Duration::from_millis(u64::from(number % 5))).await;
        if number % 10 == 3 && attempt == 1 {
            self.history.end(&self.who, &key, number, false).await?;
            return Err(anyhow!("the first attempt of a job that ends in 3"));
        }
        self.client.run::<()>(cmd("HINCRBY").arg(self.queue.key("plain")).arg(number).arg(1)).await?;
        job.on_done(Effect::new("HINCRBY", self.queue.key("once")).arg(number.to_string()).arg("1"));
        self.history.end(&self.who, &key, number, true).await?;
        println!("done {number}");
        self.die("end", number).await;
        if self.dies == "settled" && number >= 20 {
            // About when the acknowledgement is under way.
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_micros(300));
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            });
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Handler<Job> for Works {
    async fn handle(&self, job: &Job, attempt: Attempt<'_>) -> Outcome {
        self.work(job, attempt.number().get()).await.into()
    }
}
