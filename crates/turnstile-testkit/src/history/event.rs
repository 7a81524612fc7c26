//! What can happen to a message, and to those who work on messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, by [`now`](super::now), in nanoseconds.
    pub at: u64,
    /// Who wrote it down: the name of one process or of one part of it, such as a member.
    pub who: Arc<str>,
    /// What it was.
    pub what: What,
}

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

impl Place {
    /// A place.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32, offset: i64) -> Self {
        Self { topic: topic.into(), partition, offset }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A record was acknowledged by the broker.
    Produced {
        /// Where it is.
        place: Place,
        /// Its key, as text.
        key: Option<Arc<str>>,
    },
    /// A partition became this member's. May be left out: the first attempt of an epoch tells it too.
    Assigned {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Which of this member's assignments of this partition it is. Of no meaning to other members.
        epoch: u64,
    },
    /// A partition is no longer this member's: it was asked for it, or told afterwards. Never written down too early.
    GivenUp {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The assignment that ended.
        epoch: u64,
    },
    /// A member began an attempt at a record: the first thing that a handler writes.
    Started {
        /// Which record.
        place: Place,
        /// Its key, as text.
        key: Option<Arc<str>>,
        /// Under which assignment.
        epoch: u64,
        /// Which attempt, from 1 on.
        attempt: u32,
    },
    /// The attempt ended: the last thing that a handler writes.
    Ended {
        /// Which record.
        place: Place,
        /// Under which assignment.
        epoch: u64,
        /// Which attempt.
        attempt: u32,
        /// How.
        how: How,
    },
    /// A record was read from the dead-letter topic, whose origin is `place`.
    DeadLettered {
        /// Where it came from.
        place: Place,
    },
    /// An observer saw this as the group's committed offset: the next to be handled.
    Committed {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// The test did harm. Written before it is done, except [`Fault::Cont`] and [`Fault::Mended`]: before that ends.
    Fault {
        /// What.
        fault: Fault,
        /// To which member; `None` for all, such as a broker that was killed.
        whom: Option<Arc<str>>,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum How {
    /// The work was done, or it was found that there was none to do.
    Done,
    /// The work failed: there is another attempt, or the record is set aside.
    Failed,
    /// The handler left off, since the record was no longer its own, and its effect is undone.
    Abandoned,
}

/// What a test does to those who take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// A member was killed; it does not come back by this name.
    Kill,
    /// A member was suspended.
    Stop,
    /// A suspended member was continued.
    Cont,
    /// A member, or all, lost connection to the brokers, or a broker went away.
    Cut,
    /// What was cut is whole again.
    Mended,
}
