//! A writer to a topic with layouts, or a change of them, as a process: `layouts ROLE`, with a role in JSON.

use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use kafka_partitions::{Change, Cluster, WriterOptions};
use turnstile_integration_tests::layouts::{Role, name_of};

static END: AtomicBool = AtomicBool::new(false);

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let role = std::env::args().nth(1).context("usage: layouts ROLE")?;
    match serde_json::from_str(&role)? {
        Role::Write { brokers, topic, name, keys, patience } => {
            std::thread::spawn(|| {
                let _ = std::io::stdin().lock().lines().next();
                END.store(true, Ordering::Relaxed);
            });
            let cluster = Cluster::new(brokers);
            let writer = WriterOptions::new(&cluster, topic, &name).change_timeout(patience).connect().await?;
            let keys: Vec<_> = (0..keys).map(|key| format!("{name}-{key}")).collect();
            let mut round = 0_u64;
            while !END.load(Ordering::Relaxed) {
                let value = round.to_string();
                let sent = keys.iter().map(|key| writer.send(Some(key.as_bytes()), Some(value.as_bytes())));
                let epoch = try_join_all(sent).await?.first().map_or(0, |written| written.epoch);
                println!("round {round} epoch {epoch}");
                round += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            writer.close().await?;
            println!("wrote {round}");
        }
        Role::Change { brokers, topic, into, partitions, halt } => {
            let cluster = Cluster::new(brokers);
            let change = match into {
                Some(into) => Change::into_topic(topic, into, partitions),
                None => Change::grow(topic, partitions),
            };
            let plan = cluster.plan(change).await?;
            let on_step = move |step| {
                if halt.as_ref() == Some(&name_of(step)) {
                    println!("halted {}", name_of(step));
                    let _ = std::io::stdin().lock().lines().next();
                }
            };
            match cluster.carry_out(plan, on_step).await {
                Ok(layout) => println!("done {}", layout.epoch),
                Err(error) => println!("failed {error}"),
            }
        }
    }
    Ok(())
}
