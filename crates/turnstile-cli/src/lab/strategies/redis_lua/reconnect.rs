//! Claim: a connection that is lost is replaced by one new connection, however many tasks use it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use redis_lua::redis::cmd;
use tokio::time::sleep;

use super::orders::{By, Count, OnLoss, Order, Work};
use super::{PROCESSES, TASKS};
use crate::lab::breaks::Break;
use crate::lab::findings::Check;
use crate::lab::redis_stats::{connections_open, connections_taken};
use crate::lab::trial::Trial;
use crate::lab::words::count;

const ROUNDS: u32 = 3;
/// After the last connection is back: whoever were to make one more would have by then.
const SETTLED: Duration = Duration::from_millis(200);
const LIMIT: Duration = Duration::from_secs(10);

pub async fn run(trial: &Trial<'_>) -> Result<Check> {
    trial.phase(&format!(
        "all connections are killed {ROUNDS} times, under the calls of {PROCESSES} processes × {TASKS} tasks"
    ));
    let mut workers = trial.workers(PROCESSES).await?;
    let on_loss = if trial.breaks(Break::Reconnect) { OnLoss::ConnectAnew } else { OnLoss::GoOn };
    let order = Order::Count(Count {
        name: "lab/reconnect".to_owned(),
        writers: TASKS,
        readers: 0,
        millis: u64::try_from((LIMIT * (ROUNDS + 1)).as_millis())?,
        by: By::Script,
        on_loss,
    });
    for worker in &mut workers {
        worker.tell(&order).await?;
    }
    sleep(SETTLED).await;
    let before = connections_taken(&trial.client).await?;
    let mut killed = 0;
    for _ in 0..ROUNDS {
        // All but the lab's own.
        killed += trial.run::<u64>(cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal")).await?;
        let since = Instant::now();
        while connections_open(&trial.client).await? < u64::from(PROCESSES) + 1 {
            if since.elapsed() > LIMIT {
                bail!("the clients did not connect again within {LIMIT:?}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        sleep(SETTLED).await;
    }
    let made = connections_taken(&trial.client).await? - before;
    let mut answers = Vec::new();
    for worker in &mut workers {
        worker.tell(&Order::Stop).await?;
        answers.push(worker.hear(LIMIT).await?);
    }
    let work = Work::sum(answers);
    Ok(Check::new(
        "a lost connection is replaced by one new one",
        killed == made && killed == u64::from(PROCESSES * ROUNDS) && work.failed == 0 && work.calls > 0,
        format!(
            "{killed} connections killed under {TASKS} tasks each, {made} made anew; {} calls answered, {} lost with a \
             connection",
            count(work.calls),
            count(work.lost)
        ),
    ))
}
