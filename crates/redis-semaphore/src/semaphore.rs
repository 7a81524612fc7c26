//! The front door: semaphores by name, on one Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis_lua::redis::{Value, from_redis_value};
use redis_lua::{Client, Name};
use turnstile_core::{AcquireError, FencingToken, Lease, LeaseManager, LeaseOptions, Lock, ManagedLock, Resource};

use crate::SemaphoreError;
use crate::backend::{LOOK, REVIEW, SET_LIMIT, SemaphoreBackend, checked};
use crate::resource::{Form, SemaphoreResource};
use crate::wakes::Wakes;

/// Makes semaphores on one Redis. Make one for a process and server, and clone it: its permits are renewed together,
/// and its waiters share one connection for their wake-ups.
#[derive(Clone)]
pub struct Semaphores {
    manager: LeaseManager<SemaphoreBackend>,
    options: Arc<LeaseOptions>,
}

impl Semaphores {
    /// Semaphores on the server of `client`; holders are labelled by host name and process id.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
        Self::labelled(client, format!("{}:{}", host.as_deref().unwrap_or("unknown"), std::process::id()))
    }

    /// The same with a label of your own, which [`Semaphore::holders`] shows. Control characters become spaces.
    #[must_use]
    pub fn labelled(client: Client, label: impl Into<String>) -> Self {
        let label = label.into().replace(char::is_control, " ");
        let backend = SemaphoreBackend { wakes: Wakes::new(client.clone()), client, label };
        Self { manager: LeaseManager::new(backend), options: Arc::default() }
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

    /// The manager of the permits: to shut it down.
    #[must_use]
    pub fn manager(&self) -> &LeaseManager<SemaphoreBackend> {
        &self.manager
    }

    fn semaphore(&self, name: &str, limit: u32, form: Form) -> Result<Semaphore, SemaphoreError> {
        let name = Name::new(name)?;
        if limit == 0 {
            return Err(SemaphoreError::NoLimit);
        }
        let lock = self.manager.lock(SemaphoreResource::new(name, limit, form), self.options.clone());
        Ok(Semaphore { lock, options: self.options.clone() })
    }
}

/// A semaphore: a [`Lock`] that up to its limit hold at a time. Cheap to clone.
///
/// The [`Lock`] methods ask for its weight, by default one permit.
#[derive(Clone)]
pub struct Semaphore {
    lock: ManagedLock<SemaphoreBackend>,
    options: Arc<LeaseOptions>,
}

/// One holder of permits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The owner of the lease: 32 hexadecimal digits.
    pub owner: String,
    /// What the holder's process calls itself.
    pub label: String,
    /// How many permits it holds.
    pub weight: u32,
    /// The fencing token of the grant.
    pub token: FencingToken,
    /// How long it has held them, by the server's clock.
    pub held_for: Duration,
    /// How long until they end unless they are renewed.
    pub remaining: Duration,
}

/// One waiter in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiter {
    /// The owner of the lease to come: 32 hexadecimal digits.
    pub owner: String,
    /// What the waiter's process calls itself.
    pub label: String,
    /// How many permits it asks for.
    pub weight: u32,
    /// How long it has waited, by the server's clock.
    pub waited: Duration,
}

/// A semaphore as the server has it, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// The limit that the server keeps; `None` before the first use.
    pub limit: Option<u32>,
    /// Who holds permits; those that end first come first.
    pub holders: Vec<Holder>,
    /// Who waits, in order.
    pub queue: Vec<Waiter>,
}

/// What a review found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Review {
    /// What the counter said, permits included that had ended. By set, the same as `after`.
    pub before: i64,
    /// What is held.
    pub after: i64,
}

impl Semaphore {
    /// The same semaphore, each acquire asking for `weight` permits at once: all or none.
    ///
    /// # Errors
    /// When `weight` is zero, or above the limit.
    pub fn weighing(&self, weight: u32) -> Result<Self, SemaphoreError> {
        let limit = self.lock.resource().limit;
        match weight {
            0 => Err(SemaphoreError::NoWeight),
            _ if weight > limit => Err(SemaphoreError::TooHeavy { weight, limit }),
            _ => Ok(self.with(SemaphoreResource { weight, ..self.lock.resource().clone() })),
        }
    }

