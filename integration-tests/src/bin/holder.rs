//! A process that holds a lock, for tests that stop and kill it. It says on standard output what happens to it.
//!
//! `holder URL NAME TTL_MS contend` takes the lock again and again: `granted TOKEN`, and `OVERLAP` when it was not
//! alone. `holder URL NAME TTL_MS hold` takes it once, says `held TOKEN` and `lost REASON`, and does what each line of
//! standard input asks for: `write` or `plain` to the guarded data, with the fence or without; `release`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use redis_lock::{Client, Lease, LeaseOptions, Lock, RedisLock, RedisLocks};
use redis_lua::redis::cmd;
use redis_lua::{GuardedWrite, Name, Written};
use tokio::io::{AsyncBufReadExt, BufReader};
use turnstile_integration_tests::Oracle;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [url, name, ttl, mode] = &args[..] else { bail!("usage: holder URL NAME TTL_MS contend|hold") };
    let client = Client::connect(url).await?;
    let options = LeaseOptions::new(Duration::from_millis(ttl.parse()?))?;
    let lock = RedisLocks::new(client.clone()).lock(name)?.with_options(options);
    let data = GuardedWrite::new(Name::new(format!("{name}/data"))?);
    match &**mode {
        "contend" => contend(&client, &lock, &data, &Oracle::new(client.clone(), &format!("{name}/oracle"))?).await,
        "hold" => hold(&client, &lock, &data).await,
        other => bail!("no mode {other:?}: contend or hold"),
    }
}

async fn contend(client: &Client, lock: &RedisLock, data: &GuardedWrite, oracle: &Oracle) -> Result<()> {
    loop {
        let lease = lock.acquire().await?;
        let done = visit(client, data, oracle, &lease).await;
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
    println!("granted {}", lease.fencing_token());
    write(client, data, lease).await?;
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}

async fn hold(client: &Client, lock: &RedisLock, data: &GuardedWrite) -> Result<()> {
    let lease = lock.acquire().await?;
    println!("held {}", lease.fencing_token());
    let lost = lease.lost();
    tokio::spawn(async move { println!("lost {:?}", lost.await) });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match &*line {
            // Neither asks whether the lease still stands: a pause can come after any such check.
            "write" => write(client, data, &lease).await?,
            "plain" => {
                client.run::<()>(cmd("SET").arg(data.name().as_key()).arg(lease.fencing_token().get())).await?;
                println!("wrote without a fence");
            }
            "release" => {
                println!("released {:?}", lease.release().await?);
                return Ok(());
            }
            other => bail!("no order {other:?}"),
        }
    }
    Ok(())
}

async fn write(client: &Client, data: &GuardedWrite, lease: &Lease) -> Result<()> {
    let token = lease.fencing_token();
    match data.set(client, token, token.get()).await.context("the guarded write")? {
        Written::Refused { newest } => println!("refused {token}, as {newest} was seen"),
        _ => println!("wrote {token}"),
    }
    Ok(())
}
