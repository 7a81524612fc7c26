//! The testkit's own runtime, on its own thread.
//!
//! Servers are shared between tests, each of which has its own runtime, perhaps with a paused clock: what the testkit
//! does must not end with one test, nor take part in its clock.

use std::future::Future;
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow};
use tokio::runtime::{Builder, Handle, Runtime};

/// The runtime on which proxies run and servers are started.
pub(crate) fn handle() -> Result<&'static Handle> {
    static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
        Builder::new_multi_thread().worker_threads(1).thread_name("turnstile-testkit").enable_all().build()
    });
    RUNTIME.as_ref().map(Runtime::handle).map_err(|error| anyhow!("cannot start the testkit's runtime: {error}"))
}

/// Runs `work` there to its end, also when the caller stops waiting.
pub(crate) async fn run<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    handle()?.spawn(work).await.context("the testkit's own task failed")?
}