    /// The same semaphore without the queue: asks again with back-off, and may overtake those in the queue.
    #[must_use]
    pub fn unfair(&self) -> Self {
        self.with(self.lock.resource().clone().unfair())
    }

    /// The same semaphore with other options for its permits.
    #[must_use]
    pub fn with_options(mut self, options: impl Into<Arc<LeaseOptions>>) -> Self {
        self.options = options.into();
        self.lock = self.lock.with_options(self.options.clone());
        self
    }

    /// Waits for `weight` permits at once, as long as it takes.
    ///
    /// # Errors
    /// When `weight` is zero or above the limit, at once (see [`SemaphoreError::of`]); else as [`Lock::acquire`].
    ///
    /// # Cancelling
    /// As of [`Lock`]: nothing is held, and the place in the queue is given up.
    pub async fn acquire_many(&self, weight: u32) -> Result<Lease, AcquireError> {
        self.heavy(weight)?.acquire().await
    }

    /// Asks once for `weight` permits.
    ///
    /// # Errors
    /// As of [`acquire_many`](Self::acquire_many).
    ///
    /// # Cancelling
    /// As of [`Lock`].
    pub async fn try_acquire_many(&self, weight: u32) -> Result<Option<Lease>, AcquireError> {
        self.heavy(weight)?.try_acquire().await
    }

    /// Changes the limit on the server, and gives the semaphore with the new one.
    ///
    /// Lowered below what is held, nobody loses a permit, and nobody gets one until enough are back. Semaphores made
    /// with another limit are refused from then on, waiters too, with [`SemaphoreError::OtherLimit`]; permits that
    /// they hold stay, and stay renewed.
    ///
    /// # Errors
    /// When `limit` is zero or below this semaphore's weight, the name is used in the other form or by another version,
    /// or the server does not answer or refuses.
    ///
    /// # Cancelling
    /// Whether the limit was changed is unknown.
    pub async fn set_limit(&self, limit: u32) -> Result<Self, SemaphoreError> {
        let resource = SemaphoreResource { limit, ..self.lock.resource().clone() };
        if limit == 0 {
            return Err(SemaphoreError::NoLimit);
        } else if resource.weight > limit {
            return Err(SemaphoreError::TooHeavy { weight: resource.weight, limit });
        }
        let call = SET_LIMIT.keys(resource.keys()).arg(limit).arg(resource.form.as_str());
        checked(&resource, call.run(self.client()).await?)?;
        Ok(self.with(resource))
    }

    /// Drops permits that have ended, and sets the counter to what the others weigh. Grants do so by themselves.
    ///
    /// # Errors
    /// When the data is of another version, or the server does not answer or refuses.
    ///
    /// # Cancelling
    /// Whether it was done is unknown; it does no harm.
    pub async fn review(&self) -> Result<Review, SemaphoreError> {
        let resource = self.lock.resource();
        let reply = checked(resource, REVIEW.keys(resource.keys()).run(self.client()).await?)?;
        let number = |at: usize| reply.get(at).and_then(|value| from_redis_value::<i64>(value.clone()).ok());
        Ok(Review { before: number(1).unwrap_or_default(), after: number(2).unwrap_or_default() })
    }

    /// Limit, holders and queue at one moment. They may have changed when the answer arrives: to look at, not to
    /// decide by.
    ///
    /// # Errors
    /// When the data is of another version, or the server does not answer or refuses.
    pub async fn state(&self) -> Result<State, SemaphoreError> {
        let resource = self.lock.resource();
        let reply = checked(resource, LOOK.keys(resource.keys()).run(self.client()).await?)?;
        Ok(State::read(reply))
    }

