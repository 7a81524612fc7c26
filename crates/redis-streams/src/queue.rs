//! A queue by its name: the way to producers, workers, dead letters and sizes.

use std::time::Duration;

use redis_lua::redis::cmd;
use redis_lua::{Client, Name, NameError};
use turnstile_core::Handler;

use crate::builder::WorkerBuilder;
use crate::dead_letters::DeadLetters;
use crate::error::{ConfigError, QueueError};
use crate::job::{Job, JobId, result_suffix};
use crate::keys::{DEFAULT_GROUP, Group};
use crate::producer::Producer;
use crate::scripts::{STATS, TRIM};
use crate::stats::Stats;
use crate::worker::Worker;

/// A queue: a stream at `{name}`, with what belongs to it beside. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    name: Name,
}

/// What may go, of what every group has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trim {
    /// All of it.
    Acknowledged,
    /// What is older than this by its id.
    OlderThan(Duration),
    /// As much as it takes to come down to this length.
    ToLength(u64),
}

/// What [`Queue::trim`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trimmed {
    /// How many jobs were removed.
    pub removed: u64,
    /// How many groups there are. With none nothing counts as acknowledged.
    pub groups: u64,
}

impl Queue {
    /// The queue of this name. It is made when it is first used.
    ///
    /// # Errors
    /// The name is none.
    pub fn new(client: Client, name: impl AsRef<str>) -> Result<Self, NameError> {
        Ok(Self { client, name: Name::new(name)? })
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// Who adds jobs.
    #[must_use]
    pub fn producer(&self) -> Producer {
        Producer::new(self.clone())
    }

    /// A worker of the group [`DEFAULT_GROUP`] with default settings.
    pub fn worker<H: Handler<Job>>(&self, handler: H) -> Worker<H> {
        self.worker_builder().defaults(handler)
    }

    /// Sets up a worker.
    pub fn worker_builder(&self) -> WorkerBuilder {
        WorkerBuilder::new(self.clone())
    }

    /// The dead letters of [`DEFAULT_GROUP`].
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.clone(), self.default_group())
    }

    /// The dead letters of a group.
    ///
    /// # Errors
    /// The group's name is none.
    pub fn dead_letters_of(&self, group: impl AsRef<str>) -> Result<DeadLetters, ConfigError> {
        Ok(DeadLetters::new(self.clone(), self.group(group.as_ref())?))
    }

    pub(crate) fn group(&self, name: &str) -> Result<Group, ConfigError> {
        Group::new(&self.name, name, &self.client)
    }

    pub(crate) fn default_group(&self) -> Group {
        self.group(DEFAULT_GROUP).unwrap_or_else(|_| unreachable!("the default is a name"))
    }

    /// What a handler left as the [result](crate::Effect::result) of a job; `None` if there is none, or none any more.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn result(&self, job: JobId) -> Result<Option<Vec<u8>>, redis_lua::Error> {
        self.client.run(cmd("GET").arg(self.name.key(&result_suffix(job)))).await
    }

    /// Removes jobs that every group has acknowledged, from the oldest on; never one that is pending or unread. Workers
    /// do so by themselves, for all that is acknowledged.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    ///
    /// # Cancelling
    /// What was asked for is done all the same.
    pub async fn trim(&self, what: Trim) -> Result<Trimmed, redis_lua::Error> {
        let (least, length) = match what {
            Trim::Acknowledged => ("-".to_owned(), -1),
            Trim::ToLength(length) => ("-".to_owned(), i64::try_from(length).unwrap_or(i64::MAX)),
            Trim::OlderThan(age) => {
                let (seconds, micros): (u64, u64) = self.client.run(&cmd("TIME")).await?;
                let now = Duration::from_secs(seconds) + Duration::from_micros(micros);
                (format!("{}-0", now.saturating_sub(age).as_millis()), -1)
            }
        };
        let call = TRIM.keys([&self.name]).arg(least).arg(length);
        let (removed, _, groups): (u64, i64, u64) = call.run(&self.client).await?;
        Ok(Trimmed { removed, groups })
    }

    /// How large the queue is, by part, and who works on it, for [`DEFAULT_GROUP`].
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn stats(&self) -> Result<Stats, redis_lua::Error> {
        self.ask(&self.default_group()).await
    }

    /// The same for a group.
    ///
    /// # Errors
    /// The group's name is none, or see [`redis_lua::Error`].
    pub async fn stats_of(&self, group: impl AsRef<str>) -> Result<Stats, QueueError> {
        Ok(self.ask(&self.group(group.as_ref())?).await?)
    }

    async fn ask(&self, group: &Group) -> Result<Stats, redis_lua::Error> {
        group.call(&STATS, "", "none", std::iter::empty()).run(&self.client).await
    }

    /// The groups that read this queue.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn groups(&self) -> Result<Vec<String>, redis_lua::Error> {
        let there: bool = self.client.run(cmd("EXISTS").arg(self.name.as_key())).await?;
        if !there {
            return Ok(Vec::new());
        }
        let groups: Vec<std::collections::HashMap<String, redis_lua::redis::Value>> =
            self.client.run(cmd("XINFO").arg("GROUPS").arg(self.name.as_key())).await?;
        let name = |mut group: std::collections::HashMap<_, _>| {
            group.remove("name").and_then(|name| redis_lua::redis::from_redis_value(name).ok())
        };
        Ok(groups.into_iter().filter_map(name).collect())
    }
}
