//! A worker process: it works on a queue or adds to it. What it does it writes down on a second server, which knows nothing
//! of the queue.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use async_trait::async_trait;
use parking_lot::Mutex;
use redis_lua::redis::cmd;
use redis_streams::{
    AtLimit, Attempt, Backoff, Client, DEFAULT_GROUP, Effect, Handler, Job, Limit, NewJob, Outcome, Queue, Report,
    RetryPolicy, RunError, Shutdown,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::orders::{Fault, Left, Order, Produce, Work};
use super::{EFFECTS, HISTORY, POISON};
use crate::lab::clock;
use crate::lab::crew::WorkerArgs;
use crate::lab::post::Post;

/// So much of a queue that is to be full.
const FULL: u64 = 20_000;
/// How long a worker may take to leave.
const LEAVING: Duration = Duration::from_secs(5);

/// Works until the lab has gone.
pub async fn work(args: WorkerArgs, mut post: Post) -> Result<()> {
    let (url, oracle) = args.url.split_once(',').context("two servers")?;
    let (client, oracle) = (Client::connect(url).await?, Client::connect(oracle).await?);
    let mut running: Option<Running> = None;
    post.answer(anyhow::Ok(())).await?;
    while let Some(order) = post.order().await? {
        match order {
            Order::Work(work) => {
                let started = Running::start(&client, &oracle, work).map(|started| running = Some(started));
                post.answer(started).await?;
            }
            Order::Count => {
                let count = running.as_ref().map(|running| running.left.lock().done);
                post.answer(count.context("it does not work")).await?;
            }
            Order::Leave => {
                let left = match running.take() {
                    Some(running) => running.leave().await,
                    None => Err(anyhow!("it does not work")),
                };
                post.answer(left).await?;
            }
            Order::Produce(order) => post.answer(produce(&client, order).await).await?,
        }
    }
    Ok(())
}

async fn produce(client: &Client, order: Produce) -> Result<u32> {
    let producer = Queue::new(client.clone(), &order.queue)?.producer();
    let producer = producer.limit(Limit::Jobs(FULL)).wait_for_room(LEAVING * 10);
    let end = Instant::now() + Duration::from_millis(order.millis);
    let (begin, mut count) = (Instant::now(), 0);
    while Instant::now() < end {
        let job = |number: u32| {
            let body = format!("{number} {} {:060}", clock::now(), 0);
            NewJob::new(body).key(format!("k{}", number % order.keys))
        };
        match order.per_second {
            None => {
                let added = producer.add_all((count..count + 256).map(job)).await;
                count += 256;
                added.map_err(|(_, error)| error)?;
            }
            Some(per_second) => {
                producer.add(job(count)).await?;
                count += 1;
                let due = begin + Duration::from_secs(1) * count / u32::try_from(per_second)?;
                sleep_until(due).await;
            }
        }
    }
    Ok(count)
}

struct Running {
    left: Arc<Mutex<Left>>,
    shutdown: Shutdown,
    run: JoinHandle<Result<Report, RunError>>,
}

impl Running {
    fn start(client: &Client, oracle: &Client, work: Work) -> Result<Self> {
        let queue = Queue::new(client.clone(), &work.queue)?;
        let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(20));
        let attempts = NonZeroU32::new(work.attempts).context("no attempt")?;
        let ordered = work.judged && work.fault != Some(Fault::NoOrder);
        let builder = queue
            .worker_builder()
            .name(&work.who)
            .concurrency(work.concurrency)
            .alive_for(Duration::from_millis(work.alive_ms))
            .retries(RetryPolicy::new(attempts, AtLimit::DeadLetter).backoff(backoff))
            .order(if ordered { redis_streams::Order::ByKey } else { redis_streams::Order::None });
        let left: Arc<Mutex<Left>> = Arc::default();
        let handler = Works { queue, client: client.clone(), oracle: oracle.clone(), work, left: left.clone() };
        let shutdown = Shutdown::new(LEAVING);
        let run = tokio::spawn(builder.handler(handler)?.run(shutdown.clone()));
        Ok(Self { left, shutdown, run })
    }

    async fn leave(self) -> Result<Left> {
        self.shutdown.begin();
        self.run.await??;
        Ok(std::mem::take(&mut *self.left.lock()))
    }
}

struct Works {
    queue: Queue,
    client: Client,
    oracle: Client,
    work: Work,
    left: Arc<Mutex<Left>>,
}

impl Works {
    async fn note(&self, what: &str, key: &str, number: &str) -> Result<()> {
        if self.work.judged {
            let event = format!("{what} {} {key} {number} {}", self.work.who, clock::now());
            self.oracle.run::<()>(cmd("RPUSH").arg(HISTORY).arg(event)).await?;
        }
        Ok(())
    }

    async fn work(&self, job: &Job, attempt: u32) -> Result<()> {
        let body = std::str::from_utf8(job.body())?;
        let (number, added) = body.split_once(' ').context("no number")?;
        let added: u64 = added.split(' ').next().unwrap_or_default().parse()?;
        let key = job.key().map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
        let name = self.queue.name();
        self.note("begin", &key, number).await?;
        if self.work.fault == Some(Fault::AckFirst) {
            let mut ack = cmd("XACK");
            ack.arg(name.as_key()).arg(DEFAULT_GROUP).arg(job.id().to_string());
            self.client.run::<()>(&ack).await?;
        }
        if self.work.fault == Some(Fault::PlainEffect) {
            self.client.run::<()>(cmd("HINCRBY").arg(name.key(EFFECTS)).arg(number).arg(1)).await?;
        }
        if self.work.work_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.work.work_ms)).await;
        }
        let judged: u32 = if self.work.judged { number.parse()? } else { 0 };
        if self.work.judged && (key == POISON || (judged % 20 == 7 && attempt == 1)) {
            self.note("again", &key, number).await?;
            return Err(anyhow!("nobody can do this, or not at first"));
        }
        if self.work.judged && self.work.fault != Some(Fault::PlainEffect) {
            job.on_done(Effect::new("HINCRBY", name.key(EFFECTS)).arg(number.to_owned()).arg("1"));
        }
        self.note("done", &key, number).await?;
        let mut left = self.left.lock();
        left.done += 1;
        left.times.record(clock::now().saturating_sub(added));
        Ok(())
    }
}

#[async_trait]
impl Handler<Job> for Works {
    async fn handle(&self, job: &Job, attempt: Attempt<'_>) -> Outcome {
        self.work(job, attempt.number().get()).await.into()
    }
}
