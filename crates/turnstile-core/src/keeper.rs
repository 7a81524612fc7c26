//! The one background task of a manager: it renews, trips deadlines, and finishes what callers left.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::manager::Shared;
use crate::{BackendError, ErrorKind, LeaseBackend, LostReason, Renewal};

/// Renewals in one call. A server runs such a batch in a fraction of a millisecond.
const BATCH: usize = 256;
/// The longest sleep, so that a deadline that passed while the machine was suspended is noticed soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Starts the task where there is none, if there is a runtime to start it on.
pub(crate) fn start<B: LeaseBackend>(shared: &Arc<Shared<B>>) {
    if shared.table.needs_keeper() {
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(keep(Alive(shared.clone())))),
            Err(_) => shared.table.no_keeper(),
        }
    }
}

/// Tells the table when the task ends otherwise than by its own will: its runtime was shut down.
struct Alive<B: LeaseBackend>(Arc<Shared<B>>);

impl<B: LeaseBackend> Drop for Alive<B> {
    fn drop(&mut self) {
        self.0.table.no_keeper();
    }
}

async fn keep<B: LeaseBackend>(alive: Alive<B>) {
    let shared = &alive.0;
    let mut chores = FuturesUnordered::new();
    let mut renewals = FuturesUnordered::new();
    loop {
        let now = shared.now();
        let mut due = shared.table.due(now);
        for hold in &due.expired {
            warn!(name = %hold.name, token = %hold.token, "lease lost: {}", LostReason::Expired);
        }
        chores.extend(due.chores);
        while !due.renewals.is_empty() {
            let rest = due.renewals.split_off(due.renewals.len().min(BATCH));
            renewals.push(renew(shared.clone(), std::mem::replace(&mut due.renewals, rest)));
        }
        let pause = due.next.map_or(LONGEST_SLEEP, |next| Duration::from_nanos(next.saturating_sub(now)));
        tokio::select! {
            () = sleep(pause.min(LONGEST_SLEEP)) => {
                if due.idle && chores.is_empty() && renewals.is_empty() && shared.table.keeper_may_end() {
                    return;
                }
            }
            () = shared.table.wake.notified() => {}
            Some(()) = chores.next() => {}
            Some(()) = renewals.next() => {}
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
        if let Some(hold) = shared.table.renewed(id, sent, deadline, now, reply) {
            warn!(name = %hold.name, token = %hold.token, "lease lost: {}", LostReason::Revoked);
        }
    }
    if let Some(error) = replies.iter().find_map(|reply| reply.as_ref().err()) {
        debug!(%error, leases = batch.len(), "a renewal failed; it is sent again until the deadline");
    }
}
