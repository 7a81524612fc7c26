//! One lease over several independent nodes: it is granted when enough of them say yes.
//!
//! The quorum rule of Redlock (*Distributed Locks with Redis*, Redis's documentation), as a [`LeaseBackend`] over other
//! backends. Any two sets of `needed` nodes out of N meet in at least one node when `needed` is more than half of N; that
//! node grants one of two rivals only. What is refused, fails, or comes too late is undone.
//!
//! # Why tokens strictly rise
//! Each node counts by itself. A grant takes the largest number M that one of its `needed` nodes gave, and returns only
//! when N − `needed` + 1 of the nodes that granted it count from M on: those that gave M, and others whose counters were
//! raised to it. The next grant has `needed` nodes. As `needed` + (N − `needed` + 1) > N, one of them is a node that
//! counts from M on, and that granted to nobody else from before it was raised until the lease was over there: so its
//! number for the next grant is above M, and the next grant's own, as the largest, is above M too. (Raising the counter
//! of a node that did not grant would not do: it may have given a number to the next holder before.) With a range of
//! tokens, M stands for the last of the range. This needs counters that outlive a restart.

mod backend;
mod backlog;
mod late;
mod releasing;
mod renewing;
mod votes;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::backlog::Backlog;
use self::late::Late;
use crate::sync::Mutex;
use crate::{BackendError, FencingToken, LeaseBackend, Owner};

/// One of the nodes of a [`Quorum`]: a strategy on one server, whose fencing counter can be raised.
#[async_trait]
pub trait QuorumNode: LeaseBackend {
    /// What errors and log lines call it: where it is, without credentials.
    fn address(&self) -> &str;

    /// Sees to it that every token which this node reserves for `resource` from now on is above `token`. A counter that
    /// is there already stays as it is.
    ///
    /// # Errors
    /// A failure of the server. Where its kind is transient, whether the counter was raised is unknown.
    async fn raise(&self, resource: &Self::Resource, token: FencingToken) -> Result<(), BackendError>;
}

/// How many nodes have to agree, how long each is waited for, and how far clocks may drift apart.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct QuorumOptions {
    needed: usize,
    node_timeout: Duration,
    fraction: f64,
    fixed: Duration,
}

impl QuorumOptions {
    /// How long one node is waited for, unless said otherwise: 250 ms.
    pub const NODE_TIMEOUT: Duration = Duration::from_millis(250);

    /// That many nodes have to say yes. More than half of them, or two could hold at once.
    pub const fn needed(needed: usize) -> Self {
        Self { needed, node_timeout: Self::NODE_TIMEOUT, fraction: 0.01, fixed: Duration::from_millis(2) }
    }

    /// More than half of so many nodes.
    pub const fn majority_of(nodes: usize) -> Self {
        Self::needed(nodes / 2 + 1)
    }

    /// The same, with every one of so many nodes.
    pub const fn of_all(mut self, nodes: usize) -> Self {
        self.needed = nodes;
        self
    }

    /// How long a request waits for answers, where they are needed; never longer than the time to live asked for.
    pub const fn node_timeout(mut self, limit: Duration) -> Self {
        self.node_timeout = limit;
        self
    }

    /// What is taken off a time to live, since clocks do not run at the same speed: that part of it (by default 0.01),
    /// and a fixed time (by default 2 ms).
    pub const fn drift(mut self, fraction: f64, fixed: Duration) -> Self {
        self.fraction = fraction;
        self.fixed = fixed;
        self
    }
}

/// Why nodes make no quorum.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum InvalidQuorum {
    /// No node, or more than 64.
    #[error("a quorum of {0} nodes cannot be had: give it from 1 to {max}", max = MOST_NODES)]
    Nodes(usize),
    /// Two sets of so many nodes need not meet.
    #[error("{needed} of {nodes} nodes are no quorum: ask for more than half of them, and for {nodes} at the most")]
    Needed {
        /// How many were to say yes.
        needed: usize,
        /// Out of so many.
        nodes: usize,
    },
    /// No time at all for a node.
    #[error("nodes need time to answer: give a node timeout above zero")]
    NodeTimeout,
    /// A drift that leaves nothing of a lease, or makes it longer.
    #[error("a drift of {0} times the time to live cannot be taken off it: choose one from 0 to 0.5")]
    Drift(f64),
}

/// Nodes are told apart by the bits of a word.
const MOST_NODES: usize = 64;

