//! A process that takes a lock over a quorum again and again, for tests that stop and kill it, and the nodes.
//!
//! `redlock_holder NAME TTL_MS ORACLE_URL NODE_URL…` says `granted TOKEN` for each, `OVERLAP` when it was not alone,
//! `wrote TOKEN` or `refused TOKEN` of the guarded data, and `none: WHY` when it got no lease.

use std::time::Duration;

use anyhow::{Result, bail};
use redis_lock::Lease;
use redis_lua::{GuardedWrite, Name, Written};
use redis_redlock::{Client, LeaseOptions, Lock, Redlock};
use turnstile_integration_tests::Oracle;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [name, ttl, oracle, nodes @ ..] = &args[..] else { bail!("usage: redlock_holder NAME TTL_MS ORACLE NODE…") };
    let clients = nodes.iter().map(Client::new).collect::<Result<Vec<_>, _>>()?;
    let options = LeaseOptions::new(Duration::from_millis(ttl.parse()?))?;
    let lock = Redlock::builder(clients).build()?.lock(name)?.with_options(options);
    let client = Client::connect(oracle).await?;
    let data = GuardedWrite::new(Name::new(format!("{name}/data"))?);
    let oracle = Oracle::new(client.clone(), &format!("{name}/oracle"))?;
    loop {
        let lease = match lock.acquire_timeout(Duration::from_secs(10)).await {
            Ok(lease) => lease,
            Err(error) => {
                println!("none: {error}");
                continue;
            }
        };
        let done = visit(&client, &data, &oracle, &lease).await;
        oracle.leave(&lease).await;
        // After a pause a reply can be too late for us: then we have learnt nothing, and go on.
        for error in [done.err(), lease.release().await.err().map(Into::into)].into_iter().flatten() {
            eprintln!("{error:#}");
        }
    }
}

async fn visit(client: &Client, data: &GuardedWrite, oracle: &Oracle, lease: &Lease) -> Result<()> {
    if !oracle.enter(lease).await? {
        println!("OVERLAP");
    }
    let token = lease.fencing_token();
    println!("granted {token}");
    match data.set(client, token, token.get()).await? {
        Written::Refused { newest } => println!("refused {token}, as {newest} was seen"),
        _ => println!("wrote {token}"),
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}
