//! redis-streams beside the commands that it stands on, sent by hand.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value, cmd, pipe};
use redis_streams::{Attempt, Client, Handler, Job, NewJob, Outcome, Producer, Queue, Shutdown, Worker};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use turnstile_testkit::child::Child;
use turnstile_testkit::redis::{Redis, Server};

/// Jobs in one read, of both sides.
pub const BATCH: usize = 128;
/// How long a worker of the take-over counts as alive.
pub const ALIVE: Duration = Duration::from_secs(1);
/// The producers' tasks.
const TASKS: usize = 64;
const QUEUE: &str = "bench";
const STREAM: &str = "{bench}";

/// A server with the two sides' connections.
pub struct Streams {
    server: Server,
    raw: MultiplexedConnection,
    /// Of its own, as it blocks.
    reader: MultiplexedConnection,
    client: Client,
}

/// An empty handler that tells when so many were done.
struct Counts {
    left: Arc<AtomicU64>,
    all: Arc<Notify>,
}

#[async_trait]
impl Handler<Job> for Counts {
    async fn handle(&self, _: &Job, _: Attempt<'_>) -> Outcome {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.all.notify_one();
        }
        Outcome::Done
    }
}

/// Tells when a job was begun.
struct Tells(mpsc::UnboundedSender<Instant>);

#[async_trait]
impl Handler<Job> for Tells {
    async fn handle(&self, _: &Job, _: Attempt<'_>) -> Outcome {
        let _ = self.0.send(Instant::now());
        Outcome::Done
    }
}

struct Running {
    shutdown: Shutdown,
    run: JoinHandle<Result<redis_streams::Report, redis_streams::RunError>>,
}

impl Running {
    fn start<H: Handler<Job>>(worker: Worker<H>) -> Self {
        let shutdown = Shutdown::new(Duration::from_secs(5));
        Self { run: tokio::spawn(worker.run(shutdown.clone())), shutdown }
    }

    async fn end(self) -> Result<u64> {
        self.shutdown.begin();
        Ok(self.run.await??.done)
    }
}

