//! Writes to a topic of two partitions, and lets it grow to four in the middle: `grow BROKERS TOPIC`.

use kafka_partitions::{Change, Cluster, WriterOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(brokers), Some(topic)) = (args.next(), args.next()) else {
        return Err("usage: grow BROKERS TOPIC".into());
    };
    let kafka = Cluster::new(brokers);
    let writer = WriterOptions::new(&kafka, &topic, "example").connect().await?;
    let before = writer.send(Some(b"order-42"), Some(b"paid")).await?;
    println!("layout {}: partition {}", before.epoch, before.partition);

    let now = kafka.topic(&topic).await?.count();
    let plan = kafka.plan(Change::grow(&topic, now * 2)).await?;
    println!("{} writers would be fenced", plan.writers.len());
    kafka.carry_out(plan, |step| println!("{step:?}")).await?;

    let after = writer.send(Some(b"order-42"), Some(b"shipped")).await?;
    println!("layout {}: partition {}", after.epoch, after.partition);
    writer.close().await?;
    Ok(())
}
