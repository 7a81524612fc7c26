//! The one background task of a manager: it renews, trips deadlines, and finishes what callers left.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::manager::Shared;
use crate::table::BATCH;
use crate::{BackendError, ErrorKind, LeaseBackend, LostReason, Renewal};

/// Starts the task where there is none, if there is a runtime to start it on.
pub(crate) fn start<B: LeaseBackend>(shared: &Arc<Shared<B>>) {
    if !shared.table.has_keeper()
        && let Ok(runtime) = Handle::try_current()
        && shared.table.needs_keeper()
    {
        drop(runtime.spawn(keep(Alive { shared: shared.clone(), ended: false })));
    }
}

/// Tells the table when the task ends otherwise than by its own will: its runtime was shut down.
struct Alive<B: LeaseBackend> {
    shared: Arc<Shared<B>>,
    ended: bool,
}

impl<B: LeaseBackend> Drop for Alive<B> {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.table.no_keeper();
        }
    }
}

/// Chores and renewals are tasks of their own: should a strategy panic in one, the others go on.
async fn keep<B: LeaseBackend>(mut alive: Alive<B>) {
    let shared = alive.shared.clone();
    loop {
        let now = shared.now();
        let mut due = shared.table.due(now);
        for hold in &due.expired {
            shared.tell_lost(hold, LostReason::Expired);
        }
        for chore in due.chores {
            tokio::spawn(chore);
        }
        while !due.renewals.is_empty() {
            let rest = due.renewals.split_off(due.renewals.len().min(BATCH));
            tokio::spawn(renew(shared.clone(), std::mem::replace(&mut due.renewals, rest)));
        }
        tokio::select! {
            () = sleep(Duration::from_nanos(due.next.saturating_sub(now))) => {
                alive.ended = due.idle && shared.table.keeper_may_end();
                if alive.ended {
                    return;
                }
            }
            () = shared.table.wake.notified() => {}
        }
    }
}

/// Renews a batch, and notes for each what became of it.
async fn renew<B: LeaseBackend>(shared: Arc<Shared<B>>, batch: Vec<(u64, Renewal<B::Resource>)>) {
    let sent = shared.now();
    let (ids, batch): (Vec<u64>, Vec<Renewal<B::Resource>>) = batch.into_iter().unzip();
    let patience = batch.iter().map(|renewal| renewal.ttl).min().unwrap_or_default() / 3;
    let replies = timeout(patience, shared.backend.renew(&batch)).await.unwrap_or_else(|_| {
        let error = BackendError::new(ErrorKind::TimedOut, format!("no answer to a renewal within {patience:?}"));
        vec![Err(error); batch.len()]
    });
    let now = shared.now();
    for ((id, renewal), reply) in ids.into_iter().zip(&batch).zip(&replies) {
        let deadline = shared.deadline(sent, renewal.ttl);
        if let Some((hold, reason)) = shared.table.renewed(id, sent, deadline, now, reply) {
            shared.tell_lost(&hold, reason);
        }
        if reply.is_err() {
            shared.metrics.renewals_failed.increment(1);
        }
    }
    shared.table.wake.notify_one();
    if let Some(error) = replies.iter().find_map(|reply| reply.as_ref().err()) {
        debug!(%error, leases = batch.len(), "a renewal failed; it is sent again until the deadline");
    }
}
