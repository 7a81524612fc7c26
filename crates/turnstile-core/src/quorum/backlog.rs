//! What a node still has to undo: one task a node, however many grants failed while it was away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{QuorumNode, Shared};
use crate::sync::Mutex;
use crate::{Backoff, Owner, Resource};

/// What is kept for a node that does not answer; the oldest gives way, and ends at its time to live.
const MOST: usize = 4096;

/// Releases that a node has not confirmed.
pub(super) struct Backlog<R>(Mutex<Queue<R>>);

struct Queue<R> {
    releases: VecDeque<Release<R>>,
    worked_on: bool,
}

struct Release<R> {
    resource: R,
    identity: Owner,
    /// When it has ended by itself.
    until: Instant,
}

impl<R> Default for Backlog<R> {
    fn default() -> Self {
        Self(Mutex::new(Queue { releases: VecDeque::new(), worked_on: false }))
    }
}

impl<N: QuorumNode> Shared<N> {
    /// Releases on one node, in the background, until it confirms or `ttl` is over.
    pub(super) fn undo_later(self: &Arc<Self>, at: usize, resource: N::Resource, identity: Owner, ttl: Duration) {
        let mut queue = self.members[at].backlog.0.lock();
        if queue.releases.len() == MOST {
            queue.releases.pop_front();
        }
        queue.releases.push_back(Release { resource, identity, until: Instant::now() + ttl });
        if !queue.worked_on
            && let Ok(runtime) = Handle::try_current()
        {
            queue.worked_on = true;
            drop(queue);
            let worker = Worker { shared: self.clone(), at, ended: false };
            drop(self.background.spawn_on(worker.run(), &runtime));
        }
    }
}

/// Works a node's backlog off. If its runtime ends, the next release starts another.
struct Worker<N: QuorumNode> {
    shared: Arc<Shared<N>>,
    at: usize,
    ended: bool,
}

impl<N: QuorumNode> Drop for Worker<N> {
    fn drop(&mut self) {
        if !self.ended {
            self.backlog().0.lock().worked_on = false;
        }
    }
}

impl<N: QuorumNode> Worker<N> {
    fn backlog(&self) -> &Backlog<N::Resource> {
        &self.shared.members[self.at].backlog
    }

    /// The next release that is still needed; none, and the work has ended.
    fn next(&mut self) -> Option<Release<N::Resource>> {
        let mut queue = self.shared.members[self.at].backlog.0.lock();
        let now = Instant::now();
        while let Some(release) = queue.releases.pop_front() {
            if release.until > now {
                return Some(release);
            }
        }
        queue.worked_on = false;
        self.ended = true;
        None
    }

    async fn run(mut self) {
        let shared = self.shared.clone();
        let node = &shared.members[self.at].node;
        let pauses = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut pause = pauses.delays();
        while let Some(release) = self.next() {
            let reply = node.release(&release.resource, release.identity).await;
            match reply {
                Ok(_) => pause = pauses.delays(),
                Err(error) if error.kind().is_transient() => {
                    let rest = release.until.saturating_duration_since(Instant::now());
                    self.backlog().0.lock().releases.push_front(release);
                    sleep(pause.next().unwrap_or_default().min(rest)).await;
                }
                Err(error) => {
                    let (name, node) = (release.resource.name(), node.address());
                    debug!(%name, node, %error, "a node does not undo what it granted; it ends by itself");
                }
            }
        }
    }
}
