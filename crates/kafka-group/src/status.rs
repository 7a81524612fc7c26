//! What a member is doing: its partitions, how far each is, and what keeps one from going on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_offsets::Epoch;

use crate::slot::Amount;

/// Where a member stands. Told anew with each rebalance, each stall and each second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether it is a member.
    pub membership: Membership,
    /// Its partitions, by topic and number.
    pub partitions: Vec<PartitionStatus>,
    /// The last thing that the client complained of, while it lasts: brokers that do not answer, for example.
    pub trouble: Option<Arc<str>>,
}

/// Whether this is a member of its group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Membership {
    /// Not yet, or not just now: it is finding the group, or the group is giving out its partitions anew.
    #[default]
    Joining,
    /// It is, and has partitions.
    Working,
    /// It is, and there is no partition for it: there are more members than partitions. It takes over when one comes
    /// free.
    Idle,
    /// It is leaving.
    Leaving,
}

/// Where one partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Which assignment it is; see [`Record::epoch`](crate::Record::epoch).
    pub epoch: Epoch,
    /// The lowest offset that is not done.
    pub commit_point: i64,
    /// What the group has committed, if anything.
    pub committed: Option<i64>,
    /// What was fetched and is not done.
    pub in_hand: Amount,
    /// How many offsets lie between the commit point and the end of the partition, once that is known.
    pub lag: Option<i64>,
    /// Whether fetching rests until less is in hand.
    pub paused: bool,
    /// Why nothing has been done for longer than the limit, if so.
    pub stall: Option<Stall>,
}

/// A partition that has something to do and makes no progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// For how long.
    pub since: Duration,
    /// Why.
    pub reason: StallReason,
}

/// Why a partition makes no progress.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StallReason {
    /// A handler is still at this offset.
    Handler {
        /// The record's offset.
        offset: i64,
    },
    /// One lane of many holds up the commit point: others go on, and what they do stands in the commits' metadata.
    Lane {
        /// The key of its records; `None` for records without one.
        key: Option<Key>,
        /// The offset of the record that it is at.
        offset: i64,
        /// How many records wait behind that.
        behind: usize,
        /// What keeps it from being done, if the handler is not at it.
        trouble: Option<Trouble>,
    },
    /// What the worker says.
    Trouble(Trouble),
    /// Records are there and none arrives: the brokers do not answer, or the partition has no leader.
    NothingFetched,
}

impl fmt::Display for StallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler { offset } => write!(f, "the handler is still at offset {offset}"),
            Self::Lane { key, offset, behind, trouble } => {
                match key {
                    Some(key) => write!(f, "the key {key}")?,
                    None => f.write_str("what has no key")?,
                }
                write!(f, " stands at offset {offset}, {behind} records behind it")?;
                trouble.as_ref().map_or(Ok(()), |trouble| write!(f, ": {trouble}"))
            }
            Self::Trouble(trouble) => trouble.fmt(f),
            Self::NothingFetched => f.write_str("records are there, and the brokers deliver none"),
        }
    }
}

/// A record's key, or how it begins where it is long.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    beginning: Arc<[u8]>,
    length: usize,
}

/// What is kept of a key.
const BEGINNING: usize = 64;

impl Key {
    /// That key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self { beginning: key[..key.len().min(BEGINNING)].into(), length: key.len() }
    }

    /// All of it, or its first 64 bytes.
    #[must_use]
    pub fn beginning(&self) -> &[u8] {
        &self.beginning
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.beginning.escape_ascii())?;
        if self.length > BEGINNING { write!(f, "… ({} bytes)", self.length) } else { Ok(()) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What keeps a worker from going on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// It waits before the next attempt at a record.
    Retrying {
        /// The record's offset.
        offset: i64,
        /// How many attempts failed.
        failed: u32,
        /// The last error.
        error: Arc<str>,
    },
    /// The dead-letter topic does not take a record.
    DeadLetter {
        /// The record's offset.
        offset: i64,
        /// What the brokers said.
        error: Arc<str>,
    },
    /// It is done, and its transaction is not committed yet.
    Transaction {
        /// The record's offset.
        offset: i64,
        /// Why not.
        error: Arc<str>,
    },
    /// It stopped at a record, for someone to look. Restarting the member, or another's taking over, tries it again.
    Halted {
        /// The record's offset.
        offset: i64,
        /// Why.
        error: Arc<str>,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retrying { offset, failed, error } => {
                write!(f, "offset {offset} is to be tried again; {failed} attempts failed, the last with: {error}")
            }
            Self::DeadLetter { offset, error } => write!(f, "offset {offset} cannot be set aside: {error}"),
            Self::Transaction { offset, error } => write!(f, "offset {offset} is not committed: {error}"),
            Self::Halted { offset, error } => write!(f, "halted at offset {offset}: {error}"),
        }
    }
}
