//! What a member process of the Kafka tests is told to do: `member ROLE`, in JSON.
//!
//! It says on standard output what happens to it, ends in an orderly way when it reads `end`, and writes what it does to
//! a history. A record's value may say how long it takes (`300` milliseconds), or that it never works (`poison`).

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::kafka_scene::{Process, Scene};

/// What one member process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Role {
    /// Its name in the history.
    pub name: String,
    /// Where the history is.
    pub history: PathBuf,
    /// The brokers.
    pub brokers: String,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The topic for dead letters.
    pub dead_letters: Option<String>,
    /// Which consumer it is.
    pub kind: Kind,
    /// Which protocol it speaks.
    pub protocol: Protocol,
    /// How long a record takes whose value does not say.
    pub work: Duration,
    /// When its session ends without heartbeats.
    pub session: Duration,
    /// The longest poll interval.
    pub max_poll: Duration,
    /// How often it commits; `None` for only when it must.
    pub commits: Option<Duration>,
    /// Whether its handler leaves off when it is told to.
    pub heeds: bool,
    /// How often a record is tried; then it is a dead letter, or the partition halts.
    pub attempts: u32,
    /// Further options of librdkafka.
    pub options: Vec<(String, String)>,
}

/// Which consumer a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// kafka-group's.
    Ours,
    /// kafka-mt-consumer's.
    Parallel(Parallel),
    /// One that was made by hand.
    Naive(Naive),
}

/// How kafka-mt-consumer is set up; what is off is a guard that tests show to matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parallel {
    /// How many records at a time.
    pub concurrency: usize,
    /// Whether those of a key are in order.
    pub by_key: bool,
    /// How many bytes of metadata its commits have.
    pub metadata: usize,
    /// How many records of a partition may be in hand.
    pub budget: u64,
}

impl Default for Parallel {
    fn default() -> Self {
        Self { concurrency: 200, by_key: true, metadata: 4096, budget: 1000 }
    }
}

/// How members agree on who has which partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Classic, cooperative-sticky.
    Cooperative,
    /// Classic, range.
    Eager,
    /// KIP-848.
    Consumer,
}

/// A consumer without guards, as one may be written in an hour: what it gets wrong is what the others are tested for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Naive {
    /// What it commits.
    pub commits: Commits,
    /// How many threads work on records, given to them in turn; with none, the thread that polls does.
    pub workers: usize,
    /// Whether it ends at the first error that the client reports.
    pub dies_of_errors: bool,
    /// Whether it begins each assignment with the first record, whatever was committed.
    pub from_the_beginning: bool,
}

/// What a naive consumer commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Commits {
    /// librdkafka does, in its default way.
    Auto,
    /// What was done, by its own books, which nothing but work changes: no rebalance does.
    Done,
    /// Nothing.
    Nothing,
}

impl Naive {
    /// One with a worker of its own that commits as said.
    #[must_use]
    pub const fn with(commits: Commits) -> Self {
        Self { commits, workers: 1, dies_of_errors: false, from_the_beginning: false }
    }
}
