//! Claims about holders that die, or are stopped for longer than their lease lasts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use redis_lua::Name;
use redis_lua::redis::cmd;
use tokio::time::sleep;

use super::orders::{Acquire, Acquired, Notice, Order};
use super::{LONG, SHORT, close};
use crate::lab::breaks::Break;
use crate::lab::checker;
use crate::lab::crew::Worker;
use crate::lab::findings::Check;
use crate::lab::register::Entry;
use crate::lab::trial::Trial;
use crate::lab::words::millis;

/// How long a waiter waits for a holder that is gone.
const PATIENCE: Duration = SHORT.saturating_mul(4);

fn acquire(name: &str, ttl: Duration) -> Result<Order> {
    let (ttl_ms, wait_ms) = (u64::try_from(ttl.as_millis())?, u64::try_from(PATIENCE.as_millis())?);
    Ok(Order::Acquire(Acquire { name: name.to_owned(), ttl_ms, wait_ms, anew: false }))
}

async fn held(holder: &mut Worker, order: &Order) -> Result<u64> {
    match holder.ask(order).await? {
        Acquired::Token(token) => Ok(token),
        Acquired::NotInTime => bail!("a lock that nobody holds was not granted"),
    }
}

/// A killed holder's lock is free again within its time to live.
pub async fn killed(trial: &Trial<'_>) -> Result<Check> {
    const NAME: &str = "lab/killed";
    trial.phase(&format!("a holder is killed; its time to live is {SHORT:?}"));
    let [mut holder, mut waiter] = trial.pair().await?;
    held(&mut holder, &acquire(NAME, SHORT)?).await?;
    waiter.tell(&acquire(NAME, SHORT)?).await?;
    // Long enough for a renewal, and for the waiter to be in its stride.
    sleep(SHORT / 2).await;
    if trial.breaks(Break::Ttl) {
        trial.everywhere(cmd("PERSIST").arg(Name::new(NAME)?.as_key())).await?;
    }
    let killed = Instant::now();
    holder.child().kill()?;
    holder.child().wait().await?;
    let left: i64 = trial.run(cmd("PTTL").arg(Name::new(NAME)?.as_key())).await?;
    let next: Acquired = waiter.hear(PATIENCE).await?;
    let took = killed.elapsed();
    close(&mut [waiter]).await?;
    let claim = "a killed holder's lock is free within its time to live";
    Ok(match next {
        // How soon another has it, once it is free, is a matter of its delays and of a busy machine.
        Acquired::Token(_) => Check::new(
            claim,
            (-2..=i64::try_from(SHORT.as_millis())?).contains(&left) && left != -1,
            format!(
                "had by another process {} later; of its time to live of {}, the server had {left} ms left",
                millis(took),
                millis(SHORT)
            ),
        ),
        Acquired::NotInTime => Check::new(claim, false, format!("still taken {} later", millis(took))),
    })
}

/// A holder that was stopped past its time to live does no harm, and learns of it.
pub async fn stopped(trial: &Trial<'_>) -> Result<[Check; 2]> {
    const NAME: &str = "lab/stopped";
    trial.phase(&format!("a holder is stopped past its time to live of {SHORT:?}"));
    let mut workers = trial.pair().await?;
    let [holder, waiter] = &mut workers;
    let outlasts = trial.breaks(Break::Notice);
    let old = held(holder, &acquire(NAME, if outlasts { LONG } else { SHORT })?).await?;
    let entry: Entry = holder.ask(&Order::Enter).await?;
    ensure!(entry.accepted, "the first holder was turned away");

    holder.child().stop()?;
    let stopped = Instant::now();
    if outlasts {
        trial.everywhere(cmd("DEL").arg(Name::new(NAME)?.as_key())).await?;
    }
    waiter.tell(&acquire(NAME, SHORT)?).await?;
    let Acquired::Token(new) = waiter.hear(PATIENCE).await? else {
        bail!("the lock of a stopped holder was still taken after {PATIENCE:?}");
    };
    let took = stopped.elapsed();
    let entry: Entry = waiter.ask(&Order::Enter).await?;
    let written: Entry = waiter.ask(&Order::Write).await?;

    // What it was about to do when it was stopped: it reads this before anything else when it goes on.
    for order in [Order::Write, Order::Enter, Order::Notice] {
        holder.tell(&order).await?;
    }
    holder.child().cont()?;
    let late_write: Entry = holder.hear(Duration::ZERO).await?;
    let late_entry: Entry = holder.hear(Duration::ZERO).await?;
    let notice: Notice = holder.hear(Duration::ZERO).await.context("the stopped holder does not go on")?;
    close(&mut workers).await?;

    let verdict = checker::check(&trial.register.history(NAME));
    let refused = !late_write.accepted && !late_entry.accepted;
    let newer_passed = entry.accepted && written.accepted;
    let word = |accepted| if accepted { "accepted" } else { "refused" };
    let fence = Check::new(
        "a holder stopped past its time to live is refused by the fence",
        refused && newer_passed && verdict.stale_writes == 0 && verdict.overlaps == 0,
        format!(
            "another had it after {} (token {new}); the late write and entry with token {old} were {} and {}",
            millis(took),
            word(late_write.accepted),
            word(late_entry.accepted)
        ),
    );
    let learns = Check::new(
        "it knows that it lost the lease when it goes on",
        !notice.checked_held && notice.lost.is_some(),
        match (&notice.lost, notice.checked_held) {
            (Some(why), false) => format!("its first check said so: {why}"),
            (Some(why), true) => format!("only after it took itself for the holder: {why}"),
            (None, _) => "it took itself for the holder".to_owned(),
        },
    );
    Ok([fence, learns])
}
