//! What the lab asks of a worker process that holds locks, and what it answers.

use serde::{Deserialize, Serialize};

use crate::lab::latency::Latency;
use crate::lab::tally::Tally;

/// An order. The answer's type stands beside it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// [`Work`]
    Contend(Contend),
    /// `()`: begins the same, with leases that end soon, and however long the servers are away.
    Soak(Contend),
    /// [`Work`]: ends it.
    Rest,
    /// [`Acquired`]
    Acquire(Acquire),
    /// [`Entry`](crate::lab::register::Entry): enters the resource with the lease that is held, or was, unchecked.
    Enter,
    /// [`Entry`](crate::lab::register::Entry): changes the resource so.
    Write,
    /// [`Notice`]: waits a second at the most until the lease is known to be lost.
    Notice,
    /// `()`: gives the lease back.
    Release,
    /// `()`: tasks begin to wait for a lock, and go on until the next order. `apart`: by a connection each.
    Wait { name: String, tasks: u32, apart: bool },
    /// `()`: gives up waiting, and gives back what is held.
    Close,
}

/// Many tasks that take a lock in turn, for a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contend {
    pub name: String,
    pub tasks: u32,
    /// How many of the tasks are readers.
    pub readers: u32,
    pub millis: u64,
    /// Whether each holder enters and leaves the resource.
    pub guarded: bool,
    /// How long a holder stays inside.
    pub stay_ms: u64,
    /// How often in a row it may go from task to task in memory, with short delays for the other processes; else as by
    /// default.
    pub handovers: Option<u32>,
    /// A fault: writers lock something else than readers.
    pub apart: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Work {
    pub grants: u64,
    /// Grants to the same owner as the one before: no server was asked.
    pub handed_over: u64,
    /// Grants with a token that was not above the one before in this process.
    pub tokens_back: u64,
    pub entered: u64,
    pub readers_entered: u64,
    pub waits: Latency,
    /// Grants over time.
    pub tally: Tally,
    /// The longest wait, those that were not over at the end included.
    pub longest_ns: u64,
    pub errors: Vec<String>,
}

impl Work {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.grants += other.grants;
        self.handed_over += other.handed_over;
        self.tokens_back += other.tokens_back;
        self.entered += other.entered;
        self.readers_entered += other.readers_entered;
        self.waits.add(&other.waits);
        self.tally.add(&other.tally);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.errors.extend(other.errors);
    }

    /// All together.
    pub fn sum(all: Vec<Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, work| {
            sum.add(work);
            sum
        })
    }
}

/// One task that takes a lock and keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Acquire {
    pub name: String,
    pub ttl_ms: u64,
    /// Zero: asks once.
    pub wait_ms: u64,
    /// A fault: after an error, asks anew as another owner.
    pub anew: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acquired {
    Token(u64),
    NotInTime,
}

/// Whether a holder knows that it lost its lease.
#[derive(Debug, Serialize, Deserialize)]
pub struct Notice {
    /// Whether it took itself for the holder at once, when it was asked.
    pub checked_held: bool,
    /// Why it is lost, if it is known.
    pub lost: Option<String>,
}
