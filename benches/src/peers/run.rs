//! Programs that do the same work, each in so many processes, and rounds of it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use turnstile_testkit::child::Child;

use super::figures::{Reply, Round};
use super::serve::{Order, now};

/// From the order to the round's begin: by then all processes have read it.
const AHEAD: Duration = Duration::from_millis(50);
/// How much longer than it says a round may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A program that is one or several of the peers, in several processes.
pub struct Program {
    processes: Vec<Child>,
    /// What it has, and of which version.
    pub versions: BTreeMap<String, String>,
    /// What the first error says that a round met.
    pub error: Option<String>,
}

impl Program {
    /// Starts so many processes of it.
    ///
    /// # Errors
    /// When one does not start, or does not say that it is ready: "ready", and then a name and a version of each library.
    pub async fn start(processes: usize, command: impl Fn() -> Command) -> Result<Self> {
        let mut children = (0..processes).map(|_| Child::spawn(command())).collect::<Result<Vec<_>>>()?;
        let mut versions = BTreeMap::new();
        for child in &mut children {
            let ready = child.line_with("ready").await?;
            let mut words = ready.split_whitespace().skip(1).map(str::to_owned);
            while let Some((name, version)) = words.next().zip(words.next()) {
                versions.insert(name, version);
            }
        }
        Ok(Self { processes: children, versions, error: None })
    }

    /// One round by so many of its processes; how often there was an error.
    ///
    /// # Errors
    /// When a process ends, or hangs.
    pub async fn round(&mut self, processes: usize, order: &Order, length: Duration) -> Result<(Round, u64)> {
        ensure!(processes <= self.processes.len(), "there are only {} processes", self.processes.len());
        let begin = now()? + AHEAD.as_nanos() as u64;
        let end = begin + length.as_nanos() as u64;
        let order = Order { span: (begin, end, order.span.2), ..order.clone() };
        for child in &mut self.processes[..processes] {
            child.say(&order.line()).await?;
        }
        let limit = length + order.span.2 + LIMIT;
        let mut replies: Vec<Reply> = Vec::new();
        for child in &mut self.processes[..processes] {
            let reply = answer(child, limit).await.with_context(|| format!("{} in a round", order.kind))?;
            replies.push(reply);
        }
        let until = now()?;
        self.error = self.error.take().or_else(|| replies.iter().find_map(|reply| reply.error.clone()));
        Ok((Round::of(&replies, begin, end, until), replies.iter().map(|reply| reply.errors).sum()))
    }

    /// Says a line to the first process and waits for its answer.
    ///
    /// # Errors
    /// When it ends, hangs, or says something else.
    pub async fn ask<T: DeserializeOwned>(&mut self, line: &str, limit: Duration) -> Result<T> {
        let child = self.processes.first_mut().context("there is no process")?;
        child.say(line).await?;
        answer(child, limit + LIMIT).await
    }
}

async fn answer<T: DeserializeOwned>(child: &mut Child, limit: Duration) -> Result<T> {
    let line = timeout(limit, child.line()).await.context("it hangs")?;
    let line = line.context("it ended: see above")?;
    serde_json::from_str(&line).with_context(|| format!("it said {line:?}"))
}
