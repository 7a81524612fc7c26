//! What a lease of this crate is on: one name exclusively, one name shared, or several names at once.

use std::sync::Arc;

use redis_lua::{Key, Name};
use turnstile_core::Resource;

/// What a [`RedisLock`](crate::RedisLock) is on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LockResource(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    names: Names,
    title: Arc<str>,
    /// Unlike any name, where there are several of them: a name bears no line break.
    queue: Arc<str>,
    shared: bool,
}

#[derive(Debug)]
enum Names {
    One(Name),
    Several(Box<[Name]>),
}

impl LockResource {
    /// One name, for one holder at a time.
    #[must_use]
    pub fn exclusive(name: Name) -> Self {
        Self::one(name, false)
    }

    /// One name, for any number of readers.
    #[must_use]
    pub fn shared(name: Name) -> Self {
        Self::one(name, true)
    }

    fn one(name: Name, shared: bool) -> Self {
        let title: Arc<str> = name.as_str().into();
        Self(Arc::new(Inner { names: Names::One(name), queue: title.clone(), title, shared }))
    }

    /// Several names for one holder, in an order of their own, each once; `None` if there is no name.
    #[must_use]
    pub fn several(names: impl IntoIterator<Item = Name>) -> Option<Self> {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return None;
        }
        let joined = |by| names.iter().map(Name::as_str).collect::<Vec<_>>().join(by).into();
        let (title, queue) = (joined(", "), joined("\n"));
        Some(Self(Arc::new(Inner { names: Names::Several(names.into()), title, queue, shared: false })))
    }

    /// The names, in the order in which their keys are sent.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        match &self.0.names {
            Names::One(name) => std::slice::from_ref(name),
            Names::Several(names) => names,
        }
    }

    /// Whether others may share it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.shared
    }

    /// For each name its main key (`""`) and those with a suffix, as `suffixes` has them.
    pub(crate) fn keys<'a>(&'a self, suffixes: &'a [&'static str]) -> Vec<Key<'a>> {
        let key = |name: &'a Name, suffix: &'static str| if suffix.is_empty() { name.into() } else { name.key(suffix) };
        let mut keys = Vec::with_capacity(self.names().len() * suffixes.len());
        for name in self.names() {
            keys.extend(suffixes.iter().map(|suffix| key(name, suffix)));
        }
        keys
    }
}

impl Resource for LockResource {
    fn name(&self) -> &Arc<str> {
        &self.0.title
    }

    fn queue(&self) -> &Arc<str> {
        &self.0.queue
    }

    fn is_exclusive(&self) -> bool {
        !self.0.shared
    }
}
