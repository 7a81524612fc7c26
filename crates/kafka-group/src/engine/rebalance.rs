//! Partitions come and go: assigned, revoked, lost, and given up at the end of a run.
//!
//! Revoked: begin nothing more, wait for what is begun, commit what is done, and only then let go. Lost: others may have
//! them already, so nothing is waited for and nothing committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use kafka_offsets::{CommitSchedule, Completions, OffsetTracker, Reason, StartFrom, metadata};
use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::{Brim, End, Engine, NAP, Partition, Progress, State, introduce, list};
use crate::error::RunError;
use crate::metric;
use crate::slot::Slot;
use crate::status::Membership;

/// How long one question to the brokers may take.
const ANSWER: Duration = Duration::from_secs(5);

/// What the brokers know of a partition: what the group committed, and what is there.
struct Known {
    committed: Option<(i64, String)>,
    /// Its lowest offset and its end, where they are needed. The question is answered by the partition's leader only after
    /// a fetch that waits for records there, so it is not asked without need.
    range: Option<(i64, i64)>,
}

impl Engine {
    /// The group gives us partitions.
    pub(super) fn assigned(&self, consumer: &BaseConsumer<Context>, given: &TopicPartitionList) {
        let until = Instant::now() + (self.settings.max_poll_interval / 2).min(ANSWER * 6);
        let leaving = self.state.lock().membership == Membership::Leaving;
        let known = loop {
            let asked = given.clone();
            let answer = self.aside(&self.state.lock(), "committed", move |consumer| ask(consumer, asked));
            match self.wait(&answer, Instant::now() + ANSWER * 3) {
                _ if leaving || !self.pulse.still_alive() => break HashMap::new(),
                Ok(known) => break known,
                Err(error) if Instant::now() < until && !self.shutdown.is_begun() => {
                    tracing::info!(%error, "the brokers do not say yet where the group was");
                    park_timeout(NAP);
                }
                Err(error) => {
                    self.state.lock().end = Some(End::Rebuild(error));
                    break HashMap::new();
                }
            }
        };
        let mut state = self.state.lock();
        self.in_reach(&mut state);
        let mut from = TopicPartitionList::new();
        let mut new = Vec::new();
        for element in given.elements() {
            let (topic, partition) = (Arc::from(element.topic()), element.partition());
            let Some(known) = known.get(&(element.topic().to_owned(), partition)) else { continue };
            match self.begin(&mut state, topic, partition, known) {
                Ok(ours) => {
                    let offset = ours.slot.commit_point().map_or(Offset::Stored, Offset::Offset);
                    // The topic's name and the offset come from librdkafka itself.
                    let _ = from.add_partition_offset(ours.slot.topic(), partition, offset);
                    new.push(ours);
                }
                Err(error) => state.end = Some(End::Failed(error)),
            }
        }
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if cooperative { consumer.incremental_assign(&from) } else { consumer.assign(&from) };
        if let Err(error) = done {
            state.end = Some(End::Rebuild(error));
            return;
        }
        tracing::info!(partitions = ?new.iter().map(|ours| &ours.slot).collect::<Vec<_>>(), "assigned");
        for ours in new {
            if let Some(scheduler) = &mut state.scheduler {
                scheduler.assigned(&ours.slot);
            }
            state.partitions.push(ours);
        }
        if !leaving {
            state.membership = if state.partitions.is_empty() { Membership::Idle } else { Membership::Working };
        }
        self.tell(&mut state);
    }

    /// Which of our partitions is not where its group was, after the client has found one.
    pub(super) fn out_of_range(&self, consumer: &BaseConsumer<Context>) -> RunError {
        let slots: Vec<_> = self.state.lock().partitions.iter().map(|ours| ours.slot.clone()).collect();
        let ranges = ranges(consumer, &list(&slots)).unwrap_or_default();
        let refused = slots.iter().find_map(|slot| {
            let (low, high) = ranges.get(&(slot.topic().to_string(), slot.partition()))?;
            let (topic, partition) = (slot.topic().clone(), slot.partition());
            let source = self.settings.start.decide(slot.commit_point(), *low, *high).err()?;
            Some(RunError::NowhereToStart { topic, partition, source })
        });
        refused.unwrap_or(RunError::OutOfRange)
    }

