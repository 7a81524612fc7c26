//! Which nodes have not answered a grant yet: a release has to come after it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The nodes on which one grant is still under way.
#[derive(Default)]
pub(super) struct Late {
    nodes: AtomicU64,
    ended: Notify,
}

impl Late {
    pub(super) fn on(nodes: impl Iterator<Item = usize>) -> Self {
        Self { nodes: AtomicU64::new(nodes.fold(0, |all, at| all | 1 << at)), ended: Notify::new() }
    }

    /// The node has answered, or never will.
    pub(super) fn answered(&self, at: usize) {
        self.nodes.fetch_and(!(1 << at), Ordering::AcqRel);
        self.ended.notify_waiters();
    }

    /// Waits until the node has answered.
    pub(super) async fn answer(&self, at: usize) {
        let under_way = || self.nodes.load(Ordering::Acquire) & 1 << at != 0;
        while under_way() {
            let ended = self.ended.notified();
            if under_way() {
                ended.await;
            }
        }
    }
}

/// Whoever awaits the answers. If they go away, with their runtime, nobody waits for ever.
pub(super) struct Awaited(pub(super) std::sync::Arc<Late>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.nodes.store(0, Ordering::Release);
        self.0.ended.notify_waiters();
    }
}
