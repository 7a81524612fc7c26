//! Granting by a quorum, and undoing what was not granted.

use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Sleep, sleep};

use super::late::{Awaited, Late};
use super::votes::Vote;
use super::{Doing, Grant, Quorum, QuorumNode, Shared};
use crate::{
    BackendError, ErrorKind, FencingToken, GrantReply, GrantRequest, LeaseBackend, Owner, ReleaseReply, RenewReply,
    Renewal,
};

/// The next answer of a node; `None` when the time is over, or all have answered.
pub(super) async fn next<T>(
    under_way: &mut FuturesUnordered<impl Future<Output = T>>,
    limit: Pin<&mut Sleep>,
) -> Option<T> {
    tokio::select! {
        biased;
        answer = under_way.next() => answer,
        () = limit => None,
    }
}

/// What a node granted, or why not.
enum Answer {
    Granted { first: u64 },
    Refused { ends_within: Option<Duration>, has_place: bool },
}

impl From<GrantReply> for Answer {
    fn from(reply: GrantReply) -> Self {
        match reply {
            GrantReply::Granted { first_token } => Self::Granted { first: first_token.get() },
            GrantReply::Refused { ends_within, ahead } => Self::Refused { ends_within, has_place: ahead.is_some() },
        }
    }
}

impl Answer {
    /// Whether the node has something of the attempt.
    fn is_to_undo(&self) -> bool {
        matches!(self, Self::Granted { .. } | Self::Refused { has_place: true, .. })
    }
}

fn granted(vote: &Vote<Answer>) -> Option<u64> {
    if let Vote::Answer(Answer::Granted { first }) = vote { Some(*first) } else { None }
}

#[async_trait]
impl<N: QuorumNode> LeaseBackend for Quorum<N> {
    type Resource = N::Resource;
    const STRATEGY: &'static str = N::STRATEGY;

    async fn grant(&self, request: GrantRequest<'_, N::Resource>) -> Result<GrantReply, BackendError> {
        let shared = &self.shared;
        let (count, needed) = (shared.members.len(), shared.options.needed);
        // Asked again for what it has: the identity that the nodes know, and no lower token.
        let before = shared.held.lock().grants.remove(&request.owner);
        let identity = before.as_ref().map_or_else(|| shared.new_identity(request.owner), |grant| grant.identity);
        let floor = before.map_or(0, |grant| grant.first_token);

        let (ttl, tokens, asks_again_within) = (request.ttl, request.tokens, request.asks_again_within);
        let ask = |at: usize| {
            let (shared, resource) = (shared.clone(), request.resource.clone());
            async move {
                let request = GrantRequest { resource: &resource, owner: identity, ttl, tokens, asks_again_within };
                (at, shared.members[at].node.grant(request).await.map(Answer::from))
            }
        };
        let mut under_way: FuturesUnordered<_> = (0..count).map(ask).collect();
        let time = shared.options.node_timeout.min(ttl);
        let mut limit = pin!(sleep(time));
        let mut votes: Vec<Vote<Answer>> = (0..count).map(|_| Vote::None).collect();
        let (mut yes, mut open, mut waited) = (0, count, None);
        while yes < needed && yes + open >= needed {
            let Some((at, reply)) = next(&mut under_way, limit.as_mut()).await else {
                waited = Some(time);
                break;
            };
            open -= 1;
            shared.noticed(Doing::Grant, at, reply.as_ref().err());
            votes[at] = reply.map_or_else(Vote::Failed, Vote::Answer);
            yes += usize::from(granted(&votes[at]).is_some());
            if yes < needed && shared.is_contended(&votes, yes) {
                break;
            }
        }
        if waited.is_some() {
            let error = BackendError::new(ErrorKind::TimedOut, format!("no answer within {time:?}"));
            for at in (0..count).filter(|&at| matches!(votes[at], Vote::None)) {
                shared.noticed(Doing::Grant, at, Some(&error));
            }
        }

        let mut failure = None;
        if yes >= needed {
            let first = votes.iter().filter_map(granted).max().unwrap_or_default().max(floor);
            let back = WriteBack { resource: request.resource, first, tokens, time };
            match shared.write_back(back, &mut votes, &mut under_way, limit).await {
                Ok(()) => {
                    let late = (!under_way.is_empty()).then(|| {
                        let silent = (0..count).filter(|&at| matches!(votes[at], Vote::None));
                        let (shared, late) = (shared.clone(), Arc::new(Late::on(silent)));
                        let awaited = Awaited(late.clone());
                        drop(self.shared.background.spawn(async move {
                            while let Some((at, reply)) = under_way.next().await {
                                shared.noticed(Doing::Grant, at, reply.as_ref().err());
                                awaited.0.answered(at);
                            }
                        }));
                        late
                    });
                    let grant = Grant { identity, first_token: first, ttl, late, until: None };
                    shared.held.lock().grants.insert(request.owner, grant);
                    return Ok(GrantReply::Granted { first_token: FencingToken::new(first) });
                }
                Err(error) => failure = Some(error),
            }
        }

        // Not granted: nothing of it may stay.
        let failed = votes.iter().filter(|vote| matches!(vote, Vote::Failed(_))).count();
        let silent = if waited.is_some() { open } else { 0 };
        let result = match failure {
            Some(error) => Err(error),
            None if failed + silent >= shared.counting() => {
                Err(shared.no_quorum("for a grant", &votes, waited, |answer| match answer {
                    Answer::Granted { .. } => "granted",
                    Answer::Refused { .. } => "held by another",
                }))
            }
            None => Ok(GrantReply::Refused { ends_within: possible_within(&votes, needed), ahead: None }),
        };
        if !under_way.is_empty() {
            let (late, resource) = (shared.clone(), request.resource.clone());
            drop(shared.background.spawn(async move {
                while let Some((at, reply)) = under_way.next().await {
                    late.noticed(Doing::Grant, at, reply.as_ref().err());
                    if reply.map_or_else(|error| error.kind().is_transient(), |answer| answer.is_to_undo()) {
                        late.undo_later(at, resource.clone(), identity, ttl);
                    }
                }
            }));
        }
        shared.undo(request.resource, identity, ttl, votes, time).await;
        result
    }

