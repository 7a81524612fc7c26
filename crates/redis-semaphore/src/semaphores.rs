//! The front door: semaphores by name, on one Redis.

use std::sync::Arc;
use std::time::Duration;

use redis_lua::{Client, Name, process_label};
use turnstile_core::{LeaseManager, LeaseOptions};

use crate::SemaphoreError;
use crate::backend::SemaphoreBackend;
use crate::resource::{Form, SemaphoreResource};
use crate::semaphore::Semaphore;
use crate::state::{State, look};

/// Makes semaphores on one Redis. Make one for a process and server, and clone it: its waiters share one connection for
/// their wake-ups and one call a second for their signs of life, and its permits are renewed together.
#[derive(Clone)]
pub struct Semaphores {
    manager: LeaseManager<SemaphoreBackend>,
    options: Arc<LeaseOptions>,
}

impl Semaphores {
    /// Semaphores on the servers of `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::builder(client).build()
    }

    /// The same with choices.
    pub fn builder(client: Client) -> SemaphoresBuilder {
        SemaphoresBuilder { client, label: None, heartbeat: Duration::from_secs(1) }
    }

    /// The semaphore of this name, counted by its permits: each grant adds them up, so nothing can drift. It sends
    /// nothing yet.
    ///
    /// # Errors
    /// When `name` is not one, or `limit` is zero.
    pub fn by_set(&self, name: impl AsRef<str>, limit: u32) -> Result<Semaphore, SemaphoreError> {
        self.semaphore(name.as_ref(), limit, Form::Set)
    }

    /// The semaphore of this name, counted by a counter: a grant takes the same time at any limit, and once a second
    /// the counter is reviewed against the permits. It sends nothing yet.
    ///
    /// # Errors
    /// When `name` is not one, or `limit` is zero.
    pub fn by_counter(&self, name: impl AsRef<str>, limit: u32) -> Result<Semaphore, SemaphoreError> {
        self.semaphore(name.as_ref(), limit, Form::Counter)
    }

    /// The semaphore of this name as the server has it, whatever its limit and form.
    ///
    /// # Errors
    /// When `name` is not one, its data is of another version, or the server does not answer or refuses.
    pub async fn state(&self, name: impl AsRef<str>) -> Result<State, SemaphoreError> {
        let resource = SemaphoreResource::new(Name::new(name)?, 1, Form::Set);
        look(&self.manager.backend().client, &resource).await
    }

    /// The manager of the permits: to shut it down.
    #[must_use]
    pub fn manager(&self) -> &LeaseManager<SemaphoreBackend> {
        &self.manager
    }

    fn semaphore(&self, name: &str, limit: u32, form: Form) -> Result<Semaphore, SemaphoreError> {
        let resource = SemaphoreResource::checked(name, limit, form)?;
        let lock = self.manager.lock(resource, self.options.clone());
        Ok(Semaphore::new(lock, self.options.clone()))
    }
}

/// Choices for [`Semaphores`].
#[derive(Debug)]
#[must_use = "builder does nothing itself, use .build()"]
pub struct SemaphoresBuilder {
    client: Client,
    label: Option<String>,
    heartbeat: Duration,
}

impl SemaphoresBuilder {
    /// What [`Semaphore::holders`] and [`Semaphore::queue`] tell others of this process: by default its host name and
    /// process id. Control characters become spaces.
    pub fn holder(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().replace(char::is_control, " "));
        self
    }

    /// How often waiters show that they are there, and check that no message was missed: each second by default, at least
    /// each 50 ms and at most each hour.
    ///
    /// One without a sign of life for three times that loses its place; one that was given a permit by who released it has
    /// two times that to take it.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every.clamp(Duration::from_millis(50), Duration::from_secs(3600));
        self
    }

    /// Ready.
    #[must_use]
    pub fn build(self) -> Semaphores {
        let label = self.label.unwrap_or_else(process_label);
        let backend = SemaphoreBackend::new(self.client, label, self.heartbeat);
        Semaphores { manager: LeaseManager::new(backend), options: Arc::default() }
    }
}
