//! Where a server comes from: a container or a process, as the environment says.

use std::sync::OnceLock;

use anyhow::{Result, bail};

use crate::container::Failed;

/// What `TURNSTILE_SERVERS` allows.
pub(crate) fn wanted() -> Result<(bool, bool)> {
    match std::env::var("TURNSTILE_SERVERS").unwrap_or_default().as_str() {
        "" => Ok((true, true)),
        "containers" => Ok((true, false)),
        "processes" => Ok((false, true)),
        other => bail!("TURNSTILE_SERVERS is {other:?}; it may be `containers`, `processes` or unset"),
    }
}

/// Starts a server, `what`: in a container where a Docker engine gives one, else as a process, unless
/// `TURNSTILE_SERVERS` asks for one of the two. `refused` keeps why containers are not tried again in this process.
pub(crate) async fn start<T>(
    what: &str,
    refused: &OnceLock<String>,
    container: impl Future<Output = Result<T, Failed>>,
    process: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (containers, processes) = wanted()?;
    if containers && refused.get().is_none() {
        match container.await {
            Ok(server) => return Ok(server),
            Err(Failed::Server(error)) => return Err(error),
            Err(Failed::Engine(error) | Failed::Container(error)) if !processes => {
                return Err(error.context("TURNSTILE_SERVERS=containers, and there is no container to be had"));
            }
            Err(Failed::Engine(error)) => _ = refused.set(format!("no Docker engine answers ({error:#})")),
            Err(Failed::Container(error)) => {
                // Said once, and aloud: somebody with an engine expects containers.
                if refused.set(format!("{error:#}")).is_ok() {
                    eprintln!("turnstile-testkit: using local processes of {what}, for {error:#}");
                }
            }
        }
    }
    process.await.map_err(|error| match refused.get() {
        Some(reason) => error.context(format!("no {what} for tests: {reason}")),
        None => error,
    })
}