impl Streams {
    /// A private server.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> Result<Self> {
        let server = Redis::start().await?;
        let client = redis::Client::open(server.url())?;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        Ok(Self {
            raw: client.get_multiplexed_async_connection().await?,
            reader: client.get_multiplexed_async_connection_with_config(&config).await?,
            client: Client::connect(server.url()).await?,
            server,
        })
    }

    fn queue(&self) -> Result<Queue> {
        Ok(Queue::new(self.client.clone(), QUEUE)?)
    }

    async fn fill(&mut self, jobs: u64) -> Result<()> {
        cmd("FLUSHALL").query_async::<()>(&mut self.raw).await?;
        let body = vec![b'x'; 100];
        for from in (0..jobs).step_by(1_000) {
            let mut adds = pipe();
            for _ in from..jobs.min(from + 1_000) {
                adds.cmd("XADD").arg(STREAM).arg("*").arg("body").arg(&body).ignore();
            }
            adds.query_async::<()>(&mut self.raw).await?;
        }
        Ok(())
    }

    /// Jobs a second, by a worker with an empty handler.
    ///
    /// # Errors
    /// When the server or the worker fails.
    pub async fn jobs(&mut self, jobs: u64) -> Result<f64> {
        self.fill(jobs).await?;
        let (left, all) = (Arc::new(AtomicU64::new(jobs)), Arc::new(Notify::new()));
        let handler = Counts { left, all: all.clone() };
        let worker = self.queue()?.worker_builder().concurrency(BATCH).batch(BATCH).handler(handler)?;
        let begin = Instant::now();
        let running = Running::start(worker);
        all.notified().await;
        // All is written down when it has ended.
        let done = running.end().await?;
        ensure!(done == jobs, "{done} of {jobs} jobs were done");
        Ok(jobs as f64 / begin.elapsed().as_secs_f64())
    }

    /// The same by hand: read, acknowledge, and again.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn jobs_by_hand(&mut self, jobs: u64) -> Result<f64> {
        self.fill(jobs).await?;
        cmd("XGROUP").arg("CREATE").arg(STREAM).arg("raw").arg(0).query_async::<()>(&mut self.reader).await?;
        let mut reader = self.reader.clone();
        let begin = Instant::now();
        // As a task, so that it runs on the same threads as a worker.
        let reading = tokio::spawn(async move {
            let mut done = 0;
            while done < jobs {
                let ids = read_by_hand(&mut reader, BATCH, None).await?;
                ensure!(!ids.is_empty(), "{done} of {jobs} jobs came");
                done += u64::try_from(ids.len())?;
                cmd("XACK").arg(STREAM).arg("raw").arg(ids).query_async::<()>(&mut reader).await?;
            }
            Ok(())
        });
        reading.await??;
        Ok(jobs as f64 / begin.elapsed().as_secs_f64())
    }

    /// Commands that the server carried out for a job, those within scripts included.
    ///
    /// # Errors
    /// When the server or the worker fails.
    pub async fn commands(&mut self, jobs: u64) -> Result<f64> {
        cmd("CONFIG").arg("RESETSTAT").query_async::<()>(&mut self.raw).await?;
        self.jobs(jobs).await?;
        let info: String = cmd("INFO").arg("commandstats").query_async(&mut self.raw).await?;
        let mut calls = 0.0;
        for line in info.lines().filter(|line| line.starts_with("cmdstat_") && !line.starts_with("cmdstat_xadd")) {
            let count = line.split_once(":calls=").and_then(|(_, rest)| rest.split_once(','));
            calls += count.context("no count of calls")?.0.parse::<f64>()?;
        }
        Ok(calls / jobs as f64)
    }

    /// Adds a second, of many tasks, by the producer or by hand.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn adds(&mut self, each: u64, by_hand: bool) -> Result<f64> {
        cmd("FLUSHALL").query_async::<()>(&mut self.raw).await?;
        let body = bytes::Bytes::from(vec![b'x'; 100]);
        let producer = self.queue()?.producer();
        let begin = Instant::now();
        let tasks = (0..TASKS).map(|_| {
            let (producer, mut raw, body): (Producer, _, _) = (producer.clone(), self.raw.clone(), body.clone());
            tokio::spawn(async move {
                for _ in 0..each {
                    if by_hand {
                        let mut add = cmd("XADD");
                        add.arg(STREAM).arg("*").arg("body").arg(&body[..]);
                        add.query_async::<String>(&mut raw).await?;
                    } else {
                        producer.add(NewJob::new(body.clone())).await?;
                    }
                }
                anyhow::Ok(())
            })
        });
        for done in try_join_all(tasks).await? {
            done?;
        }
        Ok((TASKS as u64 * each) as f64 / begin.elapsed().as_secs_f64())
    }

    /// µs from adding a job to the begin of its handler, each after a pause.
    ///
    /// # Errors
    /// When the server or the worker fails.
    pub async fn latencies(&mut self, jobs: u64) -> Result<Vec<f64>> {
        cmd("FLUSHALL").query_async::<()>(&mut self.raw).await?;
        let (sender, mut begun) = mpsc::unbounded_channel();
        let queue = self.queue()?;
        let running = Running::start(queue.worker(Tells(sender)));
        while queue.stats().await?.workers.is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        let producer = queue.producer();
        let mut took = Vec::new();
        for nth in 0..jobs {
            pause(nth).await;
            let sent = Instant::now();
            producer.add(NewJob::new("x")).await?;
            let begin = begun.recv().await.context("the worker ended")?;
            took.push(begin.duration_since(sent).as_secs_f64() * 1e6);
        }
        running.end().await?;
        Ok(took)
    }

    /// The same by hand.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn latencies_by_hand(&mut self, jobs: u64) -> Result<Vec<f64>> {
        cmd("FLUSHALL").query_async::<()>(&mut self.raw).await?;
        cmd("XGROUP")
            .arg("CREATE")
            .arg(STREAM)
            .arg("raw")
            .arg(0)
            .arg("MKSTREAM")
            .query_async::<()>(&mut self.raw)
            .await?;
        let (sender, mut begun) = mpsc::unbounded_channel();
        let (mut reader, mut raw) = (self.reader.clone(), self.raw.clone());
        let reading = tokio::spawn(async move {
            for _ in 0..jobs {
                let ids = read_by_hand(&mut reader, BATCH, Some(5_000)).await?;
                sender.send(Instant::now())?;
                cmd("XACK").arg(STREAM).arg("raw").arg(ids).query_async::<()>(&mut raw).await?;
            }
            anyhow::Ok(())
        });
        let mut took = Vec::new();
        for nth in 0..jobs {
            pause(nth).await;
            let sent = Instant::now();
            cmd("XADD").arg(STREAM).arg("*").arg("body").arg("x").query_async::<String>(&mut self.raw).await?;
            let begin = begun.recv().await.context("the reader ended")?;
            took.push(begin.duration_since(sent).as_secs_f64() * 1e6);
        }
        reading.await??;
        Ok(took)
    }

    /// How long a killed worker's job waits, over the time for which a worker counts as alive. `worker` is this program as
    /// [`hold`] wants it.
    ///
    /// # Errors
    /// When the server or a worker fails.
    pub async fn take_over(&mut self, round: u64, worker: impl FnOnce(&str) -> Command) -> Result<f64> {
        cmd("FLUSHALL").query_async::<()>(&mut self.raw).await?;
        let queue = self.queue()?;
        let mut child = Child::spawn(worker(&self.server.url()))?;
        queue.producer().add(NewJob::new("x")).await?;
        child.line_with("begun").await?;
        let (sender, mut begun) = mpsc::unbounded_channel();
        let running = Running::start(queue.worker_builder().alive_for(ALIVE).handler(Tells(sender))?);
        while queue.stats().await?.workers.len() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        // At any time between two signs of life.
        sleep(ALIVE / 3 * u32::try_from(round % 10)? / 10).await;
        let killed = Instant::now();
        child.kill()?;
        let begin = begun.recv().await.context("the worker ended")?;
        running.end().await?;
        Ok(begin.duration_since(killed).as_secs_f64() / ALIVE.as_secs_f64())
    }

    /// ms from the shutdown of a worker, with no time for what its handlers are at, to the begin of its job by another.
    ///
    /// # Errors
    /// When the server or a worker fails.
    pub async fn hand_back(&mut self) -> Result<f64> {
        cmd("FLUSHALL").query_async::<()>(&mut self.raw).await?;
        let queue = self.queue()?;
        let shutdown = Shutdown::new(Duration::ZERO);
        // Far away: no sign of life brings the job.
        let holds = queue.worker_builder().alive_for(Duration::from_secs(3600)).handler(Silent)?;
        let first = tokio::spawn(holds.run(shutdown.clone()));
        queue.producer().add(NewJob::new("x")).await?;
        while queue.stats().await?.pending == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let (sender, mut begun) = mpsc::unbounded_channel();
        let other = Queue::new(Client::connect(self.server.url()).await?, QUEUE)?;
        let running =
            Running::start(other.worker_builder().alive_for(Duration::from_secs(3600)).handler(Tells(sender))?);
        while queue.stats().await?.workers.len() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        // It has subscribed by then.
        sleep(Duration::from_millis(50)).await;
        let told = Instant::now();
        shutdown.begin();
        let begin = begun.recv().await.context("the worker ended")?;
        first.await??;
        running.end().await?;
        Ok(begin.duration_since(told).as_secs_f64() * 1e3)
    }
}

