//! Records in, and how fast: what is polled is gathered by partition, submitted, and held back where too much is in hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use kafka_offsets::{Delivery, OffsetTracker, metadata};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::context::Context;
use super::{End, Engine, Partition, State, introduce, list};
use crate::record::Fetched;
use crate::slot::{Amount, Slot};

/// How many records are taken in one turn, and how many bytes, but for the last record's.
const BATCH: (usize, usize) = (1024, 1 << 20);
/// How long to wait for the workers, before the fetching of a partition rests that makes no progress: librdkafka throws away
/// what it has fetched ahead of a partition that rests, and fetches all of it again.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long at most if it does.
const LONGEST: Duration = Duration::from_millis(200);

/// How often it is looked at how much is done beyond the commit point.
const LOOK: Duration = Duration::from_millis(50);

/// What was taken in this turn.
#[derive(Default)]
pub(super) struct Taken {
    lots: Vec<Lot>,
    /// Where the last record belonged, which is where the next one most likely does.
    hint: usize,
    /// The sizes of the last lot.
    sizes: (usize, usize),
}

/// What was taken of one partition.
struct Lot {
    /// Where librdkafka keeps the topic: told apart quicker than by names, and good for as long as no callback was served.
    topic: usize,
    partition: i32,
    /// None if it is not ours.
    slot: Option<Arc<Slot>>,
    fetched: Fetched,
}

impl Taken {
    fn find(&mut self, topic: usize, partition: i32) -> Option<&mut Lot> {
        let is = |lot: &Lot| lot.topic == topic && lot.partition == partition;
        if !self.lots.get(self.hint).is_some_and(is) {
            self.hint = self.lots.iter().position(is)?;
        }
        self.lots.get_mut(self.hint)
    }
}

