//! What a run did.

use std::sync::Arc;

/// What a run did, from its start to its end.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Messages that were handled to the end, those that were skipped included.
    pub done: u64,
    /// Messages that a handler said were not for it.
    pub skipped: u64,
    /// Further attempts, after the first of each message.
    pub retries: u64,
    /// Messages that were set aside.
    pub dead_letters: u64,
    /// Messages that were in hand and not done at the end, or when what they came from was taken away: they are
    /// delivered again, here or elsewhere.
    pub handed_back: u64,
    /// Where nothing more is handled until someone looks: what it is, and why.
    pub halted: Vec<(Arc<str>, anyhow::Error)>,
    /// The error of the handler that ended the run, if one did.
    pub stopped_by: Option<anyhow::Error>,
}
