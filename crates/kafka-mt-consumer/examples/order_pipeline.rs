//! An order pipeline: events of orders come by key (the order's number), each is checked against a slow payment service, and
//! those of one order stay in their order: `order_pipeline BROKERS GROUP TOPIC`.
//!
//! Two hundred are under way at a time, whatever the number of partitions. An order whose payment does not answer waits by itself,
//! and is told by its number; one that cannot be read goes to `TOPIC.dead`. Ctrl-C finishes what is begun and leaves.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use anyhow::{Context, Result};
use kafka_mt_consumer::{
    AtLimit, Attempt, GroupBuilder, Handler, Outcome, ParallelBuilder, Record, RetryPolicy, Shutdown, Start, StartAt,
};

struct Payments;

#[async_trait::async_trait]
impl Handler<Record> for Payments {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        let order = record.key().and_then(|key| std::str::from_utf8(key).ok());
        let event = record.value().and_then(|value| std::str::from_utf8(value).ok());
        let (Some(order), Some(event)) = (order, event) else {
            return Outcome::DeadLetter(anyhow::anyhow!("not an event of an order"));
        };
        // Without a limit of its own, a call that hangs would hold up this order for ever.
        match tokio::time::timeout(Duration::from_secs(5), pay(order, event)).await {
            Ok(paid) => paid.into(),
            Err(late) => {
                println!("order {order}: no answer, attempt {}", attempt.number());
                Outcome::retry(late)
            }
        }
    }
}

/// The service: it takes a while.
async fn pay(order: &str, event: &str) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    println!("order {order}: {event}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, group, topic] = arguments
        .try_into()
        .map_err(|given| anyhow::anyhow!("order_pipeline BROKERS GROUP TOPIC, and not {given:?}"))?;
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    let ten_times = RetryPolicy::new(NonZeroU32::MIN.saturating_add(9), AtLimit::DeadLetter);
    let group =
        GroupBuilder::new(brokers, group, [&topic], start).dead_letters(format!("{topic}.dead")).retries(ten_times);
    let member =
        ParallelBuilder::new(group).concurrency(NonZeroUsize::new(200).context("some seats")?).handler(Payments)?;

    let mut status = member.status();
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            for partition in &status.borrow_and_update().partitions {
                if let Some(stall) = &partition.stall {
                    eprintln!("{}/{}: {}", partition.topic, partition.partition, stall.reason);
                }
            }
        }
    });
    let shutdown = Shutdown::new(Duration::from_secs(20));
    let on_signal = shutdown.clone();
    tokio::spawn(async move {
        tokio::signal::ctrl_c().await.ok();
        on_signal.begin();
    });
    let report = member.run(shutdown).await?;
    eprintln!("{} done, {} set aside, {} handed back", report.done, report.dead_letters, report.handed_back);
    Ok(())
}
