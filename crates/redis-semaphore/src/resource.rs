//! What a permit is on: a name, with the limit, form, weight and manners of the one who asks.

use std::sync::Arc;

use redis_lua::{Key, Name};
use turnstile_core::Resource;

/// How the server counts what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// By adding up the permits at each grant.
    Set,
    /// By a counter, reviewed against the permits.
    Counter,
}

impl Form {
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
    pub(crate) fair: bool,
}

impl SemaphoreResource {
    pub(crate) fn new(name: Name, limit: u32, form: Form) -> Self {
        let title: Arc<str> = name.as_str().into();
        Self { name, queue: title.clone(), title, limit, weight: 1, form, fair: true }
    }

    /// The same, asked for without a place in the server's queue; in this process, in a local queue of its own.
    pub(crate) fn unfair(mut self) -> Self {
        self.fair = false;
        self.queue = format!("{}\nunfair", self.title).into(); // unlike any name: those bear no line break
        self
    }

    pub(crate) fn keys(&self) -> [Key<'_>; 5] {
        let name = &self.name;
        [name.into(), name.key("permits"), name.key("holder"), name.key("queue"), name.key("waiting")]
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
