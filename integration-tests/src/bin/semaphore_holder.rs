//! A process that takes permits, for tests that stop and kill it. It says on standard output what happens to it.
//!
//! `semaphore_holder URL NAME FORM LIMIT TTL_MS` takes orders from standard input, all at once, by whatever limit the
//! server keeps:
//! - `visit LABEL WEIGHT` takes permits, says `granted LABEL TOKEN`, and gives them back; `hold LABEL WEIGHT` keeps them.
//! - `churn TASKS STEPS` has so many tasks acquire, cancel, drop and release at random, and says `done` when all have done their
//!   steps. All that hold enter the register of the name and `/crowd`.

use std::time::Duration;

use anyhow::{Result, bail};
use rand::RngExt;
use redis_lock::Client;
use redis_semaphore::{Lease, LeaseOptions, Semaphore, Semaphores};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use turnstile_integration_tests::Crowd;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [url, name, form, limit, ttl] = &args[..] else { bail!("usage: semaphore_holder URL NAME FORM LIMIT TTL_MS") };
    let client = Client::connect(url).await?;
    let (semaphores, limit) = (Semaphores::new(client.clone()), limit.parse()?);
    let semaphore = if form == "set" { semaphores.by_set(name, limit) } else { semaphores.by_counter(name, limit) }?;
    let options = LeaseOptions::new(Duration::from_millis(ttl.parse()?))?;
    let semaphore = semaphore.with_options(options).by_any_limit();
    let crowd = Crowd::new(client, &format!("{name}/crowd"))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (semaphore, crowd) = (semaphore.clone(), crowd.clone());
        tokio::spawn(async move {
            if let Err(error) = obey(&words, semaphore, crowd).await {
                println!("failed {error:#}");
            }
        });
    }
    Ok(())
}

async fn obey(words: &[String], semaphore: Semaphore, crowd: Crowd) -> Result<()> {
    let [what, first, second] = words else { bail!("no order {words:?}") };
    let number: u32 = second.parse()?;
    match what.as_str() {
        "churn" => {
            let mut tasks = JoinSet::new();
            for _ in 0..first.parse::<u32>()? {
                tasks.spawn(churn(semaphore.clone(), crowd.clone(), number));
            }
            for done in tasks.join_all().await {
                done?;
            }
            println!("done");
        }
        _ => {
            let lease = semaphore.acquire_many(number).await?;
            crowd.enter(&lease, number).await?;
            println!("granted {first} {}", lease.fencing_token());
            if what == "hold" {
                lease.lost().await;
            }
            sleep(Duration::from_millis(1)).await;
            crowd.leave(&lease).await;
            lease.release().await?;
        }
    }
    Ok(())
}

async fn churn(semaphore: Semaphore, crowd: Crowd, steps: u32) -> Result<()> {
    for _ in 0..steps {
        let (weight, patience, stays, end) = {
            let mut random = rand::rng();
            let patience = Duration::from_micros(random.random_range(0..20_000));
            (random.random_range(1..=3), patience, random.random_range(0..2), random.random_range(0..3))
        };
        let acquire = semaphore.acquire_many(weight);
        // One that is stopped meanwhile finds its requests too late when it goes on.
        let lease: Lease = match end {
            0 => match timeout(patience, acquire).await {
                Ok(Ok(lease)) => lease,
                Ok(Err(_)) | Err(_) => continue, // cancelled wherever it stood
            },
            _ => match acquire.await {
                Ok(lease) => lease,
                Err(_) => continue,
            },
        };
        if crowd.enter(&lease, weight).await.is_ok() {
            sleep(Duration::from_millis(stays)).await;
        }
        crowd.leave(&lease).await;
        if end == 1 {
            drop(lease);
        } else {
            // Not confirmed, it goes on in the background.
            let _ = lease.release().await;
        }
    }
    Ok(())
}