    async fn renew(&self, leases: &[Renewal<N::Resource>]) -> Vec<Result<RenewReply, BackendError>> {
        self.shared.renew(leases).await
    }

    async fn release(&self, resource: &N::Resource, owner: Owner) -> Result<ReleaseReply, BackendError> {
        self.shared.release(resource, owner).await
    }

    fn drift(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(self.shared.options.fraction) + self.shared.options.fixed
    }
}

/// A token that is to be written back.
struct WriteBack<'a, R> {
    resource: &'a R,
    first: u64,
    tokens: NonZeroU32,
    /// What it all may take.
    time: Duration,
}

impl<N: QuorumNode> Shared<N> {
    /// Sees to it that enough of the nodes that granted it count from its tokens on. It goes on with `granting`, the
    /// answers that are still to come.
    async fn write_back(
        self: &Arc<Self>,
        WriteBack { resource, first, tokens, time }: WriteBack<'_, N::Resource>,
        votes: &mut [Vote<Answer>],
        granting: &mut FuturesUnordered<impl Future<Output = (usize, Result<Answer, BackendError>)>>,
        mut limit: Pin<&mut Sleep>,
    ) -> Result<(), BackendError> {
        let counts = |vote: &Vote<Answer>| granted(vote).is_some_and(|its| its >= first);
        let behind = |vote: &Vote<Answer>| granted(vote).is_some_and(|its| its < first);
        let mut counting = votes.iter().filter(|vote| counts(vote)).count();
        if counting >= self.counting() {
            return Ok(());
        }
        let last = FencingToken::new(first + u64::from(tokens.get()) - 1);
        let raise = |at: usize| {
            let (shared, resource) = (self.clone(), resource.clone());
            async move { (at, shared.members[at].node.raise(&resource, last).await) }
        };
        let mut raising: FuturesUnordered<_> = (0..votes.len()).filter(|&at| behind(&votes[at])).map(raise).collect();
        let mut raised: Vec<Vote<()>> = votes.iter().map(|_| Vote::None).collect();
        let mut waited = None;
        while counting < self.counting() && !(raising.is_empty() && granting.is_empty()) {
            tokio::select! {
                Some((at, reply)) = raising.next() => {
                    counting += usize::from(reply.is_ok());
                    raised[at] = reply.map_or_else(Vote::Failed, Vote::Answer);
                }
                // A node that comes late is of use too.
                Some((at, reply)) = granting.next() => {
                    self.noticed(Doing::Grant, at, reply.as_ref().err());
                    votes[at] = reply.map_or_else(Vote::Failed, Vote::Answer);
                    counting += usize::from(counts(&votes[at]));
                    if behind(&votes[at]) {
                        raising.push(raise(at));
                    }
                }
                () = limit.as_mut() => {
                    waited = Some(time);
                    break;
                }
            }
        }
        if !raising.is_empty() {
            drop(self.background.spawn(async move { while raising.next().await.is_some() {} }));
        }
        if counting >= self.counting() {
            return Ok(());
        }
        for (vote, raised) in votes.iter().zip(&mut raised) {
            if counts(vote) {
                *raised = Vote::Answer(());
            }
        }
        Err(self.no_quorum("that counts from the token on", &raised, waited, |()| "counts"))
    }

