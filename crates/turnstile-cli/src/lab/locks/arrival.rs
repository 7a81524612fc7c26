//! Claim: who came first is served first, over all processes. For strategies whose servers keep a queue.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use redis_lua::Name;
use redis_lua::redis::cmd;
use tokio::time::{Instant, sleep};

use super::orders::{Acquire, Acquired, Order};
use super::{LONG, close};
use crate::lab::breaks::Break;
use crate::lab::findings::Check;
use crate::lab::trial::Trial;

const NAME: &str = "lab/arrival";
const WAITERS: u32 = 6;

/// While so many hold it that nobody else can, waiters come one after the other, each in a process of its own.
pub async fn run(trial: &Trial<'_>, holders: u32) -> Result<Check> {
    trial.phase(&format!("{WAITERS} processes come one after the other"));
    let mut workers = trial.workers(holders + WAITERS).await?;
    let (holding, waiting) = workers.split_at_mut(holders as usize);
    let millis = u64::try_from(LONG.as_millis())?;
    let acquire = || Order::Acquire(Acquire { name: NAME.to_owned(), ttl_ms: millis, wait_ms: millis, anew: false });
    for holder in holding.iter_mut() {
        let held: Acquired = holder.ask(&acquire()).await?;
        ensure!(matches!(held, Acquired::Token(_)), "what nobody else holds was not granted");
    }
    let name = Name::new(NAME)?;
    for (place, waiter) in (1_u32..).zip(waiting.iter_mut()) {
        waiter.tell(&acquire()).await?;
        waiter.tell(&Order::Release).await?;
        let told = Instant::now();
        while trial.run::<u32>(cmd("ZCARD").arg(name.key("queue"))).await? != place {
            ensure!(told.elapsed() < LONG, "waiter {place} does not stand in the queue");
            sleep(Duration::from_millis(2)).await;
        }
    }
    if trial.breaks(Break::Order) {
        let last: Vec<String> = trial.run(cmd("ZRANGE").arg(name.key("queue")).arg(-1).arg(-1)).await?;
        trial.run::<()>(cmd("ZADD").arg(name.key("queue")).arg("XX").arg(0).arg(last)).await?;
    }
    for holder in holding {
        holder.tell(&Order::Release).await?;
        holder.hear::<()>(LONG).await?;
    }
    let mut tokens = Vec::new();
    for waiter in waiting {
        let Acquired::Token(token) = waiter.hear(LONG).await? else { bail!("a waiter was not served") };
        waiter.hear::<()>(LONG).await?;
        tokens.push(token);
    }
    close(&mut workers).await?;
    Ok(Check::new(
        "who came first is served first, over all processes",
        tokens.is_sorted_by(|one, next| one < next),
        format!("in the order in which they came, {WAITERS} processes got the tokens {tokens:?}"),
    ))
}
