//! What the lab asks of a worker process that is a member of a group, and what it answers.

use serde::{Deserialize, Serialize};

use crate::lab::latency::Latency;
use crate::lab::tally::Tally;

/// An order. The answer's type stands beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `()`: begins to be a member.
    Join(Join),
    /// [`Standing`]
    Stand,
    /// `()`: handlers may begin. The first so many records are left out of the measurement.
    Go { skip: u64 },
    /// [`Left`]: leaves in an orderly way.
    Leave,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Join {
    /// Its name in the history.
    pub who: String,
    pub topic: String,
    pub group: String,
    pub dead_letters: Option<String>,
    /// How long a handler takes.
    pub work_ms: u64,
    /// Whether it waits for [`Order::Go`] before it handles anything.
    pub gated: bool,
    /// Whether it writes down what it does.
    pub recorded: bool,
    pub session_ms: u64,
    /// A fault: it takes poison records for done.
    pub swallow: bool,
    /// kafka-mt-consumer, and how.
    pub lanes: Option<Lanes>,
    /// Not kafka-group, but a consumer of our own with a fault.
    pub fault: Option<Fault>,
}

/// How a member with many workers goes about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lanes {
    pub order: LaneOrder,
    /// Bytes of its commits' metadata.
    pub metadata: usize,
    /// The key whose records it never gets done.
    pub hangs_at: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneOrder {
    Key,
    Partition,
    Unordered,
}

/// A guard that a consumer lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It commits what was fetched.
    CommitFirst,
    /// It goes on with what it has when its partition is taken away.
    GoOn,
    /// It works on all that it has at once.
    AllAtOnce,
    /// It now and then commits an older offset.
    CommitBack,
    /// It begins before the commit.
    StartEarlier,
    /// It leaves without a commit.
    NoLastCommit,
}

/// Where a member stands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    pub partitions: usize,
    /// It says of itself that it is a member without a partition.
    pub idle: bool,
    /// Records that were handled.
    pub handled: u64,
}

/// What it did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Left {
    /// How long records took from being produced to being handled.
    pub times: Latency,
    /// Records over time.
    pub tally: Tally,
    /// Those that were measured, and when the first and the last of them were handled.
    pub measured: u64,
    pub first: u64,
    pub last: u64,
}
