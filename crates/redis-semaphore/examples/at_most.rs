//! Forty calls to somebody's API, from as many tasks and processes as you like: at most three at a time.
//!
//! `cargo run -p redis-semaphore --example at_most -- redis://127.0.0.1:6379/`

use std::time::Duration;

use redis_semaphore::{Client, Lock, Semaphores};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let semaphores = Semaphores::new(Client::connect(url).await?);
    let calls = semaphores.by_set("example/api-calls", 3)?;

    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let calls = calls.clone();
        tasks.spawn(async move {
            let permit = calls.acquire().await?;
            // In place of a request to the API:
            permit.run_while_held(tokio::time::sleep(Duration::from_millis(20))).await?;
            permit.release().await?;
            anyhow::Ok(number)
        });
    }
    while let Some(done) = tasks.join_next().await {
        println!("call {} done, {} free", done??, calls.available().await?);
    }
    semaphores.manager().shutdown().await;
    Ok(())
}
