//! Commits: in the background as the policy says, and for certain where partitions change hands.
//!
//! librdkafka tells what became of a commit only to those who wait for it (an asynchronous one has no event in rdkafka), and
//! that may take as long as a session. So each is waited for aside, one at a time, and polling goes on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use kafka_offsets::{Commit, Delivery};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::{Engine, NAP, Partition, State};
use crate::metric;
use crate::slot::Slot;

/// How long to wait before a last commit is tried again that failed for a passing reason.
const AGAIN: Duration = Duration::from_millis(10);
/// How long to wait after one that failed, where nothing is committed yet.
const RETRY: Duration = Duration::from_millis(500);
/// How long a commit may take that somebody waits for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// Sends what is due, or all that is done, unless a commit is under way. When the next may be due.
    pub(super) fn commit(&self, all: bool) -> Option<Instant> {
        let now = Instant::now();
        let state = &mut *self.state.lock();
        self.settle(state);
        if state.committing.is_some() {
            state.commit_all |= all;
            return None; // Its end wakes us.
        }
        let all = all || std::mem::take(&mut state.commit_all);
        let mut next: Option<Instant> = None;
        let mut due = TopicPartitionList::new();
        for ours in &mut state.partitions {
            // Where a group begins is written down at once: otherwise one that begins at the end, and dies before its
            // first commit, would begin at a later end.
            let at = if all {
                Some(now)
            } else if !ours.committed && self.writes_down() {
                Some(ours.written_from)
            } else {
                ours.slot.offsets(|tracker| ours.schedule.due_at(tracker)).flatten()
            };
            match at {
                Some(at) if at <= now => self.offer(ours, now, &mut due),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        if due.count() > 0 {
            state.committing = Some(self.send(state, due));
        }
        next
    }

    /// Commits what is done in these slots, and waits for it: the last thing before they change hands. It is tried again as
    /// long as `ours` holds, and until `until`, or for a few seconds at least.
    ///
    /// Whoever leaves in the middle of a rebalance needs that: his request waits behind that to join, which the brokers answer
    /// when all have come, and is then of the past generation.
    pub(super) fn commit_last(&self, slots: &[Arc<Slot>], until: Instant, mut ours: impl FnMut() -> bool) {
        let until = until.max(Instant::now() + PATIENCE);
        let under_way = self.state.lock().committing.take();
        if let Some(under_way) = under_way {
            let result = self.wait(&under_way, until);
            self.note_commit(&mut self.state.lock(), result);
        }
        loop {
            let answer = {
                let state = &mut *self.state.lock();
                let mut all = TopicPartitionList::new();
                let now = Instant::now();
                let is_theirs = |ours: &&mut Partition| slots.iter().any(|slot| Arc::ptr_eq(slot, &ours.slot));
                state.partitions.iter_mut().filter(is_theirs).for_each(|ours| self.offer(ours, now, &mut all));
                if all.count() == 0 {
                    return;
                }
                self.send(state, all)
            };
            let result = self.wait(&answer, until);
            let again = result.as_ref().is_err_and(is_passing);
            self.note_commit(&mut self.state.lock(), result);
            if !again || Instant::now() >= until {
                return;
            }
            std::thread::sleep(AGAIN);
            if !self.pulse.still_alive() || !ours() {
                return;
            }
        }
    }

    /// Commits this one offset, and waits until that is certain.
    pub(super) fn commit_ahead(&self, state: &State, slot: &Slot, offset: i64) -> KafkaResult<()> {
        let mut ahead = TopicPartitionList::new();
        ahead.add_partition_offset(slot.topic(), slot.partition(), Offset::Offset(offset))?;
        self.wait(&self.send(state, ahead), Instant::now() + PATIENCE)
    }

    /// Sends a commit on its way.
    fn send(&self, state: &State, offsets: TopicPartitionList) -> Receiver<KafkaResult<()>> {
        self.aside(state, "commit", move |consumer| consumer.commit(&offsets, CommitMode::Sync))
    }

    /// Waits for what was asked aside; not in a process that stood still meanwhile, which has lost its partitions.
    pub(super) fn wait<T>(&self, answer: &Receiver<KafkaResult<T>>, until: Instant) -> KafkaResult<T> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match answer.recv_timeout(left.min(NAP)) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if !left.is_zero() && self.pulse.still_alive() => {}
                Err(_) => return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut)),
            }
        }
    }

    /// Takes note if the commit under way has come to its end.
    fn settle(&self, state: &mut State) {
        let result = match state.committing.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return,
            Some(Ok(result)) => result,
            Some(Err(TryRecvError::Disconnected)) => Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::Fail)),
        };
        state.committing = None;
        self.note_commit(state, result);
    }

    /// Whether it is for us to write down where a group begins: not if somebody else commits, who finds out by
    /// [`Slot::is_new`].
    fn writes_down(&self) -> bool {
        self.settings.commits.delivered() != Delivery::Transactional
    }

    /// Puts what the partition has to commit on the list.
    fn offer(&self, ours: &mut Partition, now: Instant, list: &mut TopicPartitionList) {
        let Partition { slot, schedule, committed, .. } = ours;
        let commit = slot.offsets(|tracker| {
            // Nothing new, and nothing there at all: where it begins.
            let first = || (!*committed && self.writes_down()).then(|| Commit::of(tracker, 0));
            schedule.offer(now, tracker).or_else(first)
        });
        let Some(commit) = commit.flatten() else { return };
        let mut of_it = list.add_partition(ours.slot.topic(), ours.slot.partition());
        if of_it.set_offset(Offset::Offset(commit.offset)).is_ok() {
            if !commit.metadata.text.is_empty() {
                of_it.set_metadata(&commit.metadata.text);
            }
            ours.sent = Some(commit);
        }
    }

    /// What became of all that was sent.
    fn note_commit(&self, state: &mut State, result: KafkaResult<()>) {
        let now = Instant::now();
        let settled = state.partitions.iter_mut().filter_map(|ours| ours.sent.take().map(|sent| (ours, sent)));
        for (ours, sent) in settled {
            if result.is_ok() {
                ours.committed = true;
                ours.schedule.committed(&sent);
            } else {
                ours.schedule.failed(&sent, now);
                ours.written_from = now + RETRY;
            }
        }
        let name = match result {
            Ok(()) => metric::COMMITS,
            Err(error) => {
                tracing::warn!(%error, "not committed; it is tried again while the partitions are ours");
                metric::COMMITS_FAILED
            }
        };
        metric::of_group(name, &self.settings.group).increment(1);
    }
}

/// Whether it may pass by itself while the partitions are ours.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable, IllegalGeneration, NotCoordinator,
        OperationTimedOut, RebalanceInProgress, RequestTimedOut, StaleMemberEpoch, WaitingForCoordinator,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            BrokerTransportFailure
                | CoordinatorLoadInProgress
                | CoordinatorNotAvailable
                | IllegalGeneration
                | NotCoordinator
                | OperationTimedOut
                | RebalanceInProgress
                | RequestTimedOut
                | StaleMemberEpoch
                | WaitingForCoordinator
        )
    )
}
