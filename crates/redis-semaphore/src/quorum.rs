//! Semaphores over a quorum of independent nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis_lua::{Client, Script, process_label};
use thiserror::Error;
use turnstile_core::quorum::{InvalidQuorum, Quorum, QuorumNode, QuorumOptions};
use turnstile_core::{
    BackendError, FencingToken, GrantReply, GrantRequest, LeaseBackend, LeaseManager, LeaseOptions, Owner,
    ReleaseError, ReleaseReply, RenewReply, Renewal,
};

use crate::SemaphoreError;
use crate::backend::{SemaphoreBackend, checked, script};
use crate::resource::{Form, SemaphoreResource};
use crate::semaphore::Semaphore;

static RAISE: Script = script!("raise", "", "time", "common", "raise");

/// A semaphore over a quorum: it asks without a queue, since nodes would keep different ones. Cheap to clone.
pub type QuorumSemaphore = Semaphore<Quorum<Node>>;

/// Makes semaphores over independent Redis servers. Make one for a process and its nodes, and clone it.
///
/// With N nodes and a limit of k, a grant takes ⌊N·k/(k+1)⌋ + 1 of them. No node admits more than k, so all permits
/// together, of a weight W, take up at most N·k places; each takes them on so many nodes that with W = k + 1 it would
/// be more. (With a mere majority, as of Redlock, it would not: 3 of 5 nodes let a third in where the limit is 2.)
#[derive(Clone)]
pub struct QuorumSemaphores {
    /// By how many nodes it takes, from the majority on.
    managers: Arc<[LeaseManager<Quorum<Node>>]>,
    nodes: usize,
    without_spare: bool,
}

/// Nodes that make no quorum.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// One node is listed twice, and would count twice.
    #[error("{0} is listed twice: list each node once")]
    SameNode(String),
    /// A Redis Cluster is no node.
    #[error("{0} is a Redis Cluster: give independent servers, each with a client of its own")]
    Cluster(String),
    /// The number of nodes, the time limit or the drift makes no sense.
    #[error(transparent)]
    Quorum(#[from] InvalidQuorum),
}

impl QuorumSemaphores {
    /// Semaphores over these nodes, which are to fail independently of one another, none a replica of another. Each client
    /// has its own password.
    pub fn builder(clients: impl IntoIterator<Item = Client>) -> QuorumSemaphoresBuilder {
        QuorumSemaphoresBuilder {
            clients: clients.into_iter().collect(),
            label: None,
            node_timeout: QuorumOptions::NODE_TIMEOUT,
            drift: (0.01, Duration::from_millis(2)),
            without_spare: false,
        }
    }

    /// The semaphore of this name, on each node [by set](crate::Semaphores::by_set). It sends nothing yet.
    ///
    /// # Errors
    /// When `name` is not one, `limit` is zero, or the limit takes every node, and that is not
    /// [allowed](QuorumSemaphoresBuilder::without_spare_node).
    pub fn by_set(&self, name: impl AsRef<str>, limit: u32) -> Result<QuorumSemaphore, SemaphoreError> {
        self.semaphore(name.as_ref(), limit, Form::Set)
    }

    /// The semaphore of this name, on each node [by counter](crate::Semaphores::by_counter). It sends nothing yet.
    ///
    /// # Errors
    /// As of [`by_set`](Self::by_set).
    pub fn by_counter(&self, name: impl AsRef<str>, limit: u32) -> Result<QuorumSemaphore, SemaphoreError> {
        self.semaphore(name.as_ref(), limit, Form::Counter)
    }

    /// How many nodes a grant takes where the limit is `limit`.
    #[must_use]
    pub fn needed(&self, limit: u32) -> usize {
        let (nodes, limit) = (self.nodes as u64, u64::from(limit));
        usize::try_from(nodes * limit / (limit + 1) + 1).unwrap_or(self.nodes)
    }

    /// Shuts all managers down (see [`LeaseManager::shutdown`]), and waits until late answers are undone on all nodes that
    /// answer, or have ended by themselves. What could not be confirmed to be given back is told.
    ///
    /// # Cancelling
    /// What goes on in the background does so. New leases stay refused.
    pub async fn shutdown(&self) -> Vec<ReleaseError> {
        let mut unconfirmed = Vec::new();
        for manager in self.managers.iter() {
            unconfirmed.extend(manager.shutdown().await);
            manager.backend().settle().await;
        }
        unconfirmed
    }

