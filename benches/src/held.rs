//! Many leases held and renewed: what each costs the process that holds them.
//!
//! The holder is a fresh process, so that nothing that ran before is in its memory or its processor time. The parent
//! looks at the locks on the server meanwhile: that none is late is the server's word, not the holder's.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redis_lock::{Lease, LeaseOptions, Lock, RedisLocks};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use turnstile_testkit::child::Child;
use turnstile_testkit::redis::Redis;

use crate::processor_time;
use crate::raw::Raw;
use crate::redis_lock::connect;

/// Tasks by which the leases are acquired.
const TASKS: usize = 64;
/// Leases that the parent looks at by one request.
const CHUNK: usize = 1000;

/// What the holder is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// How many leases.
    pub leases: usize,
    /// Their time to live.
    pub ttl: Duration,
    /// How long to measure, once all are held and renewed.
    pub window: Duration,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Held {
    /// Resident memory that came with the leases, at its largest, for each of them.
    pub bytes_each: f64,
    /// Processor time of the holder, of all its threads, as a share of one core.
    pub cpu_percent: f64,
    /// Leases that were lost or renewed late, by the server's word, or else by the holder's.
    pub late: usize,
    /// Renewals that were seen on the server.
    pub renewals: usize,
    /// The longest time between two renewals of one lease.
    pub longest: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
enum Event {
    Steady,
    Measured { bytes_each: f64, cpu_percent: f64, late: usize },
}

fn name(number: usize) -> String {
    format!("held/{number:06}")
}

impl Plan {
    /// A renewal is due when a third of the time to live has gone, and late a thirtieth after that.
    fn late_after(&self) -> Duration {
        self.ttl / 3 + self.ttl / 30
    }

    /// Runs the plan: `command` starts a program that calls [`hold`] with the two arguments that are added to it.
    ///
    /// # Errors
    /// When no server can be had, or the holder fails.
    pub async fn run(&self, mut command: Command) -> Result<Held> {
        let server = Redis::start().await?;
        command.arg(server.url()).arg(serde_json::to_string(self)?);
        let mut holder = Child::spawn(command)?;
        let Event::Steady = self.event(&mut holder).await? else { bail!("the holder measured before it held") };

        let mut watch = Watch::new(self, Raw::connect(&server.url()).await?);
        let event = tokio::select! {
            event = self.event(&mut holder) => event?,
            ended = watch.go_on() => bail!("the watch ended: {ended:?}"),
        };
        let Event::Measured { bytes_each, cpu_percent, late: by_the_holder } = event else {
            bail!("the holder started over")
        };
        let Watch { renewals, longest, .. } = watch;
        Ok(Held { bytes_each, cpu_percent, late: watch.late().max(by_the_holder), renewals, longest })
    }

    async fn event(&self, holder: &mut Child) -> Result<Event> {
        let limit = self.ttl + self.window + Duration::from_secs(120);
        let line = timeout(limit, holder.line()).await.context("the holder hangs")?;
        Ok(serde_json::from_str(&line.context("the holder ended early: see above")?)?)
    }
}

/// Looks at the locks on the server, each at least once between two of its renewals: by their ends it sees every renewal.
struct Watch<'a> {
    plan: &'a Plan,
    raw: Raw,
    names: Vec<String>,
    /// When each ends, as last seen; zero before the first look.
    ends: Vec<i64>,
    late: Vec<bool>,
    renewals: usize,
    longest: Duration,
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan, raw: Raw) -> Self {
        let (ends, late) = (vec![0; plan.leases], vec![false; plan.leases]);
        Self {
            plan,
            raw,
            names: (0..plan.leases).map(name).collect(),
            ends,
            late,
            renewals: 0,
            longest: Duration::ZERO,
        }
    }

    /// Ends by an error only.
    async fn go_on(&mut self) -> Result<()> {
        let chunks = u32::try_from(self.names.len().div_ceil(CHUNK))?;
        let mut ticks = interval(self.plan.ttl / 3 / 2 / chunks);
        loop {
            for first in (0..self.names.len()).step_by(CHUNK) {
                ticks.tick().await;
                let names = self.names.iter().skip(first).take(CHUNK);
                for (nth, end) in self.raw.ends(names.map(String::as_str)).await?.into_iter().enumerate() {
                    self.saw(first + nth, end);
                }
            }
        }
    }

    fn saw(&mut self, lease: usize, end: i64) {
        let before = std::mem::replace(&mut self.ends[lease], end);
        if end < 0 {
            self.late[lease] = true;
        } else if before > 0 && end != before {
            let between = Duration::from_millis((end - before).unsigned_abs());
            self.late[lease] |= between > self.plan.late_after();
            self.longest = self.longest.max(between);
            self.renewals += 1;
        }
    }

    fn late(&self) -> usize {
        self.late.iter().filter(|late| **late).count()
    }
}

/// The holder: acquires, waits until renewal is steady, measures, and says so on standard output. The leases end with
/// the process, and their server soon after.
///
/// # Errors
/// When the server does not answer, or the system does not tell how much memory is used.
pub async fn hold(url: &str, plan: &str) -> Result<()> {
    let plan: Plan = serde_json::from_str(plan)?;
    let options = LeaseOptions::new(plan.ttl)?;
    let locks = connect(url).await?;
    locks.lock("held")?.acquire().await?.release().await?;
    let before = resident()?;

    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (locks, options, leases) = (locks.clone(), options.clone(), plan.leases);
        tasks.spawn(async move {
            let mut held = Vec::with_capacity(leases.div_ceil(TASKS));
            for number in (task..leases).step_by(TASKS) {
                held.push(acquire(&locks, number, &options).await?);
            }
            anyhow::Ok(held)
        });
    }
    let held: Vec<Vec<Lease>> = tasks.join_all().await.into_iter().collect::<Result<_>>()?;
    // From here on each is renewed once in every third of the time to live.
    sleep(plan.ttl / 3).await;
    say(&Event::Steady)?;

    let (start, used) = (Instant::now(), processor_time()?);
    let mut most = 0;
    while start.elapsed() < plan.window {
        most = most.max(resident()?);
        sleep(Duration::from_secs(1).min(plan.window.saturating_sub(start.elapsed()))).await;
    }
    let cpu_percent = 100.0 * (processor_time()? - used).as_secs_f64() / start.elapsed().as_secs_f64();
    let bytes_each = most.saturating_sub(before) as f64 / plan.leases as f64;
    let drift = plan.ttl / 100 + Duration::from_millis(2);
    let in_time = plan.ttl - plan.late_after() - drift;
    let late = held.iter().flatten().filter(|lease| lease.check().is_err() || lease.remaining() < in_time).count();
    say(&Event::Measured { bytes_each, cpu_percent, late })?;
    std::process::exit(0)
}

async fn acquire(locks: &RedisLocks, number: usize, options: &LeaseOptions) -> Result<Lease> {
    Ok(locks.lock(name(number))?.with_options(options.clone()).acquire().await?)
}

fn say(event: &Event) -> Result<()> {
    println!("{}", serde_json::to_string(event)?);
    Ok(())
}

/// The resident memory of this process, in bytes.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("this figure can be had on Linux only")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}
