//! Renewing by a quorum: it keeps what enough nodes still have, and never brings back what they lost.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::backend::next;
use super::votes::Vote;
use super::{Doing, QuorumNode, Shared};
use crate::{BackendError, RenewReply, Renewal};

/// One node's replies to a batch.
type Replies = Vec<Result<RenewReply, BackendError>>;

impl<N: QuorumNode> Shared<N> {
    pub(super) async fn renew(self: &Arc<Self>, leases: &[Renewal<N::Resource>]) -> Replies {
        // Those that are held, under the owners that the nodes know, and where they stand in the batch.
        let (mut batch, mut places) = (Vec::with_capacity(leases.len()), Vec::with_capacity(leases.len()));
        {
            let held = self.held.lock();
            for (place, lease) in leases.iter().enumerate() {
                if let Some(grant) = held.grants.get(&lease.owner) {
                    batch.push(Renewal::new(lease.resource.clone(), grant.identity, lease.ttl));
                    places.push(place);
                }
            }
        }
        let mut replies = vec![Ok(RenewReply::NotHeld); leases.len()];
        let Some(shortest) = batch.iter().map(|lease| lease.ttl).min() else { return replies };

        let batch: Arc<[_]> = batch.into();
        let count = self.members.len();
        let renew = |at: usize| {
            let (shared, batch) = (self.clone(), batch.clone());
            async move { (at, shared.members[at].node.renew(&batch).await) }
        };
        let mut under_way: FuturesUnordered<_> = (0..count).map(renew).collect();
        // The engine gives up after a third of the shortest time to live: before it does, it gets the answers that came.
        let time = self.options.node_timeout.min(shortest / 4);
        let mut limit = pin!(sleep(time));
        let mut answers: Vec<Option<Replies>> = vec![None; count];
        let mut waited = None;
        let mut undecided: Vec<usize> = (0..batch.len()).collect();
        while !undecided.is_empty() {
            let Some((at, answer)) = next(&mut under_way, limit.as_mut()).await else {
                waited = (!under_way.is_empty()).then_some(time);
                break;
            };
            self.noticed(Doing::Renewal, at, answer.iter().find_map(|reply| reply.as_ref().err()));
            answers[at] = Some(answer);
            undecided.retain(|&nth| match self.decided(&answers, nth) {
                Some(reply) => {
                    replies[places[nth]] = Ok(reply);
                    false
                }
                None => true,
            });
        }
        for nth in undecided {
            replies[places[nth]] = Err(self.not_renewed(&answers, nth, waited));
        }
        if !under_way.is_empty() {
            let shared = self.clone();
            drop(self.background.spawn(async move {
                while let Some((at, answer)) = under_way.next().await {
                    shared.noticed(Doing::Renewal, at, answer.iter().find_map(|reply| reply.as_ref().err()));
                }
            }));
        }
        replies
    }

    /// What the nodes that answered say of one lease, where the others cannot change it.
    fn decided(&self, answers: &[Option<Replies>], nth: usize) -> Option<RenewReply> {
        let says = |what| {
            answers.iter().flatten().filter(move |reply| matches!(reply.get(nth), Some(Ok(said)) if *said == what))
        };
        if says(RenewReply::Renewed).count() >= self.options.needed {
            Some(RenewReply::Renewed)
        } else if says(RenewReply::NotHeld).count() >= self.counting() {
            Some(RenewReply::NotHeld)
        } else {
            None
        }
    }

    fn not_renewed(&self, answers: &[Option<Replies>], nth: usize, waited: Option<Duration>) -> BackendError {
        let votes: Vec<Vote<RenewReply>> = answers
            .iter()
            .map(|answer| match answer.as_ref().and_then(|replies| replies.get(nth)) {
                Some(Ok(reply)) => Vote::Answer(*reply),
                Some(Err(error)) => Vote::Failed(error.clone()),
                None => Vote::None,
            })
            .collect();
        self.no_quorum("for a renewal", &votes, waited, |reply| match reply {
            RenewReply::Renewed => "renewed",
            RenewReply::NotHeld => "not held",
        })
    }
}
