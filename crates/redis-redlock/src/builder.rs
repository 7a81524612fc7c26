//! Choices, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use redis_lock::{Client, LockBackend};
use thiserror::Error;
use turnstile_core::quorum::{InvalidQuorum, Quorum as Nodes, QuorumOptions};
use turnstile_core::{LeaseManager, LeaseOptions};

use crate::identity::Identities;
use crate::node::Node;
use crate::redlock::Redlock;

/// How many nodes have to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Quorum {
    /// More than half of them: the others may be down, hung or cut off.
    #[default]
    Majority,
    /// Every one: whatever node is asked, it knows of the lock. One that is down stops all locking.
    All,
}

/// Nodes that make no Redlock.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No node at all.
    #[error("no node was given: give an odd number of independent Redis servers, as 3 or 5")]
    NoNodes,
    /// An even number of nodes.
    #[error(
        "{0} nodes were given: leave one out or add one. An even number outlasts no more failures than one node fewer, and lets two \
         rivals block each other with half of the nodes each"
    )]
    EvenNodes(usize),
    /// One node is listed twice, and would vote twice.
    #[error("{0} is listed twice: list each node once")]
    SameNode(String),
    /// A Redis Cluster is no node.
    #[error("{0} is a Redis Cluster: give independent servers, each with a client of its own")]
    Cluster(String),
    /// The number of nodes, the time limit or the drift makes no sense.
    #[error(transparent)]
    Quorum(#[from] InvalidQuorum),
    /// A restarted node kept out for no time, or for longer than any lease lasts.
    #[error(
        "delayed_restart({0:?}): give the longest time to live that anybody asks of these nodes, up to {max:?}",
        max = LeaseOptions::MAX_TTL
    )]
    DelayedRestart(Duration),
}

/// Choices for [`Redlock`].
#[derive(Debug)]
#[must_use = "builder does nothing itself, use .build()"]
pub struct RedlockBuilder {
    clients: Vec<Client>,
    quorum: Quorum,
    options: QuorumOptions,
    delayed_restart: Option<Duration>,
    label: Option<String>,
}

impl RedlockBuilder {
    pub(crate) fn new(clients: Vec<Client>) -> Self {
        let options = QuorumOptions::majority_of(clients.len());
        Self { clients, quorum: Quorum::Majority, options, delayed_restart: None, label: None }
    }

    /// How many nodes have to agree: by default the majority.
    pub fn quorum(mut self, quorum: Quorum) -> Self {
        self.quorum = quorum;
        self
    }

    /// What is taken off a time to live, since clocks do not run at the same speed: that part of it, and a fixed time. By
    /// default 0.01 and 2 ms. All processes need not agree on it.
    pub fn drift(mut self, fraction: f64, fixed: Duration) -> Self {
        self.options = self.options.drift(fraction, fixed);
        self
    }

    /// How long nodes are waited for that do not answer, where their votes are needed: by default 250 ms.
    ///
    /// While a quorum answers, nobody waits for the others. A node that answers later than this has not voted.
    pub fn node_timeout(mut self, limit: Duration) -> Self {
        self.options = self.options.node_timeout(limit);
        self
    }

    /// Keeps a node out that was started less than `longest_ttl` ago: it may have forgotten what it granted. Leases that
    /// last longer are refused. Without this, a node counts as soon as it answers.
    ///
    /// Give the longest time to live that anybody asks of these nodes. Each (re)connection asks the node for how long it
    /// has been up (`INFO server`, by the node's clock), so a restart cannot be overlooked. All processes that lock
    /// on these nodes have to do the same. When all nodes start at once, nothing is granted for that time.
    pub fn delayed_restart(mut self, longest_ttl: Duration) -> Self {
        self.delayed_restart = Some(longest_ttl);
        self
    }

    /// What [`Redlock::who`] tells others of this process: by default its host name and process id. Control characters
    /// become spaces.
    pub fn holder(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Ready. Nothing is sent yet: a node need not be up.
    ///
    /// # Errors
    /// When the nodes, or a choice, make no sense.
    pub fn build(self) -> Result<Redlock, ConfigError> {
        let Self { clients, quorum, options, delayed_restart, label } = self;
        match clients.len() {
            0 => return Err(ConfigError::NoNodes),
            even if even % 2 == 0 => return Err(ConfigError::EvenNodes(even)),
            _ => {}
        }
        for (at, client) in clients.iter().enumerate() {
            if client.is_cluster() {
                return Err(ConfigError::Cluster(client.address().to_owned()));
            }
            if clients[..at].iter().any(|other| other.address().eq_ignore_ascii_case(client.address())) {
                return Err(ConfigError::SameNode(client.address().to_owned()));
            }
        }
        if let Some(ttl) = delayed_restart
            && !(LeaseOptions::MIN_TTL..=LeaseOptions::MAX_TTL).contains(&ttl)
        {
            return Err(ConfigError::DelayedRestart(ttl));
        }
        let options = match quorum {
            Quorum::Majority => options,
            Quorum::All => options.of_all(clients.len()),
        };
        let identities = Arc::new(Identities::of(clients.len()));
        let nodes = clients.into_iter().enumerate().map(|(at, client)| {
            let backend = LockBackend::new(client);
            let backend = match &label {
                Some(label) => backend.holder(label),
                None => backend,
            };
            Node::new(backend, at, identities.clone(), delayed_restart)
        });
        Ok(Redlock::new(LeaseManager::new(Nodes::new(nodes, options)?)))
    }
}
