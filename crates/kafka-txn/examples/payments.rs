//! Copies payments exactly once, and leaves the transfer of the money to an outbox: commands in a topic, each with a key that
//! tells a repetition from another payment. `cargo run -p kafka-txn --example payments`, with a Kafka on localhost:9092 that has
//! the topics `payments`, `ledger`, `transfers` and `payments.dead`.

use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use kafka_txn::{
    Attempt, GroupBuilder, Outcome, Output, Outputs, Record, Shutdown, Start, StartAt, Transform, TxnBuilder,
};

struct Payments;

#[async_trait]
impl Transform for Payments {
    async fn transform(&self, payment: &Record, outputs: &mut Outputs, _: Attempt<'_>) -> Outcome {
        match book(payment, outputs) {
            Ok(()) => Outcome::Done,
            // It never will be a payment: set aside, in the same way as all else.
            Err(error) => Outcome::DeadLetter(error),
        }
    }
}

fn book(payment: &Record, outputs: &mut Outputs) -> Result<()> {
    let account = payment.key().context("a payment without an account")?;
    let amount: u64 = std::str::from_utf8(payment.value().unwrap_or_default())?.parse().context("not an amount")?;
    outputs.push(Output::to("ledger").key(account).value(&amount.to_string()));
    // Whoever carries it out may see the command twice, and tells that by this.
    let once = format!("{}-{}-{}", payment.topic(), payment.partition(), payment.offset());
    outputs.push(
        Output::to("transfers")
            .key(account)
            .value(&amount.to_string())
            .header("idempotency-key", Some(once.as_bytes())),
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    let group = GroupBuilder::new("localhost:9092", "bookkeeping", ["payments"], start).dead_letters("payments.dead");
    let member = TxnBuilder::new(group).every(Duration::from_millis(100)).in_order(Payments)?;
    let shutdown = Shutdown::new(Duration::from_secs(20));
    let asked = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            asked.begin();
        }
    });
    println!("{:?}", member.run(shutdown).await?);
    Ok(())
}
