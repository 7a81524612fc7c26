//! Many tasks raise one counter under one lock, and the counter refuses whoever is late.
//!
//! `cargo run -p redis-lock --example fenced_counter -- redis://127.0.0.1:6379/`

use redis_lock::{Client, Lock, RedisLocks};
use redis_lua::{GuardedWrite, Name, redis};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let client = Client::connect(url).await?;
    let locks = RedisLocks::new(client.clone());
    let counter = Name::new("example/counter")?;
    let register = GuardedWrite::new(counter.clone());

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (client, lock) = (client.clone(), locks.lock("example/counter-lock")?);
        let (counter, register) = (counter.clone(), register.clone());
        tasks.spawn(async move {
            for _ in 0..100 {
                let lease = lock.acquire().await?;
                let token = lease.fencing_token();
                anyhow::ensure!(register.claim(&client, token).await?.is_done(), "we were late");
                let count: u64 = client.run::<Option<u64>>(redis::cmd("GET").arg(counter.as_key())).await?.unwrap_or(0);
                anyhow::ensure!(register.set(&client, token, count + 1).await?.is_done(), "we were late");
                lease.release().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let count: u64 = client.run(redis::cmd("GET").arg(counter.as_key())).await?;
    println!("counted to {count}");
    locks.manager().shutdown().await;
    Ok(())
}
