//! Where a Redis comes from: an address in the environment, a container, a process.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use super::Redis;
use super::container::Container;
use super::process::Process;
use super::server::{Builder, Host, Server};
use crate::found;

/// The one server that all tests of this process share: the one at `TURNSTILE_TEST_REDIS_URL` if that is set, else one
/// started at the first call, which ends with this process. Keep apart on it by [`unique`](crate::unique) names.
///
/// # Errors
/// When no server can be had; the text says what was tried and what to install. The next call tries again.
pub async fn shared() -> Result<Redis> {
    enum Shared {
        Elsewhere(Redis),
        Ours(Server),
    }
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    let shared = SHARED
        .get_or_try_init(|| async {
            match std::env::var("TURNSTILE_TEST_REDIS_URL") {
                Ok(url) if !url.is_empty() => {
                    Redis::at(&url).map(Shared::Elsewhere).context("TURNSTILE_TEST_REDIS_URL is not usable")
                }
                _ => Redis::start().await.map(Shared::Ours),
            }
        })
        .await?;
    Ok(match shared {
        Shared::Elsewhere(redis) => redis.clone(),
        Shared::Ours(server) => Redis::clone(server),
    })
}

/// Starts a server for the builder.
pub(crate) async fn start(options: &Builder) -> Result<Host> {
    static REFUSED: OnceLock<String> = OnceLock::new();
    let container = async { Container::start(options.arguments()).await.map(|one| Host::Container(Arc::new(one))) };
    let process = async { Process::start(options.arguments()).await.map(Host::Process) };
    found::start("Redis", &REFUSED, container, process).await
}