    fn semaphore(&self, name: &str, limit: u32, form: Form) -> Result<QuorumSemaphore, SemaphoreError> {
        let mut resource = SemaphoreResource::checked(name, limit, form)?.unfair();
        // Who asks with another limit by mistake, and fails, must not leave it on nodes that nobody had asked before.
        resource.passing_limit = true;
        let (needed, nodes) = (self.needed(limit), self.nodes);
        if needed == nodes && !self.without_spare {
            return Err(SemaphoreError::NoSpareNode { limit, nodes });
        }
        let manager = &self.managers[needed - majority(nodes)];
        let options = Arc::<LeaseOptions>::default();
        Ok(Semaphore::new(manager.lock(resource, options.clone()), options))
    }
}

/// The least that any limit takes: that of 1.
const fn majority(nodes: usize) -> usize {
    nodes / 2 + 1
}

/// Choices for [`QuorumSemaphores`].
#[derive(Debug)]
#[must_use = "builder does nothing itself, use .build()"]
pub struct QuorumSemaphoresBuilder {
    clients: Vec<Client>,
    label: Option<String>,
    node_timeout: Duration,
    drift: (f64, Duration),
    without_spare: bool,
}

impl QuorumSemaphoresBuilder {
    /// What [`Semaphores::state`](crate::Semaphores::state) of a node tells others of this process: by default its host
    /// name and process id. Control characters become spaces.
    pub fn holder(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into().replace(char::is_control, " "));
        self
    }

    /// How long nodes are waited for that do not answer, where their votes are needed: by default 250 ms.
    pub fn node_timeout(mut self, limit: Duration) -> Self {
        self.node_timeout = limit;
        self
    }

    /// What is taken off a time to live, since clocks do not run at the same speed: that part of it, and a fixed time. By
    /// default 0.01 and 2 ms.
    pub fn drift(mut self, fraction: f64, fixed: Duration) -> Self {
        self.drift = (fraction, fixed);
        self
    }

    /// Allows limits that take every node: one that is down then stops all grants. A limit of k leaves one to spare from
    /// k + 2 nodes on.
    pub fn without_spare_node(mut self) -> Self {
        self.without_spare = true;
        self
    }

    /// Ready. Nothing is sent yet: a node need not be up.
    ///
    /// # Errors
    /// When the nodes, or a choice, make no sense.
    pub fn build(self) -> Result<QuorumSemaphores, ConfigError> {
        for (at, client) in self.clients.iter().enumerate() {
            if client.is_cluster() {
                return Err(ConfigError::Cluster(client.address().to_owned()));
            }
            if self.clients[..at].iter().any(|other| other.address().eq_ignore_ascii_case(client.address())) {
                return Err(ConfigError::SameNode(client.address().to_owned()));
            }
        }
        let label = self.label.unwrap_or_else(process_label);
        let nodes: Vec<Node> = self.clients.into_iter().map(|client| Node::labelled(client, label.clone())).collect();
        let count = nodes.len();
        let (fraction, fixed) = self.drift;
        let manager = |needed| {
            let options = QuorumOptions::needed(needed).node_timeout(self.node_timeout).drift(fraction, fixed);
            Ok(LeaseManager::new(Quorum::new(nodes.iter().cloned(), options)?))
        };
        // Without a node it is refused by the first of these.
        let managers = (majority(count)..=count.max(1)).map(manager).collect::<Result<_, ConfigError>>()?;
        Ok(QuorumSemaphores { managers, nodes: count, without_spare: self.without_spare })
    }
}

/// One server of a [`QuorumSemaphore`]: a [`QuorumNode`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Node(Arc<SemaphoreBackend>);

impl Node {
    /// The server of this client.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::labelled(client, process_label())
    }

    fn labelled(client: Client, label: String) -> Self {
        // Nobody waits in a queue, so there are no signs of life.
        Self(Arc::new(SemaphoreBackend::new(client, label, Duration::from_secs(1))))
    }
}

#[async_trait]
impl LeaseBackend for Node {
    type Resource = SemaphoreResource;
    const STRATEGY: &'static str = "redis-semaphore";

    async fn grant(&self, request: GrantRequest<'_, SemaphoreResource>) -> Result<GrantReply, BackendError> {
        self.0.grant(request).await
    }

    async fn renew(&self, leases: &[Renewal<SemaphoreResource>]) -> Vec<Result<RenewReply, BackendError>> {
        self.0.renew(leases).await
    }

    async fn release(&self, resource: &SemaphoreResource, owner: Owner) -> Result<ReleaseReply, BackendError> {
        self.0.release(resource, owner).await
    }
}

#[async_trait]
impl QuorumNode for Node {
    fn address(&self) -> &str {
        self.0.client.address()
    }

    async fn raise(&self, resource: &SemaphoreResource, token: FencingToken) -> Result<(), BackendError> {
        let reply = RAISE.keys(resource.keys()).arg(token.get()).run(&self.0.client).await;
        checked(resource, reply.map_err(SemaphoreError::from)?)?;
        Ok(())
    }
}
