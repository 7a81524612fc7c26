//! Where a Redis comes from: an address in the environment, a container, a process.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use tokio::sync::OnceCell;

use super::Redis;
use super::container::{Container, Failed};
use super::process::Process;
use super::server::{Builder, Host, Server};

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

/// Starts a server for the builder: in a container where a Docker engine gives one, else as a process, unless
/// `TURNSTILE_SERVERS` asks for one of the two.
pub(crate) async fn start(options: &Builder) -> Result<Host> {
    /// Why containers are not tried again in this process.
    static NO_CONTAINERS: OnceLock<String> = OnceLock::new();

    let wanted = std::env::var("TURNSTILE_SERVERS").unwrap_or_default();
    let (containers, processes) = match wanted.as_str() {
        "" => (true, true),
        "containers" => (true, false),
        "processes" => (false, true),
        other => bail!("TURNSTILE_SERVERS is {other:?}; it may be `containers`, `processes` or unset"),
    };
    if containers && NO_CONTAINERS.get().is_none() {
        match Container::start(options.arguments()).await {
            Ok(container) => return Ok(Host::Container(Arc::new(container))),
            Err(Failed::Redis(error)) => return Err(error),
            Err(Failed::Engine(error) | Failed::Container(error)) if !processes => {
                return Err(error.context("TURNSTILE_SERVERS=containers, and there is no container to be had"));
            }
            Err(Failed::Engine(error)) => _ = NO_CONTAINERS.set(format!("no Docker engine answers ({error:#})")),
            Err(Failed::Container(error)) => {
                // Said once, and aloud: somebody with an engine expects containers.
                if NO_CONTAINERS.set(format!("{error:#}")).is_ok() {
                    eprintln!("turnstile-testkit: using local processes, for {error:#}");
                }
            }
        }
    }
    let process = Process::start(options.arguments()).await;
    process.map(Host::Process).map_err(|error| match NO_CONTAINERS.get() {
        Some(reason) => error.context(format!("no Redis for tests: {reason}")),
        None => error,
    })
}
