//! What a lease of this crate is on: one name.

use std::sync::Arc;

use redis_lua::{Awaited, Channel, Key, Name};
use turnstile_core::Resource;

/// What a [`FairLock`](crate::FairLock) is on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FairResource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Name,
    title: Arc<str>,
    events: Channel,
}

impl FairResource {
    pub(crate) fn new(name: Name, events: Channel) -> Self {
        let title = name.as_str().into();
        Self(Arc::new(Inner { name, title, events }))
    }

    /// The name.
    #[must_use]
    pub fn lock_name(&self) -> &Name {
        &self.0.name
    }

    /// The channel on which those who watch the lock are told.
    pub(crate) fn events(&self) -> &Channel {
        &self.0.events
    }

    /// All keys, as the scripts take them.
    pub(crate) fn keys(&self) -> [Key<'_>; 6] {
        let name = &self.0.name;
        let [fence, queue, alive, waiting, holder] =
            ["fence", "queue", "alive", "waiting", "holder"].map(|suffix| name.key(suffix));
        [name.into(), fence, queue, alive, waiting, holder]
    }

    /// The keys that are renewed.
    pub(crate) fn held_keys(&self) -> [Key<'_>; 2] {
        [(&self.0.name).into(), self.0.name.key("holder")]
    }
}

impl Awaited for FairResource {
    fn name(&self) -> &Name {
        self.lock_name()
    }

    fn keys(&self) -> impl ExactSizeIterator<Item = Key<'_>> {
        FairResource::keys(self).into_iter()
    }

    fn argument(&self) -> &str {
        self.events().as_str()
    }
}

impl Resource for FairResource {
    fn name(&self) -> &Arc<str> {
        &self.0.title
    }

    /// The server keeps the order of all waiters, those of one process too.
    fn has_local_queue(&self) -> bool {
        false
    }
}
