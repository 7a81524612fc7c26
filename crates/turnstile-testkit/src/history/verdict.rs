//! What a history shows.

use std::fmt;
use std::sync::Arc;

use super::event::Fault;

/// What is asked of a consumer of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// Each acknowledged record was done by somebody, or is in the dead letters.
    NoLoss,
    /// Two members never work on one partition at a time. A member that was suspended or cut off before the other got the
    /// partition is excused for the assignment that it had: nobody can keep it from going on, and
    /// [`Verdict::zombie_overlaps`] counts it. What it does then must not reach the committed offset, and it must not
    /// do any more once it knows: the other rules see to that.
    OneMember,
    /// Two attempts in one lane never overlap, in one member.
    OneAttempt,
    /// An attempt begins only when all records before it in its lane are done or in the dead letters; and under one
    /// assignment a member never goes back in a lane.
    InOrder,
    /// Attempts under one assignment are counted from 1, each next one after a failed one; each end has a beginning.
    Counted,
    /// The committed offset never passes a record that is not done, nor one that its owner has still to do.
    CommitNotAhead,
    /// The committed offset never goes back.
    CommitNotBack,
    /// Nobody begins below the offset that was committed before its assignment.
    FromCommit,
    /// A record is repeated only after a fault of whoever had it, and after a kill no more records are than were in flight
    /// at the time: begun by the one that was killed, and not seen committed. So an orderly hand-over repeats nothing.
    Explained,
    /// No attempt that began after its member had given the partition up is done.
    NotAfterGivenUp,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NoLoss,
        Self::OneMember,
        Self::OneAttempt,
        Self::InOrder,
        Self::Counted,
        Self::CommitNotAhead,
        Self::CommitNotBack,
        Self::FromCommit,
        Self::Explained,
        Self::NotAfterGivenUp,
    ];
}

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Which.
    pub rule: Rule,
    /// When it was seen.
    pub at: u64,
    /// What it was.
    pub text: String,
}

/// What came of one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// The fault.
    pub fault: Fault,
    /// Whose; `None` for all.
    pub whom: Option<Arc<str>>,
    /// When; for a kill, when the member had written its last.
    pub at: u64,
    /// For a kill: how many records the member had begun that were not seen committed. For others 0.
    pub in_flight: u64,
    /// How many records were repeated because of it.
    pub duplicates: u64,
}

/// What a history shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// Records that were acknowledged.
    pub produced: u64,
    /// Attempts that were begun.
    pub attempts: u64,
    /// Records that were done by somebody.
    pub done: u64,
    /// Records in the dead letters, each counted once.
    pub dead_letters: u64,
    /// Copies of records in the dead letters beyond the first.
    pub dead_letter_copies: u64,
    /// Records that were begun again under another assignment although they had been done, or may have been: those that
    /// were begun and never ended.
    pub duplicates: u64,
    /// Records that were begun again under another assignment after an attempt that failed or was abandoned.
    pub redelivered: u64,
    /// Attempts of zombies beside those of the owner.
    pub zombie_overlaps: u64,
    /// Committed offsets that were seen.
    pub commits_seen: u64,
    /// Assignments of a partition to a member.
    pub assignments: u64,
    /// What was done to them, and what came of it.
    pub blames: Vec<Blame>,
    /// What was wrong, in the order in which it was seen.
    pub breaches: Vec<Breach>,
}

impl Verdict {
    /// How often a rule was broken.
    #[must_use]
    pub fn broken(&self, rule: Rule) -> usize {
        self.breaches.iter().filter(|breach| breach.rule == rule).count()
    }

    /// Whether the history shows that a rule held: a history in which nothing was done, or of whose commits nothing was
    /// seen, shows nothing of it.
    #[must_use]
    pub fn holds(&self, rule: Rule) -> bool {
        let needs_commits = matches!(rule, Rule::CommitNotAhead | Rule::CommitNotBack | Rule::FromCommit);
        self.done > 0 && (self.commits_seen > 0 || !needs_commits) && self.broken(rule) == 0
    }

    /// Whether all rules held.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        Rule::ALL.iter().all(|rule| self.holds(*rule))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} produced, {} done in {} attempts under {} assignments, {} dead letters (and {} copies), {} repeated, {} \
             redelivered, {} overlaps of zombies, {} commits seen",
            self.produced,
            self.done,
            self.attempts,
            self.assignments,
            self.dead_letters,
            self.dead_letter_copies,
            self.duplicates,
            self.redelivered,
            self.zombie_overlaps,
            self.commits_seen,
        )?;
        for Blame { fault, whom, at, in_flight, duplicates } in &self.blames {
            let whom = whom.as_deref().unwrap_or("all");
            writeln!(f, "{at} {fault:?} {whom}: {in_flight} in flight, {duplicates} repeated")?;
        }
        for rule in Rule::ALL.into_iter().filter(|rule| !self.holds(*rule)) {
            writeln!(f, "{rule:?}: broken {} times", self.broken(rule))?;
            for breach in self.breaches.iter().filter(|breach| breach.rule == rule).take(5) {
                writeln!(f, "  {} {}", breach.at, breach.text)?;
            }
        }
        Ok(())
    }
}
