//! Sends a mail for each order, by as many processes as are started: `order_mails BROKERS GROUP TOPIC`.
//!
//! An order that cannot be read will never work: it goes to `TOPIC.dead` at once. A mail server that does not answer is
//! tried again, in place. Ctrl-C finishes what is begun and leaves.

use std::time::Duration;

use anyhow::{Context, Result};
use kafka_group::{Attempt, GroupBuilder, Handler, Outcome, Record, Shutdown, Start, StartAt};

struct Mails;

#[async_trait::async_trait]
impl Handler<Record> for Mails {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        let Some(order) = record.value() else {
            return Outcome::Skip("a tombstone".to_owned());
        };
        let customer = match std::str::from_utf8(order).context("not an order") {
            Ok(customer) => customer,
            Err(error) => return Outcome::DeadLetter(error),
        };
        // After a crash the same order may come again: the mail's id is the order's place, so that it can be told.
        let id = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
        send(&id, customer, attempt.number().get()).await.into()
    }
}

async fn send(id: &str, customer: &str, attempt: u32) -> Result<()> {
    println!("{id}: to {customer}, attempt {attempt}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, group, topic] =
        arguments.try_into().map_err(|given| anyhow::anyhow!("order_mails BROKERS GROUP TOPIC, and not {given:?}"))?;
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    let member = GroupBuilder::new(brokers, group, [&topic], start)
        .dead_letters(format!("{topic}.dead"))
        .retries(kafka_group::RetryPolicy::forever())
        .handler(Mails)?;

    let mut status = member.status();
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            let status = status.borrow_and_update();
            for partition in status.partitions.iter().filter(|partition| partition.stall.is_some()) {
                eprintln!("stalled: {partition:?}");
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
