//! What is done beyond a commit point: the part of the truth that Kafka's one committed offset cannot say.

use std::ops::Range;

/// The offsets that are done although a lower one, the commit point, is not.
///
/// Kept as runs: rising, apart from one another, all beyond the commit point, which is never among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completions {
    commit_point: i64,
    runs: Vec<Range<i64>>,
}

impl Completions {
    /// Nothing is done beyond `commit_point`. A negative one counts as 0.
    #[must_use]
    pub const fn none(commit_point: i64) -> Self {
        Self { commit_point: if commit_point < 0 { 0 } else { commit_point }, runs: Vec::new() }
    }

    /// The offsets in `done`, in any order and overlapping as they may. What does not lie beyond `commit_point` is left out.
    #[must_use]
    pub fn new(commit_point: i64, done: impl IntoIterator<Item = Range<i64>>) -> Self {
        let mut completions = Self::none(commit_point);
        let beyond = completions.commit_point.saturating_add(1);
        let mut all: Vec<_> = done.into_iter().map(|run| run.start.max(beyond)..run.end).collect();
        all.retain(|run| !run.is_empty());
        all.sort_unstable_by_key(|run| run.start);
        for run in all {
            completions.add(run);
        }
        completions
    }

    /// Adds a run that starts no lower than all there are.
    pub(crate) fn add(&mut self, run: Range<i64>) {
        match self.runs.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => self.runs.push(run),
        }
    }

    /// The lowest offset that is not done.
    pub const fn commit_point(&self) -> i64 {
        self.commit_point
    }

    /// How many offsets are done beyond the commit point, those of gaps included.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.end.abs_diff(run.start)).sum()
    }

    /// Whether nothing is done beyond the commit point.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether `offset` is done, for an offset at or beyond the commit point.
    pub fn contains(&self, offset: i64) -> bool {
        let after = self.runs.partition_point(|run| run.start <= offset);
        after > 0 && self.runs[after - 1].contains(&offset)
    }

    /// The runs of offsets that are done, rising, each apart from the next.
    pub fn runs(&self) -> &[Range<i64>] {
        &self.runs
    }

    /// The offset after the highest that is done; the commit point if none is.
    pub fn end(&self) -> i64 {
        self.runs.last().map_or(self.commit_point, |run| run.end)
    }

    /// Forgets what is at or beyond `end`.
    ///
    /// To be called with the partition's end offset before completions of an earlier holder are used: where the log has
    /// lost its tail since then (an unclean leader election), new records come to stand at offsets that were done.
    pub fn truncate(&mut self, end: i64) {
        self.runs.retain(|run| run.start < end);
        if let Some(last) = self.runs.last_mut() {
            last.end = last.end.min(end);
        }
    }
}