    fn begin(&self, state: &mut State, topic: Arc<str>, partition: i32, known: &Known) -> Result<Partition, RunError> {
        let epoch = state.next_epoch();
        let (from, high) = match (&known.committed, known.range) {
            // Whether it is in range shows with the first fetch.
            (Some((offset, _)), None) => (StartFrom { offset: *offset, reason: Reason::Committed }, None),
            (committed, range) => {
                let (low, high) = range.unwrap_or_default();
                let from = self.settings.start.decide(committed.as_ref().map(|(offset, _)| *offset), low, high);
                let refused = |source| RunError::NowhereToStart { topic: topic.clone(), partition, source };
                (from.map_err(refused)?, Some(high))
            }
        };
        let mut earlier = Completions::none(from.offset);
        match (&from.reason, &known.committed, high) {
            (Reason::Committed, Some((offset, text)), Some(high)) => match metadata::decode(*offset, text) {
                Ok(found) => {
                    earlier = found;
                    earlier.truncate(high);
                }
                Err(ignored) => {
                    tracing::warn!(topic = &*topic, partition, %ignored, "the commit's metadata tells nothing; what was done beyond it is done again");
                    metric::of_group(metric::METADATA_IGNORED, &self.settings.group).increment(1);
                }
            },
            (Reason::Committed, ..) => {}
            (Reason::WithoutCommit, ..) => {
                tracing::info!(topic = &*topic, partition, from = from.offset, "nothing is committed yet");
            }
            (reason, ..) => {
                tracing::warn!(
                    topic = &*topic,
                    partition,
                    ?reason,
                    from = from.offset,
                    "not begun where the group was"
                );
            }
        }
        let tracker = OffsetTracker::resume(epoch, from.offset, &earlier);
        let committed = from.reason == Reason::Committed;
        let ours = self.partition(topic, partition, tracker, Instant::now());
        if committed {
            ours.slot.note_committed(from.offset);
        }
        Ok(Partition { end: high, committed, ..ours })
    }

    /// A partition that begins where its tracker does.
    pub(super) fn partition(&self, topic: Arc<str>, partition: i32, tracker: OffsetTracker, now: Instant) -> Partition {
        let (epoch, start) = (tracker.epoch(), tracker.commit_point());
        Partition {
            slot: Arc::new(Slot::new(topic, partition, epoch, tracker, self.pulse.clone())),
            taking: false,
            schedule: CommitSchedule::new(self.settings.commits.clone(), epoch, start, now),
            committed: false,
            written_from: now,
            sent: None,
            paused: false,
            brim: Brim { full: false, looked: now },
            held: false,
            end: None,
            caught_up: false,
            progress: Progress { done: 0, commit_point: start, since: now },
            stalled: false,
        }
    }

    /// Begins partitions of ours again where the group has committed.
    pub(super) fn reload(&self, consumer: &BaseConsumer<Context>, slots: &[Arc<Slot>]) {
        let open: Vec<_> = {
            let mut state = self.state.lock();
            slots.iter().filter(|slot| state.of(slot).is_some()).cloned().collect()
        };
        let asked = list(&open);
        let answer = self.aside(&self.state.lock(), "committed", move |consumer| ask(consumer, asked));
        let known = match self.wait(&answer, Instant::now() + ANSWER * 3) {
            Ok(known) => known,
            Err(error) => {
                tracing::info!(%error, "the brokers do not say where the group was; its partitions are asked for anew");
                self.state.lock().end = Some(End::Rebuild(error));
                return;
            }
        };
        let state = &mut *self.state.lock();
        for slot in open {
            let Some(known) = known.get(&(slot.topic().to_string(), slot.partition())) else { continue };
            match self.begin(state, slot.topic().clone(), slot.partition(), known) {
                Ok(new) => self.replace(state, consumer, &slot, new),
                Err(error) => state.end = Some(End::Failed(error)),
            }
        }
    }

    /// The group takes partitions back.
    pub(super) fn revoked(&self, consumer: &BaseConsumer<Context>, taken: &TopicPartitionList) {
        let slots = self.theirs(taken);
        tracing::info!(partitions = ?slots, "revoked");
        let limit = self.settings.drain_timeout.min(self.settings.max_poll_interval / 2);
        let ours = || !consumer.assignment_lost();
        if self.drain(consumer, &slots, limit, ours) {
            self.commit_last(&slots, Instant::now(), ours);
        }
        self.let_go(consumer, taken, &slots);
    }