/// A lease over several nodes, of which enough have to agree: a [`LeaseBackend`].
///
/// - Nodes are asked in parallel. A request ends as soon as enough have said yes, or cannot any more; no node is waited
///   for longer than [`QuorumOptions::node_timeout`].
/// - A grant that is refused or fails is undone: before it returns on the nodes that said yes, in the background on
///   those that are late. A background release goes on until the node confirms it or one time to live is over.
/// - Renewing takes a quorum again. A node that lost the lease does not get it back by it; the lease is lost when fewer
///   than enough nodes are left that may have it.
/// - Tokens strictly rise, as long as the nodes' counters survive: see the [module](self).
///
/// The nodes know a lease by an owner that has the first 24 hexadecimal digits of [`Lease::owner`](crate::Lease::owner)
/// and eight of the attempt, so that what one attempt undoes late is never what the next one holds.
///
/// It needs a tokio runtime, and leaves its background work to the one that it is called on.
pub struct Quorum<N: QuorumNode> {
    shared: Arc<Shared<N>>,
}

struct Shared<N: QuorumNode> {
    members: Box<[Member<N>]>,
    options: QuorumOptions,
    attempts: AtomicU32,
    held: Mutex<Held>,
    background: TaskTracker,
}

/// A node, and what is known of it.
struct Member<N: QuorumNode> {
    node: N,
    /// Whether the latest grant, and the latest renewal, failed on it.
    failing: [AtomicBool; 2],
    backlog: Backlog<N::Resource>,
}

/// What is held, by the owner that asked for it.
#[derive(Default)]
struct Held {
    grants: HashMap<Owner, Grant>,
    /// How many there may be before those that are over are looked for.
    sweep_at: usize,
}

#[derive(Clone)]
struct Grant {
    /// Who holds it for the nodes.
    identity: Owner,
    first_token: u64,
    ttl: Duration,
    /// Nodes that have not answered yet.
    late: Option<Arc<Late>>,
    /// A release was not confirmed: when it is over by itself.
    until: Option<tokio::time::Instant>,
}

impl<N: QuorumNode> Quorum<N> {
    /// A quorum of these nodes.
    ///
    /// # Errors
    /// When two sets of so many nodes need not meet, or an option makes no sense.
    pub fn new(nodes: impl IntoIterator<Item = N>, options: QuorumOptions) -> Result<Self, InvalidQuorum> {
        let member = |node| Member { node, failing: Default::default(), backlog: Backlog::default() };
        let members: Box<[_]> = nodes.into_iter().map(member).collect();
        let (nodes, needed) = (members.len(), options.needed);
        if nodes == 0 || nodes > MOST_NODES {
            return Err(InvalidQuorum::Nodes(nodes));
        }
        if needed * 2 <= nodes || needed > nodes {
            return Err(InvalidQuorum::Needed { needed, nodes });
        }
        if options.node_timeout.is_zero() {
            return Err(InvalidQuorum::NodeTimeout);
        }
        if !(0.0..=0.5).contains(&options.fraction) {
            return Err(InvalidQuorum::Drift(options.fraction));
        }
        let shared = Shared {
            members,
            options,
            attempts: AtomicU32::new(0),
            held: Mutex::default(),
            background: TaskTracker::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The nodes.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &N> {
        self.shared.members.iter().map(|member| &member.node)
    }

    /// How many of them have to agree.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.shared.options.needed
    }

    /// Waits until nothing goes on in the background: late answers have come, and what they brought is undone, or has
    /// ended by itself. Call it after [`LeaseManager::shutdown`](crate::LeaseManager::shutdown).
    pub async fn settle(&self) {
        self.shared.background.close();
        self.shared.background.wait().await;
        self.shared.background.reopen();
    }
}

impl<N: QuorumNode> Shared<N> {
    /// A new identity of `owner`, which no request bore yet.
    fn new_identity(&self, owner: Owner) -> Owner {
        owner.of_attempt(self.attempts.fetch_add(1, Ordering::Relaxed))
    }

    /// How many nodes have to count from a token on before it is handed out.
    fn counting(&self) -> usize {
        self.members.len() - self.options.needed + 1
    }

    /// Tells the log when a node begins to fail, and when it is back.
    fn noticed(&self, doing: Doing, at: usize, failure: Option<&BackendError>) {
        let Member { node, failing, .. } = &self.members[at];
        let failing = &failing[doing as usize];
        match failure {
            Some(error) if !failing.swap(true, Ordering::Relaxed) => {
                warn!(node = node.address(), ?doing, %error, "a node of the quorum fails");
            }
            None if failing.load(Ordering::Relaxed) && failing.swap(false, Ordering::Relaxed) => {
                info!(node = node.address(), ?doing, "a node of the quorum answers again");
            }
            _ => {}
        }
    }
}

/// What a node may fail at by itself: one that is out of memory grants nothing, and renews.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Grant,
    Renewal,
}
