//! The programs' side of the comparison in Rust: takes and gives back by the clock, as told by lines on standard input.
//!
//! It says nothing of ours and needs little, so that `benches/peers/rust` has it too, by path. Its protocol is in
//! `benches/peers/README.md`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use nix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

/// How long a task pauses when it was refused by an error.
const AFTER_ERROR: Duration = Duration::from_millis(1);

/// A lock or a semaphore, as one task has it.
#[async_trait]
pub trait Taker: Send {
    /// Waits until it has it.
    async fn acquire(&mut self) -> Result<()>;
    /// Gives it back.
    async fn release(&mut self) -> Result<()>;
}

/// A round of taking and giving back.
#[derive(Debug, Clone)]
pub struct Order {
    /// Which lock or semaphore.
    pub kind: String,
    /// By which name; new in each round.
    pub name: String,
    /// How many tasks there are.
    pub tasks: usize,
    /// How many names they have, evenly: one, or as many as there are tasks.
    pub names: usize,
    /// How many may have it at once.
    pub permits: u32,
    /// For how long each has it; and how long it pauses afterwards.
    pub times: (Duration, Duration),
    /// The round, in ns of the monotonic clock, and how long a task may go on waiting after it.
    pub span: (u64, u64, Duration),
}

impl Order {
    /// As a program reads it.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { kind, name, tasks, names, permits, times, span } = self;
        let (work, pause) = (times.0.as_micros(), times.1.as_micros());
        let (begin, end, patience) = (span.0, span.1, span.2.as_millis());
        format!("{kind} {name} {tasks} {names} {permits} {work} {pause} {begin} {end} {patience}")
    }

    /// The same, read.
    ///
    /// # Errors
    /// When it is no order.
    pub fn read(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let (kind, name) = words.next().zip(words.next()).context("an order begins with a kind and a name")?;
        let numbers = words.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let &[tasks, names, permits, work, pause, begin, end, patience] = numbers.as_slice() else {
            anyhow::bail!("an order has eight numbers");
        };
        Ok(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            tasks: tasks.try_into()?,
            names: usize::try_from(names)?.max(1),
            permits: permits.try_into()?,
            times: (Duration::from_micros(work), Duration::from_micros(pause)),
            span: (begin, end, Duration::from_millis(patience)),
        })
    }
}

/// What one task did.
#[derive(Default)]
struct Done {
    /// When it asked, had it, began to give it back, and had done so.
    turns: Vec<[u64; 4]>,
    /// Since when it waits.
    asked: Option<u64>,
    errors: Vec<String>,
}

type Shared = Arc<Mutex<Done>>;

/// Does what it is told until there is no more. `open` makes the lock of a kind, a name and so many permits.
///
/// # Errors
/// When an order cannot be read, or a lock not be made.
pub async fn serve(versions: &str, open: impl AsyncFn(&str, &str, u32) -> Result<Box<dyn Taker>>) -> Result<()> {
    println!("ready {versions}");
    for line in std::io::stdin().lines() {
        let order = Order::read(&line?)?;
        let (mut tasks, mut all) = (JoinSet::new(), Vec::new());
        for task in 0..order.tasks {
            let name = format!("{}-{}", order.name, task % order.names);
            let taker = open(&order.kind, &name, order.permits).await?;
            let done = Shared::default();
            tasks.spawn(turns(taker, order.clone(), done.clone()));
            all.push(done);
        }
        let left = Duration::from_nanos(order.span.1.saturating_sub(now()?)) + order.span.2;
        let _ = tokio::time::timeout(left, async { while tasks.join_next().await.is_some() {} }).await;
        tasks.shutdown().await;
        println!("{}", reply(&all));
    }
    Ok(())
}

async fn turns(mut taker: Box<dyn Taker>, order: Order, done: Shared) -> Result<()> {
    let (begin, end, _) = order.span;
    tokio::time::sleep(Duration::from_nanos(begin.saturating_sub(now()?))).await;
    let mut since = None; // An error is no end of waiting.
    while now()? < end {
        let asked = since.unwrap_or(now()?);
        since = Some(asked);
        lock(&done).asked = since;
        if let Err(error) = taker.acquire().await {
            lock(&done).errors.push(format!("{error:#}"));
            tokio::time::sleep(AFTER_ERROR).await;
            continue;
        }
        let held = now()?;
        since = None;
        lock(&done).asked = None;
        work(order.times.0).await?;
        let gives = now()?;
        let released = taker.release().await;
        let after = now()?;
        {
            let mut done = lock(&done);
            done.turns.push([asked, held, gives, after]);
            done.errors.extend(released.err().map(|error| format!("{error:#}")));
        }
        work(order.times.1).await?;
    }
    lock(&done).asked = None;
    Ok(())
}

fn reply(all: &[Shared]) -> serde_json::Value {
    let (mut turns, mut stuck, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for done in all {
        let mut done = lock(done);
        turns.append(&mut done.turns);
        stuck.extend(done.asked);
        errors.append(&mut done.errors);
    }
    serde_json::json!({ "turns": turns, "stuck": stuck, "errors": errors.len(), "error": errors.first() })
}

fn lock(done: &Shared) -> std::sync::MutexGuard<'_, Done> {
    done.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps on a thread, which is closer to that time than tokio's timer is.
///
/// # Errors
/// When the runtime ends.
pub async fn work(time: Duration) -> Result<()> {
    if !time.is_zero() {
        tokio::task::spawn_blocking(move || std::thread::sleep(time)).await?;
    }
    Ok(())
}

/// The system's monotonic clock, in ns; all processes share it.
///
/// # Errors
/// When the system does not tell.
pub fn now() -> Result<u64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos().try_into()?)
}