    /// The limit that the server keeps; `None` before the first use.
    ///
    /// # Errors
    /// As of [`state`](Self::state).
    pub async fn limit(&self) -> Result<Option<u32>, SemaphoreError> {
        Ok(self.state().await?.limit)
    }

    /// How many permits are free; those at the head of the queue are about to take them.
    ///
    /// # Errors
    /// As of [`state`](Self::state).
    pub async fn available(&self) -> Result<u32, SemaphoreError> {
        let state = self.state().await?;
        let held = state.holders.iter().fold(0u32, |sum, holder| sum.saturating_add(holder.weight));
        Ok(state.limit.unwrap_or(self.lock.resource().limit).saturating_sub(held))
    }

    /// Who holds permits.
    ///
    /// # Errors
    /// As of [`state`](Self::state).
    pub async fn holders(&self) -> Result<Vec<Holder>, SemaphoreError> {
        Ok(self.state().await?.holders)
    }

    /// Who waits, in order. Unfair waiters are not among them.
    ///
    /// # Errors
    /// As of [`state`](Self::state).
    pub async fn queue(&self) -> Result<Vec<Waiter>, SemaphoreError> {
        Ok(self.state().await?.queue)
    }

    /// What its permits are on.
    #[must_use]
    pub fn resource(&self) -> &SemaphoreResource {
        self.lock.resource()
    }

    fn with(&self, resource: SemaphoreResource) -> Self {
        Self { lock: self.lock.manager().lock(resource, self.options.clone()), options: self.options.clone() }
    }

    fn heavy(&self, weight: u32) -> Result<Self, AcquireError> {
        let name = || self.lock.resource().name().clone();
        self.weighing(weight).map_err(|error| AcquireError::Backend { name: name(), source: error.into() })
    }

    fn client(&self) -> &Client {
        &self.lock.manager().backend().client
    }
}

#[async_trait]
impl Lock for Semaphore {
    fn name(&self) -> &str {
        self.lock.name()
    }

    async fn try_acquire(&self) -> Result<Option<Lease>, AcquireError> {
        self.lock.try_acquire().await
    }

    async fn acquire(&self) -> Result<Lease, AcquireError> {
        self.lock.acquire().await
    }

    async fn acquire_timeout(&self, limit: Duration) -> Result<Lease, AcquireError> {
        self.lock.acquire_timeout(limit).await
    }
}

impl State {
    /// A reply of `look.lua`.
    fn read(reply: Vec<Value>) -> Self {
        let mut parts = reply.into_iter().skip(1).map(|value| from_redis_value::<String>(value).unwrap_or_default());
        let mut text = || parts.next().unwrap_or_default();
        let number = |text: &str| text.parse::<f64>().unwrap_or_default();
        let span = |millis: f64| Duration::from_millis(millis.max(0.0) as u64);
        let (now, limit) = (number(&text()), text().parse().ok().filter(|&limit| limit > 0));
        let (holders, waiters) = (number(&text()) as usize, number(&text()) as usize);
        let holders = (0..holders).map(|_| {
            let (owner, end, details) = (text(), text(), text());
            let mut words = details.splitn(4, ' ');
            let mut word = || words.next().unwrap_or_default();
            Holder {
                owner,
                weight: word().parse().unwrap_or(1),
                token: FencingToken::new(word().parse().unwrap_or_default()),
                held_for: span(now - number(word())),
                label: word().to_owned(),
                remaining: span(number(&end) - now),
            }
        });
        let holders = holders.collect();
        let queue = (0..waiters).map(|_| {
            let (owner, details) = (text(), text());
            let mut words = details.splitn(5, ' ').skip(1);
            let mut word = || words.next().unwrap_or_default();
            let (weight, since) = (word().parse().unwrap_or(1), number(word()));
            Waiter { owner, weight, waited: span(now - since), label: words.nth(1).unwrap_or_default().to_owned() }
        });
        let queue = queue.collect();
        Self { limit, holders, queue }
    }
}
