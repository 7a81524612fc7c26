//! A copier by kafka-txn.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kafka_txn::{
    AtLimit, Attempt, Backoff, GroupBuilder, LaneOptions, Order, Outcome, Output, Outputs, Protocol, Record,
    RetryPolicy, Shutdown, Start, StartAt, Step, Transform, TxnBuilder,
};
use turnstile_integration_tests::copies::{At, CopyKind, CopyRole, f};
use turnstile_integration_tests::kafka;

use crate::{Fates, number};

struct Copy {
    to: String,
    work: Duration,
}

#[async_trait]
impl Transform for Copy {
    async fn transform(&self, record: &Record, outputs: &mut Outputs, _: Attempt<'_>) -> Outcome {
        if !self.work.is_zero() {
            // Not all take as long.
            tokio::time::sleep(self.work * (1 + record.offset() as u32 % 3)).await;
        }
        let Some(number) = number(record.value()) else { return Outcome::DeadLetter(anyhow!("no number")) };
        for value in f(number) {
            let mut output = Output::to(&self.to).value(&value);
            if let Some(key) = record.key() {
                output = output.key(key);
            }
            outputs.push(output);
        }
        Outcome::Done
    }
}

#[tokio::main]
pub async fn run(role: CopyRole) -> Result<()> {
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    let mut group = GroupBuilder::new(&role.brokers, &role.group, [&role.from], start)
        .protocol(match role.protocol {
            kafka::Protocol::Cooperative => Protocol::Cooperative,
            kafka::Protocol::Eager => Protocol::Eager,
            kafka::Protocol::Consumer => Protocol::Consumer,
        })
        .session_timeout(role.session)
        .max_poll_interval(Duration::from_secs(20))
        .drain_timeout(Duration::from_secs(5))
        .dead_letters(&role.dead_letters)
        .retries(
            RetryPolicy::new(NonZeroU32::MIN, AtLimit::DeadLetter)
                .backoff(Backoff::new(Duration::from_millis(10), Duration::from_millis(50))),
        );
    for (key, value) in &role.options {
        group = group.option(key, value);
    }
    if let Some(instance) = &role.instance {
        group = group.instance_id(instance);
    }
    let shutdown = Shutdown::new(Duration::from_secs(10));
    let asked = shutdown.clone();
    let fates = Fates::new(&role, move || asked.begin());
    let builder = TxnBuilder::new(group).every(role.every).records(role.records).on_step(move |step| match step {
        Step::Begin => fates.at(At::Begin),
        Step::Produce => fates.at(At::Produce),
        Step::SendOffsets => fates.at(At::SendOffsets),
        Step::Commit => fates.at(At::Commit),
        Step::Committed => fates.at(At::Committed),
        _ => {}
    });
    let copy = Copy { to: role.to, work: role.work };
    let member = match role.kind {
        CopyKind::Parallel => builder.parallel(copy, LaneOptions::default())?,
        CopyKind::Unordered => builder.parallel(copy, LaneOptions::default().order(Order::Unordered))?,
        _ => builder.in_order(copy)?,
    };
    let mut status = member.status();
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            let status = status.borrow_and_update().clone();
            let in_hand: u64 = status.partitions.iter().map(|one| one.in_hand.records).sum();
            println!("{:?} {}, {in_hand} in hand", status.membership, status.partitions.len());
        }
    });
    match member.run(shutdown).await {
        Ok(report) => println!("ended {report:?}"),
        Err(error) => println!("failed {error}"),
    }
    // Reading standard input would hold the runtime's end.
    std::process::exit(0)
}