impl Engine {
    /// Takes what has arrived; whether there may be more.
    pub(super) fn poll(&self, consumer: &BaseConsumer<Context>, taken: &mut Taken) -> Result<bool, End> {
        let (mut records, mut bytes) = (0, 0);
        while records < BATCH.0 && bytes < BATCH.1 {
            match consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    records += 1;
                    bytes += message.key_len() + message.payload_len();
                    // Only compared: nothing is read from there.
                    let (topic, partition) = (message.topic_ptr() as usize, message.partition());
                    let lot = match taken.find(topic, partition) {
                        Some(lot) => lot,
                        None => self.lot(taken, topic, &message),
                    };
                    // Of a partition that was just given up: it is delivered again, to whoever has it.
                    if lot.slot.is_some() {
                        lot.fetched.copy(&message, self.settings.headers);
                    }
                }
                Some(Err(error)) => self.judge(consumer, error)?,
                // Partitions may have changed hands: what was taken before is submitted first.
                None if self.served.swap(false, Ordering::Relaxed) => return Ok(true),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Begins to take of a partition.
    fn lot<'a>(&self, taken: &'a mut Taken, topic: usize, message: &BorrowedMessage<'_>) -> &'a mut Lot {
        let slot = self.state.lock().find(message.topic(), message.partition()).map(|ours| {
            ours.taking = true;
            ours.slot.clone()
        });
        let (records, bytes) = taken.sizes;
        let fetched = Fetched::with_capacity(records, bytes);
        taken.hint = taken.lots.len();
        taken.lots.push(Lot { topic, partition: message.partition(), slot, fetched });
        &mut taken.lots[taken.hint]
    }

    /// Hands what was taken to the scheduler.
    pub(super) fn submit(&self, consumer: &BaseConsumer<Context>, taken: &mut Taken) {
        let state = &mut *self.state.lock();
        let at_most_once = self.settings.commits.delivered() == Delivery::AtMostOnce;
        let mut over = false;
        let mut again = Vec::new();
        for Lot { slot, mut fetched, .. } in taken.lots.drain(..) {
            let Some(slot) = slot else { continue };
            taken.sizes = fetched.len();
            let Some(ours) = state.of(&slot) else { continue };
            ours.taking = false;
            if slot.take(&mut fetched).is_none() {
                again.extend(fetched.first().map(|first| (slot, first)));
                continue;
            }
            // Committed before it is worked on; if that fails, it is fetched again.
            if at_most_once && !self.commits_ahead(state, &slot) {
                again.extend(state.of(&slot).map(|ours| (slot, ours.schedule.confirmed())));
                continue;
            }
            if let Some(scheduler) = state.scheduler.as_mut().filter(|_| !fetched.is_empty()) {
                scheduler.submit(&slot, fetched.finish(&slot));
                over |= !slot.in_hand().within(self.share(state, false));
            }
        }
        for (slot, offset) in again {
            tracing::warn!(?slot, offset, "the partition starts again from an earlier offset");
            self.restart(state, consumer, &slot, offset);
        }
        if over {
            self.hold_back(state, consumer);
        }
    }

    /// Commits beyond what was taken of a partition; whether that is certain.
    fn commits_ahead(&self, state: &mut State, slot: &Arc<Slot>) -> bool {
        let now = Instant::now();
        let Some(ours) = state.of(slot) else { return false };
        let Some(commit) = slot.offsets(|tracker| ours.schedule.offer(now, tracker)).flatten() else { return true };
        let result = self.commit_ahead(state, slot, commit.offset);
        let Some(ours) = state.of(slot) else { return false };
        match &result {
            Ok(()) => {
                ours.schedule.committed(&commit);
                ours.committed = true;
            }
            Err(error) => {
                ours.schedule.failed(&commit, now);
                tracing::warn!(%error, ?slot, "not committed, so not worked on yet");
            }
        }
        result.is_ok()
    }

    /// Waits a moment for the workers; then lets partitions rest of which too much is still in hand.
    fn hold_back(&self, state: &mut State, consumer: &BaseConsumer<Context>) {
        let full = self.share(state, false);
        let enough = Amount { records: full.records * 3 / 4, bytes: full.bytes / 4 * 3 };
        let is_over = |ours: &&mut Partition| !ours.paused && !ours.slot.in_hand().within(full);
        let waits_for: Vec<_> = state.partitions.iter_mut().filter(is_over).map(|ours| ours.slot.clone()).collect();
        let in_hand = || waits_for.iter().map(|slot| slot.in_hand().records).sum::<u64>();
        let (begun, mut slice, mut before) = (Instant::now(), Instant::now(), in_hand());
        while waits_for.iter().any(|slot| slot.is_active() && slot.wake_at(enough)) {
            park_timeout(PATIENCE.saturating_sub(slice.elapsed()));
            // What is to become less may wait for that.
            self.control.take_introductions().into_iter().for_each(|answer| introduce(consumer, answer));
            if slice.elapsed() >= PATIENCE {
                // At this pace there is enough room before the longest wait is over.
                let now = in_hand();
                if begun.elapsed() >= LONGEST || now > before - before / 40 {
                    break;
                }
                (slice, before) = (Instant::now(), now);
            }
        }
        let full: Vec<_> = state.partitions.iter_mut().filter(is_over).collect();
        if !full.is_empty() && said(consumer.pause(&list(full.iter().map(|ours| &ours.slot)))) {
            full.into_iter().for_each(|ours| ours.paused = true);
        }
    }

    /// Lets partitions go on of which little enough is in hand.
    pub(super) fn regulate(&self, consumer: &BaseConsumer<Context>) {
        let state = &mut *self.state.lock();
        self.look_at_metadata(state, consumer);
        let Amount { records, bytes } = self.share(state, true);
        let mark = Amount { records: records / 2, bytes: bytes / 2 };
        let goes_on = |ours: &&mut Partition| ours.paused && !ours.slot.wake_at(mark) && !ours.brim.full;
        let light: Vec<_> = state.partitions.iter_mut().filter(goes_on).collect();
        let resting = light.iter().filter(|ours| !ours.held).map(|ours| &ours.slot);
        // Only those that were paused here: librdkafka#2593.
        if !light.is_empty() && said(consumer.resume(&list(resting))) {
            light.into_iter().for_each(|ours| ours.paused = false);
        }
    }

    /// Lets partitions rest of which so much is done beyond the commit point that it would soon not fit into the commits'
    /// metadata any more, until it has become less.
    fn look_at_metadata(&self, state: &mut State, consumer: &BaseConsumer<Context>) {
        let (now, limit) = (Instant::now(), self.settings.commits.max_metadata());
        let mut full = Vec::new();
        for ours in &mut state.partitions {
            if now.saturating_duration_since(ours.brim.looked) < LOOK || limit == 0 {
                continue;
            }
            ours.brim.looked = now;
            let mark = if ours.brim.full { limit / 2 } else { limit / 4 * 3 };
            // One bit an offset always does: six to a character.
            let beyond = |tracker: &OffsetTracker| match tracker.next_fetch().abs_diff(tracker.commit_point()) / 6 {
                at_most if at_most < mark as u64 / 2 => 0,
                _ => metadata::encode(&tracker.completions(), limit).text.len(),
            };
            ours.brim.full = ours.slot.offsets(beyond).is_some_and(|bytes| bytes >= mark);
            if ours.brim.full && !ours.paused {
                full.push(ours);
            }
        }
        if !full.is_empty() && said(consumer.pause(&list(full.iter().map(|ours| &ours.slot)))) {
            for ours in full {
                tracing::info!(slot = ?ours.slot, "too much is done beyond the commit point; fetching rests");
                ours.paused = true;
            }
        }
    }

    /// How much of one partition may be in hand: no more than an even share of all, if all is too much or it is asked for.
    fn share(&self, state: &State, even: bool) -> Amount {
        let (each, Some(all)) = (self.settings.budget, self.settings.total_budget) else { return self.settings.budget };
        let in_hand = state.partitions.iter().map(|ours| ours.slot.in_hand());
        let sum = in_hand.fold(Amount { records: 0, bytes: 0 }, |sum, one| Amount {
            records: sum.records + one.records,
            bytes: sum.bytes + one.bytes,
        });
        if !even && sum.within(all) {
            return each;
        }
        let partitions = state.partitions.len().max(1) as u64;
        Amount { records: each.records.min(all.records / partitions), bytes: each.bytes.min(all.bytes / partitions) }
    }

    /// The scheduler wants a partition's fetching to rest, or to go on.
    pub(super) fn hold(&self, consumer: &BaseConsumer<Context>, slot: &Arc<Slot>, rest: bool) {
        let mut state = self.state.lock();
        let Some(ours) = state.of(slot).filter(|ours| ours.held != rest) else { return };
        let list = list([slot]);
        let done = match (rest, ours.paused) {
            (_, true) => true,
            (true, false) => said(consumer.pause(&list)),
            (false, false) => said(consumer.resume(&list)),
        };
        if done {
            ours.held = rest;
        }
        self.tell(&mut state);
    }

    /// Closes the slot and fetches its partition again from `offset`, as a new one.
    pub(super) fn restart(&self, state: &mut State, consumer: &BaseConsumer<Context>, slot: &Arc<Slot>, offset: i64) {
        let Some(ours) = state.of(slot) else { return };
        let (end, committed, said) = (ours.end, ours.committed, ours.slot.committed());
        let tracker = OffsetTracker::new(state.next_epoch(), offset);
        let mut new = self.partition(slot.topic().clone(), slot.partition(), tracker, Instant::now());
        (new.end, new.committed) = (end, committed);
        said.into_iter().for_each(|offset| new.slot.note_committed(offset));
        self.replace(state, consumer, slot, new);
    }

    /// Closes the slot, and fetches its partition again from where `new` begins.
    pub(super) fn replace(
        &self,
        state: &mut State,
        consumer: &BaseConsumer<Context>,
        slot: &Arc<Slot>,
        new: Partition,
    ) {
        let (Some(ours), Some(offset)) = (state.of(slot), new.slot.commit_point()) else { return };
        let mut from = TopicPartitionList::new();
        let resumed = if ours.paused || ours.held { consumer.resume(&list([slot])) } else { Ok(()) };
        let sought = resumed
            .and_then(|()| from.add_partition_offset(slot.topic(), slot.partition(), Offset::Offset(offset)))
            .and_then(|()| consumer.seek_partitions(from, Duration::from_secs(5)));
        if let Err(error) = sought {
            state.end = Some(End::Rebuild(error));
            return;
        }
        self.close(state, slot);
        if let Some(scheduler) = &mut state.scheduler {
            scheduler.assigned(&new.slot);
        }
        state.partitions.push(new);
    }
}

fn said(result: Result<(), KafkaError>) -> bool {
    if let Err(error) = &result {
        tracing::warn!(%error, "a partition could not be paused or resumed; it is tried again");
    }
    result.is_ok()
}
