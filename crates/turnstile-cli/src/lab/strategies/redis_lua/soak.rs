//! Random faults over processes that call scripts, and over their server, which keeps on disk what it has answered.

use anyhow::Result;
use redis_lua::Name;
use redis_lua::redis::cmd;

use super::orders::{By, Count, OnLoss, Order, Work};
use crate::lab::breaks::Break;
use crate::lab::findings::Check;
use crate::lab::soak::{Patient, REDIS, Round, Soaked};
use crate::lab::words::count;

const NAME: &str = "lab/soak";
/// Until they are told to stop.
const WITHOUT_END: u64 = 3_600_000;

pub async fn run(round: &Round<'_>) -> Result<Soaked> {
    let mut patient = Patient::start(round, "redis-lua", 1, 0).await?;
    let by = match (patient.trial.breaks(Break::Atomic), patient.trial.breaks(Break::ScriptFlush)) {
        (true, _) => By::TwoCommands,
        (_, true) => By::Sha1Alone,
        _ => By::Script,
    };
    let (name, on_loss) = (NAME.to_owned(), OnLoss::GoOn);
    let order = Order::Count(Count { name, writers: 3, readers: 1, millis: WITHOUT_END, by, on_loss });
    let mut faults = round.begin("redis-lua", &REDIS).await;
    for worker in &mut patient.workers {
        worker.tell(&order).await?;
    }
    while let Some(step) = faults.next().await {
        if patient.suffer(&mut faults, &step).await? {
            patient.join().await?.tell(&order).await?;
        }
    }
    let mut answers = Vec::new();
    for worker in &mut patient.workers {
        answers.push(worker.ask(&Order::Stop).await?);
    }
    let work = Work::sum(answers);
    let name = Name::new(NAME)?;
    let mut read = cmd("MGET");
    read.arg(name.key("left")).arg(name.key("right"));
    let (left, right): (Option<u64>, Option<u64>) = patient.trial.run(&read).await?;
    let (left, right) = (left.unwrap_or(0), right.unwrap_or(0));
    let observed = format!(
        "{} reads, {} of a half-done call; {left} and {right} at the end; {} calls answered to those who live; {}",
        count(work.reads),
        count(work.torn),
        count(work.calls),
        work.error.as_deref().unwrap_or("no error that would not pass")
    );
    let atomic = work.torn == 0 && left == right && work.reads > 0;
    let checks = [
        Check::new("a script is atomic: nobody sees it half done", atomic, &observed),
        Check::new("what was answered is there", right >= work.calls && work.calls > 0, &observed),
        Check::new("no call fails but for a connection that is lost", work.failed == 0, &observed),
    ];
    round.judged("redis-lua", (right, faults), checks, [&observed])
}
