//! One staging environment, many builds: each waits for its turn and sees who is before it.
//!
//! `cargo run -p redis-pubsub-lock --example staging -- build-17 [redis://127.0.0.1:6379/]`; start it in several terminals, and
//! kill one with Ctrl-C while it waits, or while it works: the others move up.

use std::error::Error;
use std::time::Duration;

use redis_pubsub_lock::{AcquireError, Client, FairLocks, Lock};

const STAGING: &str = "example/staging";

/// Who is before this build, each few seconds, for as long as it waits.
async fn tell_the_queue(locks: FairLocks) {
    loop {
        match (locks.who(STAGING).await, locks.queue(STAGING).await) {
            (Ok(holder), Ok(queue)) => {
                let holder = holder.map_or_else(|| "nobody".to_owned(), |holder| holder.label.to_string());
                let waiting: Vec<_> =
                    queue.iter().map(|waiter| format!("{} ({:.0?})", waiter.label, waiter.waited)).collect();
                println!("{holder} is on it; in turn: {}", waiting.join(", "));
            }
            (Err(error), _) | (_, Err(error)) => println!("the queue cannot be seen for now: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

async fn deploy_and_test(build: &str) -> Result<(), String> {
    for step in ["deployed", "tested"] {
        tokio::time::sleep(Duration::from_secs(3)).await;
        println!("{build}: {step}");
    }
    Ok(())
}

async fn on_staging(locks: &FairLocks, build: &str) -> Result<(), Box<dyn Error>> {
    let lock = locks.lock(STAGING)?;
    let lease = tokio::select! {
        lease = lock.acquire_timeout(Duration::from_secs(1800)) => lease,
        () = tell_the_queue(locks.clone()) => return Ok(()),
    };
    let lease = match lease {
        Ok(lease) => lease,
        Err(AcquireError::TimedOut { ahead: Some(ahead), .. }) => {
            return Err(format!("{ahead} builds are still before {build}: try again later").into());
        }
        Err(error) => return Err(error.into()),
    };
    println!("{build} has it, with token {}", lease.fencing_token());
    let tested = lease.run_while_held(deploy_and_test(build)).await;
    lease.release().await?; // the next one has it now
    Ok(tested??)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let build = arguments.next().unwrap_or_else(|| format!("build-{}", std::process::id()));
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let locks = FairLocks::builder(Client::connect(url).await?).holder(build.clone()).build();
    let done = on_staging(&locks, &build).await;
    locks.manager().shutdown().await;
    done
}