    /// The group has given them to others.
    pub(super) fn lost(&self, consumer: &BaseConsumer<Context>, taken: &TopicPartitionList) {
        let slots = self.theirs(taken);
        tracing::warn!(partitions = ?slots, "lost: what was not committed is worked on again by others");
        metric::of_group(metric::LOST, &self.settings.group).increment(slots.len() as u64);
        self.let_go(consumer, taken, &slots);
    }

    fn let_go(&self, consumer: &BaseConsumer<Context>, taken: &TopicPartitionList, slots: &[Arc<Slot>]) {
        let mut state = self.state.lock();
        // librdkafka lets them rest for ever otherwise, if they come back to this consumer.
        let is_theirs = |ours: &&Partition| slots.iter().any(|slot| Arc::ptr_eq(slot, &ours.slot));
        let resting = state.partitions.iter().filter(|ours| ours.paused || ours.held).filter(is_theirs);
        let resting = list(resting.map(|ours| &ours.slot));
        if resting.count() > 0
            && let Err(error) = consumer.resume(&resting)
        {
            tracing::warn!(%error, "partitions that rested could not be resumed before they are let go");
        }
        slots.iter().for_each(|slot| self.close(&mut state, slot));
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if cooperative { consumer.incremental_unassign(taken) } else { consumer.unassign() };
        if let Err(error) = done {
            tracing::debug!(%error, "nothing to let go");
        }
        if state.partitions.is_empty() && state.membership != Membership::Leaving {
            state.membership = Membership::Joining;
        }
        self.tell(&mut state);
    }

    /// Waits until nothing of these slots is at work, for `limit` at most and while `ours` holds; then handlers are
    /// dropped. Whether it held to the end.
    fn drain(
        &self,
        consumer: &BaseConsumer<Context>,
        slots: &[Arc<Slot>],
        limit: Duration,
        mut ours: impl FnMut() -> bool,
    ) -> bool {
        {
            let mut state = self.state.lock();
            for slot in slots {
                slot.drain();
                if let Some(scheduler) = &mut state.scheduler {
                    scheduler.draining(slot);
                }
            }
        }
        let begun = Instant::now();
        while ours() {
            let spent = begun.elapsed();
            if spent >= limit || slots.iter().all(|slot| slot.is_drained()) {
                return ours();
            }
            let cancel_at = limit.mul_f64(0.8);
            let next = if spent < cancel_at { cancel_at - spent } else { limit - spent };
            if spent >= cancel_at {
                slots.iter().for_each(|slot| slot.cancel());
            }
            // A last transaction needs to say who we are.
            self.control.take_introductions().into_iter().for_each(|answer| introduce(consumer, answer));
            park_timeout(next.min(NAP));
            // A process that stood still has lost them.
            if !self.pulse.still_alive() {
                break;
            }
        }
        false
    }

    /// At the end of a consumer: drains and commits what it has, or gives it up as lost.
    pub(super) fn give_all_up(&self, consumer: &BaseConsumer<Context>, end: &End) {
        if matches!(end, End::Rebuild(_)) {
            self.lose_all();
            return;
        }
        let slots: Vec<_> = {
            let mut state = self.state.lock();
            state.membership = Membership::Leaving;
            state.partitions.iter().for_each(|ours| ours.slot.drain());
            self.tell(&mut state);
            state.partitions.iter().map(|ours| ours.slot.clone()).collect()
        };
        // Nothing more is taken, and polling goes on, since it may take longer than the longest poll interval.
        let rests = consumer.assignment().and_then(|all| consumer.pause(&all));
        let mut ours = || {
            // A record is not worked on any more, so it is delivered again.
            if let Some(Err(KafkaError::MessageConsumptionFatal(_))) = consumer.poll(Duration::ZERO) {
                return false;
            }
            rests.is_ok() && !consumer.assignment_lost()
        };
        let until = Instant::now() + self.shutdown.limit();
        if self.drain(consumer, &slots, self.shutdown.limit(), &mut ours) {
            self.commit_last(&slots, until, ours);
        }
        let mut state = self.state.lock();
        slots.iter().for_each(|slot| self.close(&mut state, slot));
    }

