//! Claim: a connection that is cut between a grant and its reply makes no second grant.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use redis_lua::Name;
use redis_lua::redis::cmd;
use tokio::time::sleep;

use super::orders::{Acquire, Acquired, Order};
use super::{LONG, close};
use crate::lab::breaks::Break;
use crate::lab::crew::Worker;
use crate::lab::findings::Check;
use crate::lab::trial::Trial;

const ROUNDS: u32 = 3;
/// Far less than the time to live: a lock that is free by then was given back.
const SOON: Duration = Duration::from_secs(5);

pub async fn run(trial: &Trial<'_>) -> Result<Check> {
    trial.phase(&format!("the connection is cut before the reply, {ROUNDS} times for a grant and for a release"));
    let proxy = trial.server.proxy().await?;
    let mut workers = [trial.worker(0, &proxy.url()).await?, trial.worker(1, &trial.server.url()).await?];
    let [victim, rival] = &mut workers;
    let (mut grants, mut to_rival, mut not_freed) = (0, 0, 0);
    for round in 0..ROUNDS {
        let name = Name::new(format!("lab/reply/{round}"))?;
        let ask = |wait: Duration| -> Result<Order> {
            let (ttl_ms, wait_ms) = (u64::try_from(LONG.as_millis())?, u64::try_from(wait.as_millis())?);
            let anew = trial.breaks(Break::Retry);
            Ok(Order::Acquire(Acquire { name: name.as_str().to_owned(), ttl_ms, wait_ms, anew }))
        };
        let cut = proxy.cut_reply_to(name.as_key());
        victim.tell(&ask(SOON * 2)?).await?;
        cut.happened().await?;
        let had: Acquired = victim.hear(SOON * 2).await?;
        ensure!(matches!(had, Acquired::Token(_)), "a lock was not granted again after its reply was lost");
        to_rival += u32::from(gets(rival, &ask(Duration::ZERO)?).await?);
        grants += trial.run::<u32>(cmd("GET").arg(name.key("fence"))).await?;

        let cut = proxy.cut_reply_to(name.as_key());
        victim.tell(&Order::Release).await?;
        cut.happened().await?;
        victim.hear::<()>(SOON).await?;
        let cut_at = Instant::now();
        while !gets(rival, &ask(Duration::ZERO)?).await? {
            if cut_at.elapsed() > SOON {
                not_freed += 1;
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
    close(&mut workers).await?;
    Ok(Check::new(
        "a lost reply gives no second grant, and leaves no lock taken",
        grants == ROUNDS && to_rival == 0 && not_freed == 0,
        format!(
            "{ROUNDS} grants whose reply was cut off: {grants} tokens given out, {to_rival} grants to a rival; {ROUNDS} \
             such releases: {not_freed} locks not freed"
        ),
    ))
}

/// Whether a rival gets the lock; it does not keep it.
async fn gets(rival: &mut Worker, ask: &Order) -> Result<bool> {
    let got = matches!(rival.ask(ask).await?, Acquired::Token(_));
    if got {
        rival.ask::<()>(&Order::Release).await?;
    }
    Ok(got)
}