    /// Whether another has some of the nodes, and all that is hoped for are nodes that failed last time. To wait for those
    /// would keep from others what has been granted so far: with one node hung, and two who split the others between
    /// them, both would wait, and again and again.
    fn is_contended(&self, votes: &[Vote<Answer>], yes: usize) -> bool {
        let is_well = |at: usize| !self.members[at].failing[Doing::Grant as usize].load(Ordering::Relaxed);
        let hoped_for = (0..votes.len()).filter(|&at| matches!(votes[at], Vote::None) && is_well(at)).count();
        let refused = |vote: &Vote<Answer>| matches!(vote, Vote::Answer(Answer::Refused { .. }));
        yes + hoped_for < self.options.needed && votes.iter().any(refused)
    }

    /// Undoes an attempt: at once where nodes said yes, in the background where it is unknown.
    async fn undo(
        self: &Arc<Self>,
        resource: &N::Resource,
        identity: Owner,
        ttl: Duration,
        votes: Vec<Vote<Answer>>,
        time: Duration,
    ) {
        let release = |at: usize| {
            let (shared, resource) = (self.clone(), resource.clone());
            async move { (at, shared.members[at].node.release(&resource, identity).await) }
        };
        let mut at_once = FuturesUnordered::new();
        for (at, vote) in votes.into_iter().enumerate() {
            match vote {
                Vote::Answer(answer) if answer.is_to_undo() => at_once.push(release(at)),
                Vote::Failed(error) if error.kind().is_transient() => {
                    self.undo_later(at, resource.clone(), identity, ttl);
                }
                _ => {}
            }
        }
        if at_once.is_empty() {
            return;
        }
        let mut limit = pin!(sleep(time));
        let again = move |shared: &Arc<Self>, at, reply: Result<ReleaseReply, BackendError>, resource: &N::Resource| {
            if reply.is_err_and(|error| error.kind().is_transient()) {
                shared.undo_later(at, resource.clone(), identity, ttl);
            }
        };
        while let Some((at, reply)) = next(&mut at_once, limit.as_mut()).await {
            again(self, at, reply, resource);
        }
        if !at_once.is_empty() {
            let (shared, resource) = (self.clone(), resource.clone());
            drop(self.background.spawn(async move {
                while let Some((at, reply)) = at_once.next().await {
                    again(&shared, at, reply, &resource);
                }
            }));
        }
    }
}

/// When enough nodes will have it free, if nobody renews: those that granted it are free when this is undone.
fn possible_within(votes: &[Vote<Answer>], needed: usize) -> Option<Duration> {
    let mut ends: Vec<Duration> = votes
        .iter()
        .filter_map(|vote| match vote {
            Vote::Answer(Answer::Granted { .. }) => Some(Duration::ZERO),
            Vote::Answer(Answer::Refused { ends_within, .. }) => *ends_within,
            Vote::None | Vote::Failed(_) => None,
        })
        .collect();
    ends.sort_unstable();
    ends.get(needed - 1).copied().filter(|end| !end.is_zero())
}
