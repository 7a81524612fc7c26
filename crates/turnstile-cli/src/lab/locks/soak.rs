//! Random faults over holders and waiters of one lock, and over its servers, which keep on disk what they have granted.
//!
//! So all that is claimed without faults is claimed here too. Of a holder that is stopped past its lease the register has no
//! more to fear than a late entry, which its token gives away.

use std::time::Duration;

use anyhow::Result;
use redis_lua::redis::cmd;
use redis_lua::{Client, Name};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::LONG;
use super::orders::{Contend, Order, Work};
use crate::lab::breaks::Break;
use crate::lab::checker::{self, Verdict};
use crate::lab::clock;
use crate::lab::findings::Check;
use crate::lab::history::{Event, What};
use crate::lab::soak::{Patient, REDIS, Round, Soaked};
use crate::lab::words::count;

const NAME: &str = "lab/soak";
const TASKS: u32 = 3;
/// So many entries show that it goes on.
const ENOUGH: u64 = 10;

/// One holder at a time, or `limit` of them.
pub async fn run(round: &Round<'_>, strategy: &'static str, servers: usize, limit: Option<u32>) -> Result<Soaked> {
    let mut patient = Patient::start(round, strategy, servers, 0).await?;
    let mut harm = JoinSet::new();
    for guard in [Break::ReleaseCompare, Break::Token].into_iter().filter(|guard| patient.trial.breaks(*guard)) {
        harm.spawn(sabotage(patient.trial.clients().cloned().collect(), guard));
    }
    let order = Order::Soak(Contend {
        name: NAME.to_owned(),
        tasks: TASKS,
        // To the register, who is not alone is a reader.
        readers: if limit.is_some() { TASKS } else { 0 },
        millis: 0,
        guarded: true,
        stay_ms: 5,
        handovers: Some(3),
        apart: false,
    });
    let mut faults = round.begin(strategy, &REDIS).await;
    for worker in &mut patient.workers {
        worker.ask::<()>(&order).await?;
    }
    while let Some(step) = faults.next().await {
        if patient.suffer(&mut faults, &step).await? {
            patient.join().await?.ask::<()>(&order).await?;
        }
    }
    let healed = clock::now();
    let after = || patient.trial.register.history(NAME).iter().filter(|event| is_entry(event, healed)).count() as u64;
    let until = Instant::now() + LONG * 2;
    while after() < ENOUGH && Instant::now() < until {
        sleep(Duration::from_millis(50)).await;
    }
    let mut work = Work::default();
    for worker in &mut patient.workers {
        work.add(worker.ask(&Order::Rest).await?);
    }

    let (events, after) = (patient.trial.register.history(NAME), after());
    let verdict = checker::check(&events);
    let mut checks = claims(&verdict, limit, work.tokens_back);
    checks.push(Check::new(
        "once the faults are over, it goes on, and nobody was told of an error that would not pass",
        after >= ENOUGH && work.errors.is_empty(),
        format!("{} entries since, {}", count(after), work.errors.join("; ")),
    ));
    round.judged(strategy, (verdict.entries, faults), checks, events.iter().map(|event| format!("{event:?}")))
}

fn is_entry(event: &Event, since: u64) -> bool {
    event.at > since && matches!(event.what, What::Entered { .. })
}

fn claims(verdict: &Verdict, limit: Option<u32>, tokens_back: u64) -> Vec<Check> {
    let entries = count(verdict.entries);
    if let Some(limit) = limit {
        return vec![Check::new(
            "never more than the limit are inside",
            verdict.most_inside <= u64::from(limit) && verdict.lost_entries == 0,
            format!("{entries} entries, up to {} at once where {limit} may be", verdict.most_inside),
        )];
    }
    let back = verdict.tokens_back + tokens_back;
    vec![
        Check::new(
            "no two holders at once",
            verdict.exclusive(),
            format!("{entries} entries, {} overlaps", count(verdict.overlaps + verdict.lost_entries)),
        ),
        Check::new(
            "tokens strictly rise, and an older one changes nothing",
            back == 0 && verdict.valid_refused == 0 && verdict.stale_writes == 0,
            format!(
                "{} not above the one before, {} holders with a good lease turned away as old",
                count(back),
                count(verdict.valid_refused)
            ),
        ),
    ]
}

/// Does harm until it is dropped, as far as the servers can be reached.
async fn sabotage(clients: Vec<Client>, guard: Break) {
    let Ok(name) = Name::new(NAME) else { return };
    loop {
        for client in &clients {
            let _ = if guard == Break::Token {
                client.run::<()>(cmd("SET").arg(name.key("fence")).arg(0)).await
            } else {
                // Of a lock, and of a semaphore.
                let keys = (name.as_key(), name.key("permits"), name.key("holders"));
                client.run::<()>(cmd("DEL").arg(keys.0).arg(keys.1).arg(keys.2)).await
            };
        }
        sleep(Duration::from_millis(5)).await;
    }
}
