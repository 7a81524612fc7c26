//! Releasing by a quorum: on all nodes, and after whatever is under way there.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};

use super::backend::next;
use super::votes::Vote;
use super::{Grant, Held, QuorumNode, Shared};
use crate::{BackendError, Owner, ReleaseOutcome, ReleaseReply};

impl<N: QuorumNode> Shared<N> {
    pub(super) async fn release(
        self: &Arc<Self>,
        resource: &N::Resource,
        owner: Owner,
    ) -> Result<ReleaseReply, BackendError> {
        let shared = self;
        let (count, needed) = (shared.members.len(), shared.options.needed);
        let Some(grant) = shared.held.lock().grants.get(&owner).cloned() else {
            // What was not granted is undone already, or in the background.
            return Ok(ReleaseReply::new(ReleaseOutcome::AlreadyExpired, None));
        };
        let Grant { identity, ttl, late, .. } = grant;
        let give_back = |at: usize| {
            let (shared, resource, late) = (shared.clone(), resource.clone(), late.clone());
            async move {
                if let Some(late) = late {
                    late.answer(at).await;
                }
                (at, shared.members[at].node.release(&resource, identity).await)
            }
        };
        let mut under_way: FuturesUnordered<_> = (0..count).map(give_back).collect();
        let time = shared.options.node_timeout;
        let mut limit = pin!(sleep(time));
        let mut votes: Vec<Vote<ReleaseReply>> = (0..count).map(|_| Vote::None).collect();
        let (mut released, mut gone, mut taken, mut wanted_within, mut waited) = (0, 0, 0, None, None);
        // Decided when enough are free, and it is known whether enough were held to the end.
        while released < needed && (released + gone < needed || gone < shared.counting()) {
            let Some((at, reply)) = next(&mut under_way, limit.as_mut()).await else {
                waited = (!under_way.is_empty()).then_some(time);
                break;
            };
            votes[at] = match reply {
                Ok(reply) => {
                    wanted_within = wanted_within.max(reply.wanted_within);
                    match reply.outcome {
                        ReleaseOutcome::Released => released += 1,
                        ReleaseOutcome::AlreadyExpired => gone += 1,
                        ReleaseOutcome::TakenOver => {
                            gone += 1;
                            taken += 1;
                        }
                    }
                    Vote::Answer(reply)
                }
                Err(error) => Vote::Failed(error),
            };
        }
        if released + gone < needed {
            // Asked again, by whoever asked, until enough have confirmed it.
            if !under_way.is_empty() {
                drop(shared.background.spawn(async move { while under_way.next().await.is_some() {} }));
            }
            shared.held.lock().unconfirmed(owner, Instant::now() + ttl);
            return Err(shared.no_quorum("for a release", &votes, waited, |reply| match reply.outcome {
                ReleaseOutcome::Released => "released",
                ReleaseOutcome::AlreadyExpired => "had ended",
                ReleaseOutcome::TakenOver => "held by another",
            }));
        }
        shared.held.lock().grants.remove(&owner);
        for (at, vote) in votes.iter().enumerate() {
            if matches!(vote, Vote::Failed(error) if error.kind().is_transient()) {
                shared.undo_later(at, resource.clone(), identity, ttl);
            }
        }
        if !under_way.is_empty() {
            let (late, resource) = (shared.clone(), resource.clone());
            drop(shared.background.spawn(async move {
                while let Some((at, reply)) = under_way.next().await {
                    if reply.is_err_and(|error| error.kind().is_transient()) {
                        late.undo_later(at, resource.clone(), identity, ttl);
                    }
                }
            }));
        }
        let outcome = match (gone >= shared.counting(), taken) {
            (false, _) => ReleaseOutcome::Released,
            (true, 0) => ReleaseOutcome::AlreadyExpired,
            (true, _) => ReleaseOutcome::TakenOver,
        };
        Ok(ReleaseReply::new(outcome, wanted_within))
    }
}

impl Held {
    /// Notes when an unconfirmed release is over by itself, and forgets those that are.
    fn unconfirmed(&mut self, owner: Owner, until: Instant) {
        if let Some(grant) = self.grants.get_mut(&owner) {
            grant.until.get_or_insert(until);
        }
        if self.grants.len() > self.sweep_at {
            let now = Instant::now();
            self.grants.retain(|_, grant| grant.until.is_none_or(|until| until > now));
            self.sweep_at = self.grants.len() * 2 + 1000;
        }
    }
}
