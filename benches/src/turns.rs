//! Processes that want one lock by turns: a fair lock, a semaphore, or, by hand, a ring in which whoever holds it tells
//! the next by PUBLISH, who then writes that it holds it by SET.
//!
//! The processes stay for all rounds. They are told a round as a line of JSON, and answer with each turn's times by the
//! system's monotonic clock, which all processes of a machine share.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use nix::time::{ClockId, clock_gettime};
use redis::aio::MultiplexedConnection;
use redis_pubsub_lock::{Client, FairLocks, Lock};
use redis_semaphore::Semaphores;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnstile_testkit::child::Child;
use turnstile_testkit::redis::{Redis, Server};
use turnstile_testkit::unique;

use crate::redis_lock::LABEL;
use crate::rounds::quantile;

/// What a holder does with it: it sleeps on a thread, which is closer to that time than tokio's timer is.
pub const WORK: Duration = Duration::from_millis(1);
/// From the order to the round's begin: by then all processes have read it.
const AHEAD: Duration = Duration::from_millis(50);
/// How much longer than meant a round may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How turns are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// By redis-pubsub-lock.
    Lock,
    /// By redis-semaphore, with so many permits.
    Semaphore(u32),
    /// By hand.
    Raw,
}

/// One round.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Ours or raw.
    pub side: Side,
    /// How many processes take part, and how many waiters each has.
    pub crowd: (usize, usize),
    /// After its turn a waiter pauses for so long before it asks again.
    pub pause: Duration,
    /// How long the round is.
    pub length: Duration,
}

/// What a process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    side: Side,
    name: String,
    /// This process, the number of all, and the waiters of each.
    process: (usize, usize, usize),
    pause: Duration,
    begin: u64,
    end: u64,
}

/// One turn; times are in ns of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    token: u64,
    asked: u64,
    held: u64,
    /// When giving it back began.
    gives: u64,
}

/// What came of a round.
#[derive(Debug, Clone)]
pub struct Round {
    turns: Vec<Turn>,
    begin: u64,
    end: u64,
    /// Requests that the processes sent for a grant, on average: scripts, subscriptions and pings.
    pub commands: f64,
}

impl Round {
    /// From the call that gives it back to the next one's having it, in µs, where the next one waited for it already.
    #[must_use]
    pub fn hand_overs(&self) -> Vec<f64> {
        let next = self.turns.windows(2).filter(|two| two[1].token == two[0].token + 1 && two[1].asked < two[0].gives);
        next.map(|two| micros(two[1].held.saturating_sub(two[0].gives))).collect()
    }

    /// How long each had it until it gave it back, in µs.
    #[must_use]
    pub fn work(&self) -> Vec<f64> {
        self.turns.iter().map(|turn| micros(turn.gives - turn.held)).collect()
    }

    /// Grants a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let grants = self.turns.iter().filter(|turn| (self.begin..self.end).contains(&turn.held)).count();
        grants as f64 / Duration::from_nanos(self.end - self.begin).as_secs_f64()
    }

    /// The longest that anybody waited, in µs.
    #[must_use]
    pub fn longest_wait(&self) -> f64 {
        self.turns.iter().map(|turn| micros(turn.held - turn.asked)).fold(0.0, f64::max)
    }
}

/// A server, and processes that take turns.
pub struct Waiters {
    /// Ends with this.
    pub server: Server,
    admin: MultiplexedConnection,
    children: Vec<Child>,
}

impl Waiters {
    /// Starts a server and so many processes: `command` starts a program that calls [`take_turns`] with the argument that is
    /// added to it.
    ///
    /// # Errors
    /// When no server can be had, or a process does not start.
    pub async fn start(processes: usize, command: impl Fn() -> Command) -> Result<Self> {
        let server = Redis::start().await?;
        let admin = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
        let mut children = Vec::new();
        for _ in 0..processes {
            let mut command = command();
            command.arg(server.url());
            children.push(Child::spawn(command)?);
        }
        for child in &mut children {
            child.line_with("ready").await?;
        }
        Ok(Self { server, admin, children })
    }

    /// One round, by a name of its own.
    ///
    /// # Errors
    /// When a process fails.
    pub async fn round(&mut self, plan: Plan) -> Result<Round> {
        let Plan { side, crowd: (processes, each), pause, length } = plan;
        ensure!(processes <= self.children.len(), "there are only {} processes", self.children.len());
        redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut self.admin).await?;
        let begin = now()? + nanos(AHEAD);
        let order = Order {
            side,
            name: unique("turns"),
            process: (0, processes, each),
            pause,
            begin,
            end: begin + nanos(length),
        };
        for (process, child) in self.children[..processes].iter_mut().enumerate() {
            let order = Order { process: (process, processes, each), ..order.clone() };
            child.say(&serde_json::to_string(&order)?).await?;
        }
        let mut turns: Vec<Turn> = Vec::new();
        for child in &mut self.children[..processes] {
            let line = timeout(length + LIMIT, child.line()).await.context("a round hangs")?;
            turns.extend(serde_json::from_str::<Vec<Turn>>(&line.context("a process ended early: see above")?)?);
        }
        ensure!(!turns.is_empty(), "nobody had a turn");
        turns.sort_by_key(|turn| turn.token);
        let commands = self.sent().await? as f64 / turns.len() as f64;
        Ok(Round { turns, begin: order.begin, end: order.end, commands })
    }

    /// Requests of clients since the last reset. What scripts do by themselves is not among these.
    async fn sent(&mut self) -> Result<u64> {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.admin).await?;
        let sent =
            ["evalsha", "eval", "subscribe", "unsubscribe", "ping"].map(|command| format!("cmdstat_{command}:calls="));
        let calls = |line: &str| {
            sent.iter().find_map(|start| line.strip_prefix(start.as_str())?.split(',').next()?.parse::<u64>().ok())
        };
        Ok(stats.lines().filter_map(calls).sum())
    }
}