    /// Closes everything as lost.
    pub(super) fn lose_all(&self) {
        let mut state = self.state.lock();
        let slots: Vec<_> = state.partitions.iter().map(|ours| ours.slot.clone()).collect();
        metric::of_group(metric::LOST, &self.settings.group).increment(slots.len() as u64);
        slots.iter().for_each(|slot| self.close(&mut state, slot));
        state.membership = Membership::Joining;
        self.tell(&mut state);
    }

    /// Closes a slot and takes it out of the books. Handlers that are still at work have a fifth of the drain limit, if
    /// they were not told before.
    pub(super) fn close(&self, state: &mut State, slot: &Arc<Slot>) {
        let told = slot.cancelled().is_cancelled();
        let left = slot.close();
        let done = slot.done_count();
        metric::done(slot.topic())
            .increment(done.saturating_sub(state.of(slot).map_or(done, |ours| ours.progress.done)));
        metric::handed_back(slot.topic()).increment(left.records);
        state.report.done += done;
        state.report.handed_back += left.records;
        if let Some(scheduler) = &mut state.scheduler {
            scheduler.closed(slot);
        }
        let grace = if told { Duration::ZERO } else { self.settings.drain_timeout / 5 };
        if slot.is_drained() || grace.is_zero() {
            slot.abandon();
        } else {
            state.abandon.push((Instant::now() + grace, slot.clone()));
        }
        state.partitions.retain(|ours| !Arc::ptr_eq(&ours.slot, slot));
    }

    fn theirs(&self, taken: &TopicPartitionList) -> Vec<Arc<Slot>> {
        let state = self.state.lock();
        let is_taken = |slot: &&Arc<Slot>| taken.find_partition(slot.topic(), slot.partition()).is_some();
        state.partitions.iter().map(|ours| &ours.slot).filter(is_taken).cloned().collect()
    }
}

/// Where the group was in these partitions, and what is there.
fn ask(consumer: &BaseConsumer<Context>, mut asked: TopicPartitionList) -> KafkaResult<HashMap<(String, i32), Known>> {
    if asked.count() == 0 {
        return Ok(HashMap::new());
    }
    asked.set_all_offsets(Offset::Invalid)?;
    let answered = consumer.committed_offsets(asked, ANSWER)?;
    let mut known = HashMap::new();
    let mut unclear = TopicPartitionList::new();
    for element in answered.elements() {
        element.error()?;
        let committed = match element.offset() {
            Offset::Offset(offset) => {
                // rdkafka panics where metadata is not UTF-8, and then it is not ours.
                let text = std::panic::catch_unwind(|| element.metadata().to_owned());
                Some((offset, text.unwrap_or_else(|_| "?".to_owned())))
            }
            _ => None,
        };
        if committed.as_ref().is_none_or(|(_, text)| !text.is_empty()) {
            unclear.add_partition(element.topic(), element.partition());
        }
        known.insert((element.topic().to_owned(), element.partition()), Known { committed, range: None });
    }
    for (place, range) in ranges(consumer, &unclear)? {
        if let Some(known) = known.get_mut(&place) {
            known.range = Some(range);
        }
    }
    Ok(known)
}

/// The lowest offset and the end of these partitions.
fn ranges(
    consumer: &BaseConsumer<Context>,
    list: &TopicPartitionList,
) -> KafkaResult<HashMap<(String, i32), (i64, i64)>> {
    if list.count() == 0 {
        return Ok(HashMap::new());
    }
    let at = |logical: Offset| {
        let mut asked = list.clone();
        asked.set_all_offsets(logical)?;
        let found = consumer.offsets_for_times(asked, ANSWER)?;
        offsets_of(&found)
    };
    let (lows, mut highs) = (at(Offset::Beginning)?, at(Offset::End)?);
    Ok(lows.into_iter().filter_map(|(place, low)| highs.remove(&place).map(|high| (place, (low, high)))).collect())
}

fn offsets_of(list: &TopicPartitionList) -> KafkaResult<HashMap<(String, i32), i64>> {
    let mut offsets = HashMap::new();
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert((element.topic().to_owned(), element.partition()), offset);
        }
    }
    Ok(offsets)
}
