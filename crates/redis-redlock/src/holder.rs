//! Who holds a lock, as the nodes have it.

use std::collections::BTreeMap;
use std::time::Duration;

use redis_lock::{Holder as OnOneNode, NameError};
use thiserror::Error;
use turnstile_core::FencingToken;

/// How much of an owner is the same in all attempts of one acquire.
const OWNER_DIGITS: usize = 24;

/// Who holds a lock, or tries to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The first 24 hexadecimal digits of [`Lease::owner`](crate::Lease::owner). Empty for a key that this crate did not
    /// write.
    pub owner: String,
    /// What the holder calls itself: see [`RedlockBuilder::holder`](crate::RedlockBuilder::holder).
    pub label: String,
    /// How many of the nodes that answered have it: fewer than the quorum is an attempt, or what one left.
    pub nodes: usize,
    /// Whether those are enough: it is held.
    pub holds: bool,
    /// How long its process has held it, by the nodes' clocks. Hand-overs within the process do not count anew.
    pub held_for: Duration,
    /// How long until it ends unless it is renewed; `None` for a key that never ends by itself.
    pub remaining: Option<Duration>,
    /// The largest of the nodes' tokens, and so the first one of the grant. After hand-overs within the process, it works
    /// with a higher one.
    pub token: FencingToken,
    /// Whether it is a reader's share.
    pub shared: bool,
}

/// Why it could not be told who holds a lock.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WhoError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Too few nodes answered to tell.
    #[error("only {answered} of {nodes} nodes answered, and {needed} are needed to tell: {failures}")]
    NoQuorum {
        /// How many answered.
        answered: usize,
        /// How many have to.
        needed: usize,
        /// Out of so many.
        nodes: usize,
        /// Those that did not, and why.
        failures: String,
    },
}

/// Puts together what the nodes say: whoever has the most of them first.
pub(crate) fn together(answers: Vec<Vec<OnOneNode>>, needed: usize) -> Vec<Holder> {
    let mut by_owner: BTreeMap<(String, bool), Vec<OnOneNode>> = BTreeMap::new();
    for holder in answers.into_iter().flatten() {
        let owner = holder.owner.get(..OWNER_DIGITS).unwrap_or_default().to_owned();
        by_owner.entry((owner, holder.shared)).or_default().push(holder);
    }
    let mut holders: Vec<Holder> = by_owner
        .into_iter()
        .filter_map(|((owner, shared), nodes)| {
            let first = nodes.first()?;
            let mut ends: Vec<_> = nodes.iter().map(|node| node.remaining.unwrap_or(Duration::MAX)).collect();
            ends.sort_unstable_by(|a, b| b.cmp(a));
            // It ends when fewer than enough nodes have it.
            let end = ends.get(needed - 1).or(ends.first()).copied();
            Some(Holder {
                owner,
                label: first.label.clone(),
                nodes: nodes.len(),
                holds: nodes.len() >= needed,
                held_for: nodes.iter().map(|node| node.held_for).max().unwrap_or_default(),
                remaining: end.filter(|&end| end != Duration::MAX),
                token: nodes.iter().map(|node| node.token).max().unwrap_or(first.token),
                shared,
            })
        })
        .collect();
    holders.sort_by_key(|holder| std::cmp::Reverse(holder.nodes));
    holders
}