/// The child's side: takes turns as it is told on standard input, until there is no more.
///
/// # Errors
/// When the server does not answer.
pub fn take_turns(runtime: &Runtime, url: &str) -> Result<()> {
    let client = runtime.block_on(Client::connect(url))?;
    let locks = FairLocks::builder(client.clone()).holder(LABEL).build();
    let semaphores = Semaphores::builder(client).holder(LABEL).build();
    println!("ready");
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let turns = runtime.block_on(async {
            match order.side {
                Side::Lock => ours(locks.lock(&order.name)?, order).await,
                Side::Semaphore(limit) => ours(semaphores.by_set(&order.name, limit)?, order).await,
                Side::Raw => tokio::spawn(raw(url.to_owned(), order)).await?,
            }
        })?;
        println!("{}", serde_json::to_string(&turns)?);
    }
    Ok(())
}

async fn ours(lock: impl Lock + Clone + 'static, order: Order) -> Result<Vec<Turn>> {
    let Order { process: (_, _, each), pause, begin, end, .. } = order;
    let mut waiters = JoinSet::new();
    for _ in 0..each {
        let lock = lock.clone();
        waiters.spawn(async move {
            let mut turns = Vec::new();
            until(begin).await?;
            while now()? < end {
                let asked = now()?;
                let lease = lock.acquire().await?;
                let held = now()?;
                work(WORK).await?;
                let gives = now()?;
                let token = lease.fencing_token().get();
                lease.release().await?;
                turns.push(Turn { token, asked, held, gives });
                work(pause).await?;
            }
            anyhow::Ok(turns)
        });
    }
    let turns = waiters.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(turns.concat())
}

/// One task has the turns of all waiters of its process: there is one at a time.
async fn raw(url: String, order: Order) -> Result<Vec<Turn>> {
    let Order { name, process: (process, processes, _), begin, end, .. } = order;
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let channel = |process: usize| format!("{name}:{process}");
    let (mut sink, mut messages) = client.get_async_pubsub().await?.split();
    sink.subscribe(channel(process)).await?;
    let next = channel((process + 1) % processes);
    until(begin).await?;
    if process == 0 {
        redis::cmd("PUBLISH").arg(channel(0)).arg(1).exec_async(&mut connection).await?;
    }
    let mut turns: Vec<Turn> = Vec::new();
    while let Some(message) = messages.next().await {
        let token: u64 = message.get_payload()?;
        redis::cmd("SET").arg(&name).arg(LABEL).arg("PX").arg(30_000).exec_async(&mut connection).await?;
        let held = now()?;
        work(WORK).await?;
        let gives = now()?;
        redis::cmd("PUBLISH").arg(&next).arg(token + 1).exec_async(&mut connection).await?;
        turns.push(Turn { token, asked: begin, held, gives });
        // Once more around, so that all hear of it.
        if gives >= end {
            break;
        }
    }
    Ok(turns)
}

async fn until(begin: u64) -> Result<()> {
    tokio::time::sleep(Duration::from_nanos(begin.saturating_sub(now()?))).await;
    Ok(())
}

async fn work(time: Duration) -> Result<()> {
    if !time.is_zero() {
        tokio::task::spawn_blocking(move || std::thread::sleep(time)).await?;
    }
    Ok(())
}

fn now() -> Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(nanos(now))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// The median, of values in any order.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_turn_that_was_waited_for_is_a_hand_over() {
        let turn = |token, asked, held, gives| Turn { token, asked, held, gives };
        let turns = vec![
            turn(1, 0, 1_000, 5_000),
            turn(2, 2_000, 7_000, 9_000),
            turn(3, 9_500, 20_000, 30_000),
            turn(5, 100, 40_000, 41_000),
        ];
        let round = Round { turns, begin: 0, end: 40_000, commands: 0.0 };
        assert_eq!(round.hand_overs(), [2.0]);
        assert_eq!(round.work(), [4.0, 2.0, 10.0, 1.0]);
        assert!((round.longest_wait() - 39.9).abs() < 1e-9);
        assert!((round.rate() - 3.0 / 40e-6).abs() < 1e-3);
    }
}
