//! Waiters take a lock in turn while somebody watches. Start it twice: the processes share one queue.
//!
//! `cargo run -p redis-pubsub-lock --example in_turn -- redis://127.0.0.1:6379/`

use std::time::Duration;

use redis_pubsub_lock::{Client, FairLocks, Lock};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let locks = FairLocks::new(Client::connect(url).await?);
    let mut watch = locks.watch("example/desk").await?;
    tokio::spawn(async move {
        loop {
            println!("{:?}", watch.next().await);
        }
    });

    let mut customers = tokio::task::JoinSet::new();
    for number in 1..=5 {
        let desk = locks.lock("example/desk")?;
        customers.spawn(async move {
            let lease = desk.acquire().await.map_err(|error| error.to_string())?;
            println!("customer {number} is served, with token {}", lease.fencing_token());
            tokio::time::sleep(Duration::from_millis(300)).await;
            lease.release().await.map_err(|error| error.to_string())
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    for waiter in locks.queue("example/desk").await? {
        println!("{} has waited for {:?}", waiter.label, waiter.waited);
    }
    while let Some(done) = customers.join_next().await {
        done??;
    }
    locks.manager().shutdown().await;
    Ok(())
}
