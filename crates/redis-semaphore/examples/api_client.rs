//! A client of an API that bears three calls at a time, from all of our processes together.
//!
//! `cargo run -p redis-semaphore --example api_client -- redis://127.0.0.1:6379/`; start it several times at once.
//!
//! A call that does not get its turn in time is told so, rather than to pile up behind the others; one that needs more of
//! the API than usual takes two permits.

use std::time::Duration;

use redis_semaphore::{AcquireError, Client, Lock, Semaphore, Semaphores};

#[derive(Clone)]
struct Api {
    calls: Semaphore,
}

impl Api {
    async fn customer(&self, number: u32) -> anyhow::Result<String> {
        self.get(1, Duration::from_secs(2), format!("/customers/{number}")).await
    }

    async fn export(&self) -> anyhow::Result<String> {
        self.get(2, Duration::from_secs(10), "/export".to_owned()).await
    }

    async fn get(&self, weight: u32, within: Duration, path: String) -> anyhow::Result<String> {
        let permit = match self.calls.weighing(weight)?.acquire_timeout(within).await {
            Ok(permit) => permit,
            Err(AcquireError::TimedOut { ahead, .. }) => {
                anyhow::bail!("{path}: busy, with {} calls before this one: try again later", ahead.unwrap_or(0))
            }
            Err(error) => return Err(error.into()),
        };
        // Dropped where it stands, should the permit be lost: so the API never sees a fourth call.
        let answer = permit.run_while_held(request(&path)).await;
        drop(permit); // given back in the background
        Ok(answer?)
    }
}

/// In place of a request to the API.
async fn request(path: &str) -> String {
    tokio::time::sleep(Duration::from_millis(200)).await;
    format!("{path}: answered")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let semaphores = Semaphores::new(Client::connect(url).await?);
    let api = Api { calls: semaphores.by_set("example/api-calls", 3)? };

    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50 {
        let api = api.clone();
        tasks.spawn(async move { if number % 10 == 0 { api.export().await } else { api.customer(number).await } });
    }
    while let Some(answer) = tasks.join_next().await {
        match answer? {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("{error:#}"),
        }
    }
    semaphores.manager().shutdown().await;
    Ok(())
}
