//! Claims about semaphores: never more than the limit, and permits of the dead come back.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use redis_lua::Name;
use redis_lua::redis::cmd;
use tokio::time::sleep;

use super::orders::{Acquire, Acquired, Contend, Order, Work};
use super::{LONG, PROCESSES, SHORT, TASKS, close};
use crate::lab::breaks::Break;
use crate::lab::checker;
use crate::lab::crew::ask_all;
use crate::lab::figures::Figure;
use crate::lab::findings::Check;
use crate::lab::history;
use crate::lab::trial::Trial;
use crate::lab::words::{count, millis};

/// How many permits the semaphores of the lab have.
pub const LIMIT: u32 = 4;

/// Never more than the limit; and a chart of the first stays.
pub async fn crowded(trial: &Trial<'_>) -> Result<(Check, Figure)> {
    const NAME: &str = "lab/crowded";
    let time = trial.lab.time;
    trial.phase(&format!("{LIMIT} at a time: {PROCESSES} processes × {TASKS} tasks, {time:?}"));
    let mut workers = trial.workers(PROCESSES).await?;
    let order = Order::Contend(Contend {
        name: NAME.to_owned(),
        tasks: TASKS,
        // To the register, who is not alone is a reader.
        readers: TASKS,
        millis: u64::try_from(time.as_millis())?,
        guarded: true,
        stay_ms: 1,
        handovers: None,
        apart: false,
    });
    let name = Name::new(NAME)?;
    let harm = async {
        while trial.breaks(Break::ReleaseCompare) {
            sleep(Duration::from_millis(5)).await;
            trial.run::<()>(cmd("DEL").arg(name.key("permits")).arg(name.key("holders"))).await?;
        }
        std::future::pending::<Result<()>>().await
    };
    let work = tokio::select! {
        work = ask_all(&mut workers, time, |_| &order) => Work::sum(work?),
        Err(error) = harm => return Err(error),
    };
    close(&mut workers).await?;
    ensure!(work.errors.is_empty(), "a semaphore failed on a server that is well: {}", work.errors.join("; "));
    let events = trial.register.history(NAME);
    let verdict = checker::check(&events);
    let all_written_down = work.readers_entered == verdict.entries;
    let check = Check::new(
        "never more than the limit are inside",
        (2..=u64::from(LIMIT)).contains(&verdict.most_inside)
            && verdict.lost_entries == 0
            && verdict.still_inside == 0
            && all_written_down,
        format!("{} entries, up to {} at once where {LIMIT} may be", count(verdict.entries), verdict.most_inside),
    );
    Ok((check, Figure::Lanes(history::by_permit(&events))))
}

/// A killed holder's permit goes to the next within its time to live.
pub async fn killed(trial: &Trial<'_>) -> Result<Check> {
    const NAME: &str = "lab/killed";
    trial.phase(&format!("one of {LIMIT} holders is killed; its time to live is {SHORT:?}"));
    let mut workers = trial.workers(LIMIT + 1).await?;
    let acquire = |ttl: Duration| -> Result<Order> {
        let (ttl_ms, wait_ms) = (u64::try_from(ttl.as_millis())?, u64::try_from((SHORT * 4).as_millis())?);
        Ok(Order::Acquire(Acquire { name: NAME.to_owned(), ttl_ms, wait_ms, anew: false }))
    };
    for (nth, holder) in workers[..LIMIT as usize].iter_mut().enumerate() {
        let held: Acquired = holder.ask(&acquire(if nth == 0 { SHORT } else { LONG })?).await?;
        if matches!(held, Acquired::NotInTime) {
            bail!("a permit that nobody holds was not granted");
        }
    }
    workers[LIMIT as usize].tell(&acquire(LONG)?).await?;
    // Long enough for a renewal, and for the waiter to stand in the queue.
    sleep(SHORT / 2).await;
    let name = Name::new(NAME)?;
    let mut dead = workers.remove(0);
    dead.child().kill()?;
    dead.child().wait().await?;
    let killed = Instant::now();
    if trial.breaks(Break::Ttl) {
        // The permit that ends first is that of the dead.
        let first: Vec<String> = trial.run(cmd("ZRANGE").arg(name.key("permits")).arg(0).arg(0)).await?;
        let never = 9_000_000_000_000_000_u64;
        trial.run::<()>(cmd("ZADD").arg(name.key("permits")).arg("XX").arg(never).arg(first)).await?;
        for key in ["permits", "holders"] {
            trial.run::<()>(cmd("PERSIST").arg(name.key(key))).await?;
        }
    }
    let next: Acquired = workers[LIMIT as usize - 1].hear(SHORT * 4).await?;
    let took = millis(killed.elapsed());
    close(&mut workers).await?;
    let (served, observed) = match next {
        Acquired::Token(_) => (true, format!("had by the next {took} later, the other holders undisturbed")),
        Acquired::NotInTime => (false, format!("still gone {took} later")),
    };
    Ok(Check::new("a killed holder's permit comes back by itself", served, observed))
}
