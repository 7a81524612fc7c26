//! Where a queue lives in Redis, and where a group's part of it.

use std::sync::Arc;

use redis_lua::{Channel, Client, Inbox, Invocation, Key, Name, Script};

use crate::error::ConfigError;

/// The group of a queue that has one sort of workers.
pub const DEFAULT_GROUP: &str = "workers";

/// A group of a queue: its name, its keys, its channel.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub queue: Name,
    pub name: Arc<str>,
    pub channel: Channel,
    suffixes: Arc<[String; 6]>,
}

impl Group {
    pub fn new(queue: &Name, name: &str, client: &Client) -> Result<Self, ConfigError> {
        if name.is_empty() || name.len() > 256 || name.chars().any(|c| c.is_control() || ":{}".contains(c)) {
            return Err(ConfigError::Group { group: name.into() });
        }
        let suffixes = ["alive", "due", "lanes", "dead", "meta", "left"].map(|part| format!("{name}:{part}"));
        let channel = channel(queue, client);
        Ok(Self { queue: queue.clone(), name: name.into(), channel, suffixes: Arc::new(suffixes) })
    }

    /// The dead letters' key.
    pub fn dead(&self) -> Key<'_> {
        self.queue.key(&self.suffixes[3])
    }

    /// All keys, as `common.lua` wants them.
    pub fn keys(&self) -> [Key<'_>; 8] {
        let [alive, due, lanes, dead, meta, left] = &*self.suffixes;
        [
            (&self.queue).into(),
            self.queue.key(alive),
            self.queue.key(due),
            self.queue.key(lanes),
            self.queue.key(dead),
            self.queue.key(meta),
            self.queue.key(DELAYED),
            self.queue.key(left),
        ]
    }

    /// A call of a script that begins with `common.lua`, with further keys.
    pub fn call<'s>(
        &self,
        script: &'s Script,
        consumer: &str,
        order: &str,
        more: impl Iterator<Item = String>,
    ) -> Invocation<'s> {
        let more: Vec<String> = more.collect();
        let keys: Vec<Key<'_>> = self.keys().into_iter().chain(more.iter().map(|key| Key::raw(key))).collect();
        script.keys(keys).arg(&*self.name).arg(consumer).arg(order).arg(publish(&self.channel)).arg(&self.channel)
    }
}

pub(crate) const DELAYED: &str = "delayed";
pub(crate) const SEEN: &str = "seen";
/// The suffix of the channel on which workers are told to look.
pub(crate) const LOOK: &str = "look";

/// Where workers of any group hear that there is something to look for.
pub(crate) fn channel(queue: &Name, client: &Client) -> Channel {
    Inbox::new(client.clone()).beside(queue, LOOK)
}

pub(crate) fn publish(channel: &Channel) -> &'static str {
    if channel.is_sharded() { "SPUBLISH" } else { "PUBLISH" }
}
