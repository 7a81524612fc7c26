//! Bad input: brokers, topics, rights, offsets, records and options that are not as they should be. Each ends in a typed
//! error or a report that says what to do, and nothing hangs.

mod access;
mod brokers;
mod config;
mod instances;
mod offsets;
mod raw;
mod records;
#[path = "../support/mod.rs"]
mod support;
mod topics;

use std::time::Duration;

use anyhow::{Result, anyhow};
use kafka_group::{GroupBuilder, Report, RunError};
use support::{Log, Running};

/// Far longer than anything here takes.
const SAFETY_NET: Duration = Duration::from_secs(60);

/// What it comes to; fails if it does not come to an end.
async fn within<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(SAFETY_NET, what).await.map_err(|_| anyhow!("it hangs"))?
}

/// Runs the member, which nobody ends; the error that ends it.
async fn failure(member: GroupBuilder) -> Result<RunError> {
    error_of(Running::start(member.handler(Log::default())?)).await
}

/// The error that ends the run.
async fn error_of(running: Running) -> Result<RunError> {
    match running.ended().await? {
        Ok(report) => Err(anyhow!("the run ended without an error: {report:?}")),
        Err(error) => Ok(error),
    }
}

/// Ends the run in an orderly way.
async fn end(running: Running) -> Result<Report> {
    within(running.end()).await
}

/// Checks that an error's text has all of these.
fn says(error: &impl std::fmt::Display, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}
