//! Setting up a worker.

use std::num::NonZeroU32;
use std::time::Duration;

use turnstile_core::{AtLimit, Handler, RetryPolicy};

use crate::error::ConfigError;
use crate::job::Job;
use crate::keys::DEFAULT_GROUP;
use crate::queue::Queue;
use crate::worker::{Order, Settings, Start, Worker};

/// Sets up a worker.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing itself: give it a handler, and run the worker"]
pub struct WorkerBuilder {
    queue: Queue,
    group: String,
    settings: Settings,
}

impl WorkerBuilder {
    pub(crate) fn new(queue: Queue) -> Self {
        let settings = Settings {
            name: redis_lua::process_label(),
            order: Order::None,
            start: Start::Oldest,
            concurrency: 16,
            batch: 128,
            lanes: 10_000,
            alive: Duration::from_secs(30),
            timeout: None,
            retries: RetryPolicy::new(NonZeroU32::MIN.saturating_add(4), AtLimit::DeadLetter),
            trims: true,
        };
        Self { queue, group: DEFAULT_GROUP.into(), settings }
    }

    /// The group, each of which gets every job once. By default [`DEFAULT_GROUP`].
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// What the worker calls itself, for those who look. By default host name and process id. Names need not differ: each
    /// run adds something of its own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// How many jobs are worked on at a time. By default 16.
    pub const fn concurrency(mut self, jobs: usize) -> Self {
        self.settings.concurrency = jobs;
        self
    }

    /// The order that jobs are worked on in. All workers of a group keep the same. By default [`Order::None`].
    pub const fn order(mut self, order: Order) -> Self {
        self.settings.order = order;
        self
    }

    /// Which jobs a group that is new begins with. By default [`Start::Oldest`].
    pub const fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// How long this worker counts as alive after a sign of life; it gives one each third of that. A job of one that was
    /// killed is taken over within twice this time. By default 30 s, at least 100 ms.
    pub const fn alive_for(mut self, limit: Duration) -> Self {
        self.settings.alive = limit;
        self
    }

    /// How long an attempt may take; then its future is dropped at an `await`, and it has failed. By default as long as it
    /// takes.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.settings.timeout = Some(limit);
        self
    }

    /// How often a job is tried, and what happens at the limit. By default five times; then it is set aside.
    pub const fn retries(mut self, policy: RetryPolicy) -> Self {
        self.settings.retries = policy;
        self
    }

    /// At most how many jobs in one read. By default 128. What is read is begun at once, or within about 10 ms: quick jobs
    /// are read ahead by their measured rate, slow ones not at all.
    pub const fn batch(mut self, jobs: usize) -> Self {
        self.settings.batch = jobs;
        self
    }

    /// With an order: at most so many jobs of the group in lanes, working or waiting for one of the same key; beyond that
    /// nothing is read, whatever its key. By default 10,000.
    pub const fn lanes(mut self, jobs: usize) -> Self {
        self.settings.lanes = jobs;
        self
    }

    /// Leaves acknowledged jobs in the stream: for who wants to look at them, or trims it otherwise. It grows without end
    /// unless somebody does.
    pub const fn without_trimming(mut self) -> Self {
        self.settings.trims = false;
        self
    }

    /// A worker that gives each job to `handler`.
    ///
    /// # Errors
    /// When the settings contradict themselves.
    pub fn handler<H: Handler<Job>>(self, handler: H) -> Result<Worker<H>, ConfigError> {
        let settings = &self.settings;
        if settings.concurrency == 0 || settings.batch == 0 || settings.lanes == 0 {
            return Err(ConfigError::Invalid("a worker that has no job at a time, or reads none, does nothing"));
        }
        if settings.alive < Duration::from_millis(100) {
            return Err(ConfigError::Invalid(
                "a worker that counts as dead within 100 ms is taken for dead by mistake",
            ));
        }
        if settings.timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(ConfigError::Invalid("an attempt that may take no time fails before it begins"));
        }
        if settings.name.is_empty() || settings.name.len() > 256 || settings.name.chars().any(char::is_control) {
            return Err(ConfigError::Invalid("a worker's name is 1 to 256 bytes of printable text"));
        }
        self.queue.group(&self.group)?;
        Ok(self.build(handler))
    }

    /// The defaults contradict nothing.
    pub(crate) fn defaults<H: Handler<Job>>(self, handler: H) -> Worker<H> {
        self.build(handler)
    }

    fn build<H>(self, handler: H) -> Worker<H> {
        let group = self.queue.group(&self.group).unwrap_or_else(|_| self.queue.default_group());
        Worker { client: self.queue.client().clone(), group, settings: self.settings, handler }
    }
}