async fn read_by_hand(reader: &mut MultiplexedConnection, count: usize, block: Option<u64>) -> Result<Vec<Vec<u8>>> {
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg("raw").arg("me").arg("COUNT").arg(count);
    if let Some(block) = block {
        read.arg("BLOCK").arg(block);
    }
    let reply: Value = read.arg("STREAMS").arg(STREAM).arg(">").query_async(reader).await?;
    let mut ids = Vec::new();
    let streams = match reply {
        Value::Array(streams) => streams,
        Value::Map(streams) => streams.into_iter().map(|(name, jobs)| Value::Array(vec![name, jobs])).collect(),
        _ => Vec::new(),
    };
    for stream in streams {
        let Value::Array(parts) = stream else { continue };
        let Some(Value::Array(jobs)) = parts.into_iter().nth(1) else { continue };
        for job in jobs {
            if let Value::Array(parts) = job
                && let Some(Value::BulkString(id)) = parts.into_iter().next()
            {
                ids.push(id);
            }
        }
    }
    Ok(ids)
}

async fn pause(nth: u64) {
    sleep(Duration::from_micros(1_000 + nth % 7 * 100)).await;
}

struct Silent;

#[async_trait]
impl Handler<Job> for Silent {
    async fn handle(&self, _: &Job, _: Attempt<'_>) -> Outcome {
        std::future::pending().await
    }
}

struct Holds;

#[async_trait]
impl Handler<Job> for Holds {
    async fn handle(&self, _: &Job, _: Attempt<'_>) -> Outcome {
        println!("begun");
        std::future::pending().await
    }
}

/// A worker that begins a job and never ends it.
///
/// # Errors
/// When the server or the worker fails.
pub async fn hold(url: &str) -> Result<()> {
    let queue = Queue::new(Client::connect(url).await?, QUEUE)?;
    queue.worker_builder().alive_for(ALIVE).handler(Holds)?.run(Shutdown::new(Duration::ZERO)).await?;
    Ok(())
}
