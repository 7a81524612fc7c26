//! A worker, and how it is set up.

use std::sync::Arc;
use std::time::Duration;

use redis_lua::Client;
use turnstile_core::{Handler, Report, RetryPolicy, Shutdown};

use crate::control;
use crate::error::RunError;
use crate::job::Job;
use crate::keys::Group;

/// In which order jobs are worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// Begun about in the order in which they were added, many at a time; one that is tried again comes later.
    #[default]
    None,
    /// Jobs with the same [key](crate::NewJob::key) one after another over all workers of the group, in the order in which
    /// they were added; one that is tried again holds up those behind it, of its key alone. Jobs without a key have no order.
    ByKey,
    /// All jobs one after another, one at a time over all workers of the group.
    Sequential,
}

impl Order {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ByKey => "key",
            Self::Sequential => "all",
        }
    }
}

/// Which jobs a group that is new begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Start {
    /// The oldest that is in the stream: nothing that was added before is lost.
    #[default]
    Oldest,
    /// The first that is added from now on.
    New,
}

/// What a worker needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub name: String,
    pub order: Order,
    pub start: Start,
    pub concurrency: usize,
    pub batch: usize,
    pub lanes: usize,
    pub alive: Duration,
    pub timeout: Option<Duration>,
    pub retries: RetryPolicy,
    pub trims: bool,
}

/// A worker, ready to run.
#[derive(Debug)]
#[must_use = "a worker does nothing until it runs"]
pub struct Worker<H> {
    pub(crate) client: Client,
    pub(crate) group: Group,
    pub(crate) settings: Settings,
    pub(crate) handler: H,
}

impl<H: Handler<Job>> Worker<H> {
    /// The name under which the group knows it: the start of its consumer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Works until `shutdown` begins or a handler says stop. Then nothing more is read; what handlers are at may finish
    /// within the limit, in the last fifth of which their tokens fire; the rest goes to other workers at once.
    ///
    /// An outage of Redis is waited for, however long; only at the start it is an error. While it lasts nothing new is
    /// begun once this worker counts as dead, and what handlers are at is dropped then, since others may have it.
    ///
    /// # Errors
    /// See [`RunError`].
    ///
    /// # Cancelling
    /// What handlers are at is dropped at their next `await`. Others take over what was in hand when this worker counts as
    /// dead: nothing is lost, but it takes longer than after a shutdown.
    pub async fn run(self, shutdown: Shutdown) -> Result<Report, RunError> {
        control::run(self.client, self.group, self.settings, Arc::new(self.handler), shutdown).await
    }
}
