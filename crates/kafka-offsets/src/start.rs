//! Where to begin: an explicit choice, since each of them loses or repeats something, or stops.

use std::fmt;

/// Where to begin when the committed offset does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartAt {
    /// At the oldest record there is: nothing that is still there is missed, much may be repeated.
    Earliest,
    /// After the newest record: what is there already is never worked on.
    Latest,
    /// Nowhere: stop with an error, for a person to decide.
    Refuse,
}

/// Where to begin with a partition. There is no default: both have to be chosen.
///
/// Kafka's own `auto.offset.reset` is one setting for both cases, and by default skips everything (`latest`). They are
/// different: the first is every group's first day, the second means that records were deleted before
/// they were worked on, or that the log was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// The group has never committed for this partition: it is new, the partition is, or the commit has expired
    /// (`offsets.retention.minutes`).
    ///
    /// With [`StartAt::Latest`], what is produced to a partition that was added is missed until the group finds it.
    pub without_commit: StartAt,
    /// The committed offset is below the oldest record (retention has deleted what was not worked on yet) or
    /// beyond the end (the log was truncated, or the topic made anew).
    pub out_of_range: StartAt,
}

/// Where to begin, and why there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartFrom {
    /// The first offset to fetch.
    pub offset: i64,
    /// Why there.
    pub reason: Reason,
}

/// Why a partition begins where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It was committed.
    Committed,
    /// There was no commit.
    WithoutCommit,
    /// The commit was out of range.
    OutOfRange {
        /// What was committed.
        committed: i64,
    },
}

/// The choice was to refuse, and this is why it came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no commit.
    #[error(
        "the group has committed no offset for this partition: commit one (kafka-consumer-groups --reset-offsets), or \
         choose where to begin (Start::without_commit)"
    )]
    WithoutCommit,
    /// The commit is out of range.
    #[error(
        "the committed offset {committed} is outside of what is there ({low} up to {high}): records were deleted before \
         they were worked on, or the topic was made anew; commit another (kafka-consumer-groups --reset-offsets), or \
         choose where to go on (Start::out_of_range)"
    )]
    OutOfRange {
        /// What was committed.
        committed: i64,
        /// The oldest offset there is.
        low: i64,
        /// The offset after the newest.
        high: i64,
    },
}

impl Start {
    /// Decides where to begin: `low` is the partition's oldest offset, `high` the one after its newest.
    ///
    /// # Errors
    ///
    /// [`Refused`] where [`StartAt::Refuse`] was chosen for what is the case.
    pub fn decide(&self, committed: Option<i64>, low: i64, high: i64) -> Result<StartFrom, Refused> {
        let (at, reason, refused) = match committed {
            Some(offset) if (low..=high).contains(&offset) => {
                return Ok(StartFrom { offset, reason: Reason::Committed });
            }
            Some(committed) => {
                let refused = Refused::OutOfRange { committed, low, high };
                (self.out_of_range, Reason::OutOfRange { committed }, refused)
            }
            None => (self.without_commit, Reason::WithoutCommit, Refused::WithoutCommit),
        };
        match at {
            StartAt::Earliest => Ok(StartFrom { offset: low, reason }),
            StartAt::Latest => Ok(StartFrom { offset: high, reason }),
            StartAt::Refuse => Err(refused),
        }
    }
}

impl fmt::Display for StartAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
            Self::Refuse => "refuse",
        })
    }
}
