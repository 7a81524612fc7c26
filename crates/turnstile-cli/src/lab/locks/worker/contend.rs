//! Tasks that take a lock in turn, as fast as they can.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use turnstile_core::{Backoff, Lease, LeaseOptions, Lock, Owner};

use super::Door;
use crate::lab::clock;
use crate::lab::locks::Locks;
use crate::lab::locks::orders::{Contend, Work};
use crate::lab::register::Desk;

/// All tasks of a process, to their end.
pub async fn all(
    locks: &dyn Locks,
    order: &Contend,
    mut options: LeaseOptions,
    door: Door,
    over: CancellationToken,
) -> Result<Work> {
    let begun = (Instant::now(), clock::now());
    if let Some(handovers) = order.handovers {
        let retry = Backoff::new(Duration::from_millis(1), Duration::from_millis(4));
        options = options.handover(handovers, Duration::from_millis(50)).retry(retry);
    }
    let before = Arc::new(Mutex::new(Before::default()));
    let mut tasks = JoinSet::new();
    for task in 0..order.tasks {
        let shared = task < order.readers;
        let lock_name = if order.apart && !shared { format!("{}/apart", order.name) } else { order.name.clone() };
        let lock = locks.lock(&lock_name, shared, options.clone())?;
        let desk = if order.guarded { Some(door.desk(task).await?) } else { None };
        let (name, stay) = (order.name.clone(), Duration::from_millis(order.stay_ms));
        let (before, work) = (before.clone(), Work::default());
        let mut contender = Contender { lock, shared, name, stay, desk, begun, before, work };
        let over = over.clone();
        tasks.spawn(async move {
            if let Err(error) = contender.until(&over).await {
                contender.work.errors.push(format!("{error:#}"));
            }
            contender.work
        });
    }
    Ok(Work::sum(tasks.join_all().await))
}

/// The grant before, in this process.
#[derive(Default)]
struct Before {
    owner: Option<Owner>,
    token: u64,
}

struct Contender {
    lock: Arc<dyn Lock>,
    shared: bool,
    /// As the register knows it.
    name: String,
    stay: Duration,
    desk: Option<Desk>,
    /// One moment by two clocks.
    begun: (Instant, u64),
    before: Arc<Mutex<Before>>,
    work: Work,
}

impl Contender {
    async fn until(&mut self, over: &CancellationToken) -> Result<()> {
        let lock = self.lock.clone();
        loop {
            let asked = Instant::now();
            if over.is_cancelled() {
                return Ok(());
            }
            let granted = tokio::select! {
                biased;
                lease = lock.acquire() => Some(lease?),
                () = over.cancelled() => None,
            };
            let waited = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.work.longest_ns = self.work.longest_ns.max(waited);
            let Some(lease) = granted else { return Ok(()) };
            self.work.waits.record(waited);
            let asked = u64::try_from((asked - self.begun.0).as_nanos()).unwrap_or(0);
            self.work.tally.note(self.begun.1 + asked + waited);
            self.note(&lease);
            self.visit(&lease).await?;
            // Not confirmed, or lost meanwhile: the register has seen what matters.
            let _ = lease.release().await;
        }
    }

    fn note(&mut self, lease: &Lease) {
        self.work.grants += 1;
        if self.shared {
            return;
        }
        let (owner, token) = (lease.owner(), lease.fencing_token().get());
        let mut before = self.before.lock();
        self.work.handed_over += u64::from(before.owner == Some(owner));
        self.work.tokens_back += u64::from(token <= before.token);
        *before = Before { owner: Some(owner), token };
    }

    async fn visit(&mut self, lease: &Lease) -> Result<()> {
        let Some(desk) = &mut self.desk else { return Ok(()) };
        if lease.check().is_err() || !desk.enter(&self.name, lease, self.shared).await?.accepted {
            return Ok(());
        }
        *(if self.shared { &mut self.work.readers_entered } else { &mut self.work.entered }) += 1;
        if !self.stay.is_zero() {
            sleep(self.stay).await;
        }
        ensure!(desk.leave(&self.name, lease).await?.accepted, "the register does not let go");
        Ok(())
    }
}
