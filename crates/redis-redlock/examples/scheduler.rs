//! One active scheduler of several, which goes on though a Redis node is down: start it on each host.
//!
//! `cargo run -p redis-redlock --example scheduler -- redis://a:6379/ redis://b:6379/ redis://c:6379/`; stop a node, then kill
//! the active scheduler, and see another one take over within the time to live.

use std::error::Error;
use std::time::Duration;

use redis_redlock::{Client, FencingToken, LeaseOptions, Lock, Redlock};

const TTL: Duration = Duration::from_secs(5);

/// Starts what is due. What it writes goes with the token: `UPDATE job SET … , token = $1 WHERE id = $2 AND token <= $1`, so
/// that a scheduler that was stopped and goes on later starts nothing a second time.
async fn schedule(token: FencingToken) {
    for tick in 1.. {
        println!("tick {tick}, by token {token}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn run(locks: &Redlock) -> Result<(), Box<dyn Error>> {
    let lock = locks.lock("example/scheduler")?.with_options(LeaseOptions::new(TTL)?);
    loop {
        let lease = match lock.acquire_timeout(Duration::from_secs(60)).await {
            Ok(lease) => lease,
            Err(error) => {
                println!("standing by: {error}");
                continue;
            }
        };
        if let Err(lost) = lease.run_while_held(schedule(lease.fencing_token())).await {
            println!("not active any more: {lost}");
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let clients = std::env::args().skip(1).map(Client::new).collect::<Result<Vec<_>, _>>()?;
    // The nodes of an example may be without a disk: one that was restarted is left out for a time to live.
    let locks = Redlock::builder(clients).delayed_restart(TTL).build()?;
    tokio::select! {
        ended = run(&locks) => ended?,
        ctrl_c = tokio::signal::ctrl_c() => ctrl_c?,
    }
    locks.shutdown().await; // given back, so that the next one is active at once
    Ok(())
}
