//! What the lab asks of a worker process that writes to a topic, or changes it, and what it answers.

use serde::{Deserialize, Serialize};

/// An order. The answer's type stands beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `()`: begins to write rounds of one record a key. A stranger goes by the partitions that the topic has now, and is not
    /// entered among the writers.
    Write { topic: String, name: String, keys: u32, stranger: bool },
    /// [`Standing`]
    Stand,
    /// [`Standing`]: ends to write.
    End,
    /// `()`: begins to move the topic, and stands still when its old layout is closed.
    Move { topic: String, into: String, partitions: i32 },
    /// `()`: once it stands still.
    Still,
}

/// Where a writer stands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// How many rounds are committed.
    pub rounds: u64,
    /// The layout of the last one.
    pub epoch: u64,
}
