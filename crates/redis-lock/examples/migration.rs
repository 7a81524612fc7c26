//! Every replica of a service starts with the migrations of its schema: one runs them, the others wait and find them done.
//!
//! `cargo run -p redis-lock --example migration -- redis://127.0.0.1:6379/`; start it several times at once.
//!
//! The schema is a hash in Redis here. Each step is written with the fencing token, so that a replica that was stopped in
//! the midst of it, and goes on when another has taken over, is refused. In SQL, let each step's transaction begin with
//! `UPDATE schema_lock SET token = $1 WHERE token <= $1`, and end it if that is no row.

use std::time::Duration;

use redis_lock::{Client, LeaseOptions, Lock, RedisLocks};
use redis_lua::{GuardedWrite, Name, redis};

const STEPS: [&str; 3] = ["create customers", "create orders", "index orders by customer"];

async fn migrate(client: &Client, locks: &RedisLocks) -> anyhow::Result<()> {
    let schema = Name::new("example/schema")?;
    let guard = GuardedWrite::new(schema.clone());
    // Long: a server that is away for a while ends no migration.
    let lock = locks.lock("example/migration")?.with_options(LeaseOptions::new(Duration::from_secs(120))?);
    let lease = lock.acquire_timeout(Duration::from_secs(600)).await?;
    let token = lease.fencing_token();
    anyhow::ensure!(guard.claim(client, token).await?.is_done(), "another replica has gone further");
    let version: Option<usize> = client.run(redis::cmd("HGET").arg(schema.as_key()).arg("version")).await?;
    for (number, step) in STEPS.iter().enumerate().skip(version.unwrap_or(0)) {
        lease.check()?; // cheap, and saves work; what keeps the data whole is the token
        tokio::time::sleep(Duration::from_millis(700)).await; // The step itself.
        let written = guard.set_fields(client, token, [("version", (number + 1).to_string())]).await?;
        anyhow::ensure!(written.is_done(), "another replica has taken over at step {}", number + 1);
        println!("step {}: {step}", number + 1);
    }
    lease.release().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let client = Client::connect(url).await?;
    let locks = RedisLocks::new(client.clone());
    let migrated = migrate(&client, &locks).await;
    locks.manager().shutdown().await;
    migrated?;
    println!("the schema is at {}: serving", STEPS.len());
    Ok(())
}
