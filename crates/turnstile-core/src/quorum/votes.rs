//! What each node said to one request, and the error that lists it.

use std::fmt::Write as _;
use std::time::Duration;

use super::{QuorumNode, Shared};
use crate::{BackendError, ErrorKind};

/// What one node said.
pub(super) enum Vote<T> {
    /// Nothing so far.
    None,
    /// An answer.
    Answer(T),
    /// It could not.
    Failed(BackendError),
}

/// How much of one node's failure an error quotes, in characters.
const QUOTED: usize = 160;

impl<N: QuorumNode> Shared<N> {
    /// Why there is no quorum, node by node. `waited` is how long those were waited for that said nothing, where that is
    /// why it ended.
    pub(super) fn no_quorum<T>(
        &self,
        doing: &str,
        votes: &[Vote<T>],
        waited: Option<Duration>,
        say: impl Fn(&T) -> &'static str,
    ) -> BackendError {
        let failures =
            || votes.iter().filter_map(|vote| if let Vote::Failed(error) = vote { Some(error) } else { None });
        // Would it still fail if whatever may pass had passed?
        let lasting = || failures().filter(|error| !error.kind().is_transient());
        let kind = if lasting().count() >= self.counting() {
            lasting().next().map(BackendError::kind)
        } else {
            failures().map(BackendError::kind).find(|kind| kind.is_transient())
        };
        let mut text = format!("no quorum {doing}, {} of {} nodes are needed:", self.options.needed, votes.len());
        for (member, vote) in self.members.iter().zip(votes) {
            let _ = match (vote, waited) {
                (Vote::Answer(answer), _) => write!(text, " {}: {};", member.node.address(), say(answer)),
                (Vote::Failed(error), _) => {
                    let error = error.to_string();
                    let end = error.char_indices().nth(QUOTED).map_or(error.len(), |(end, _)| end);
                    let cut = if end < error.len() { "…" } else { "" };
                    write!(text, " {}: {}{cut};", member.node.address(), &error[..end])
                }
                (Vote::None, Some(waited)) => {
                    write!(text, " {}: no answer within {waited:?};", member.node.address())
                }
                (Vote::None, None) => write!(text, " {}: no answer yet;", member.node.address()),
            };
        }
        text.push_str(" bring nodes back");
        BackendError::new(kind.unwrap_or(ErrorKind::TimedOut), text)
    }
}
