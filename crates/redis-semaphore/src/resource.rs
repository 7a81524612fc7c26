//! What a permit is on: a name, with the limit, form, weight and manners of the one who asks.

use std::sync::Arc;

use redis_lua::{Awaited, Key, Name};
use turnstile_core::Resource;

use crate::SemaphoreError;

/// How the server counts what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// By adding up the permits at each grant.
    Set,
    /// By a counter, reviewed against the permits.
    Counter,
}

impl Form {
    pub(crate) fn of(text: &str) -> Option<Self> {
        [Self::Set, Self::Counter].into_iter().find(|form| form.as_str() == text)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Counter => "counter",
        }
    }
}

/// What a [`Semaphore`](crate::Semaphore)'s permits are on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SemaphoreResource {
    pub(crate) name: Name,
    pub(crate) title: Arc<str>,
    pub(crate) queue: Arc<str>,
    pub(crate) limit: u32,
    pub(crate) weight: u32,
    pub(crate) form: Form,
    pub(crate) any_limit: bool,
    /// Whether servers keep the limit only while a permit is held.
    pub(crate) passing_limit: bool,
    pub(crate) fair: bool,
}

impl SemaphoreResource {
    pub(crate) fn new(name: Name, limit: u32, form: Form) -> Self {
        let title: Arc<str> = name.as_str().into();
        Self {
            name,
            queue: title.clone(),
            title,
            limit,
            weight: 1,
            form,
            any_limit: false,
            passing_limit: false,
            fair: true,
        }
    }

    /// The same of what somebody says.
    pub(crate) fn checked(name: &str, limit: u32, form: Form) -> Result<Self, SemaphoreError> {
        let name = Name::new(name)?;
        if limit == 0 {
            return Err(SemaphoreError::NoLimit);
        }
        Ok(Self::new(name, limit, form))
    }

    /// The same, asked for without a place in the server's queue; in this process, in a local queue of its own.
    pub(crate) fn unfair(mut self) -> Self {
        self.fair = false;
        self.queue = format!("{}\nunfair", self.title).into(); // unlike any name: those bear no line break
        self
    }

    /// All keys, as the scripts take them.
    pub(crate) fn keys(&self) -> [Key<'_>; 6] {
        keys_of(&self.name)
    }

    /// The keys that are renewed.
    pub(crate) fn held_keys(&self) -> [Key<'_>; 2] {
        [self.name.key("permits"), self.name.key("holders")]
    }
}

/// All keys of a name, as the scripts take them.
pub(crate) fn keys_of(name: &Name) -> [Key<'_>; 6] {
    let [permits, holders, queue, alive, waiters] =
        ["permits", "holders", "queue", "alive", "waiters"].map(|suffix| name.key(suffix));
    [name.into(), permits, holders, queue, alive, waiters]
}

impl Awaited for SemaphoreResource {
    fn name(&self) -> &Name {
        &self.name
    }

    fn keys(&self) -> impl ExactSizeIterator<Item = Key<'_>> {
        keys_of(&self.name).into_iter()
    }

    fn argument(&self) -> &str {
        "-"
    }
}

impl Resource for SemaphoreResource {
    fn name(&self) -> &Arc<str> {
        &self.title
    }

    fn queue(&self) -> &Arc<str> {
        &self.queue
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn has_local_queue(&self) -> bool {
        !self.fair
    }
}
