//! A process that waits for a fair lock, for tests that stop and kill it. It says on standard output what happens to it.
//!
//! `fair_waiter URL NAME TTL_MS` asks for the lock once for each line of standard input, all at once: `visit LABEL` takes it,
//! says `granted LABEL TOKEN`, and `OVERLAP` when it was not alone, and gives it back; `hold LABEL` keeps it.

use std::time::Duration;

use anyhow::{Result, bail};
use redis_lock::Client;
use redis_pubsub_lock::{FairLock, FairLocks, LeaseOptions, Lock};
use tokio::io::{AsyncBufReadExt, BufReader};
use turnstile_integration_tests::Oracle;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [url, name, ttl] = &args[..] else { bail!("usage: fair_waiter URL NAME TTL_MS") };
    let client = Client::connect(url).await?;
    let options = LeaseOptions::new(Duration::from_millis(ttl.parse()?))?;
    let lock = FairLocks::new(client.clone()).lock(name)?.with_options(options);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let Some((what, label)) = line.split_once(' ') else { bail!("no order {line:?}") };
        let oracle = Oracle::new(client.clone(), &format!("{name}/oracle"))?;
        tokio::spawn(wait(lock.clone(), oracle, what == "hold", label.to_owned()));
    }
    Ok(())
}

async fn wait(lock: FairLock, oracle: Oracle, hold: bool, label: String) -> Result<()> {
    let lease = lock.acquire().await?;
    if !oracle.enter(&lease).await? {
        println!("OVERLAP");
    }
    println!("granted {label} {}", lease.fencing_token());
    if hold {
        lease.lost().await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    oracle.leave(&lease).await;
    lease.release().await?;
    Ok(())
}
