//! Takes a lock over a quorum again and again, and says what it sees: stop, kill and restart nodes meanwhile.
//!
//! `cargo run --example five_nodes -- redis://a:6379/ redis://b:6379/ redis://c:6379/ …`

use std::time::{Duration, Instant};

use redis_redlock::{Client, LeaseOptions, Lock, Redlock};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clients = std::env::args().skip(1).map(Client::new).collect::<Result<Vec<_>, _>>()?;
    let locks = Redlock::builder(clients).delayed_restart(Duration::from_secs(5)).build()?;
    let lock = locks.lock("example/five-nodes")?.with_options(LeaseOptions::new(Duration::from_secs(5))?);
    for _ in 0..20 {
        let asked = Instant::now();
        match lock.acquire_timeout(Duration::from_secs(2)).await {
            Ok(lease) => {
                println!("token {} after {:.1?}", lease.fencing_token(), asked.elapsed());
                for holder in locks.who("example/five-nodes").await? {
                    println!("  {} of the nodes: {}, for {:?} yet", holder.nodes, holder.label, holder.remaining);
                }
                let work = tokio::time::sleep(Duration::from_millis(500));
                if let Err(lost) = lease.run_while_held(work).await {
                    println!("  {lost}");
                }
                if let Err(error) = lease.release().await {
                    println!("  {error}");
                }
            }
            Err(error) => println!("none after {:.1?}: {error}", asked.elapsed()),
        }
    }
    locks.shutdown().await;
    Ok(())
}
