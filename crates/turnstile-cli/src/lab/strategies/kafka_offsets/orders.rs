//! What the lab asks of a worker process that keeps account of offsets, and what it answers.

use serde::{Deserialize, Serialize};

/// An order; the answer is [`Did`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Handles the whole topic but for each `open`th record, the first included; commits when it has come to `commit_at`.
    Begin { topic: String, group: String, open: i64, commit_at: i64, limit: usize },
    /// Goes on where the group has committed, to the end of the topic.
    Resume { topic: String, group: String, fault: Option<Fault> },
}

/// What a worker may get wrong about metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It does not read it.
    Blind,
    /// It takes what follows the last that it tells for done.
    TailIsDone,
    /// It does not mind what offset it was made for.
    AnyOffset,
}

/// What it did: offsets.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Did {
    /// Done, and told by the commit.
    pub told: Vec<i64>,
    /// Done since the commit, or without one.
    pub untold: Vec<i64>,
    /// How many bytes of metadata were written or found.
    pub metadata: usize,
    /// Why what was found was ignored.
    pub ignored: Option<String>,
}
