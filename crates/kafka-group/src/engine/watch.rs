//! The watchdog, and what is told of where things stand.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kafka_offsets::OffsetTracker;
use serde::Deserialize;

use super::{Engine, Partition, Progress, State};
use crate::builder::Protocol;
use crate::metric;
use crate::scheduler::Scheduler;
use crate::status::{Membership, PartitionStatus, Stall, StallReason, Status};

/// How often progress is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// The statistics come each second, and one may be late.
const CUT_OFF: Duration = Duration::from_millis(2500);
/// What librdkafka calls its connection to the group's coordinator.
const COORDINATOR: &str = "GroupCoordinator";
/// After so many microseconds a connection is not just being made.
const SETTLED: i64 = 500_000;
/// And after so many it is the one that the statistics before these spoke of.
const THE_SAME: i64 = 1_200_000;

/// What is read of librdkafka's statistics.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
    #[serde(default)]
    topics: HashMap<String, Topic>,
    cgrp: Option<Group>,
}

#[derive(Deserialize)]
struct Broker {
    /// Negative for addresses of which it is not known yet which broker answers there.
    nodeid: i32,
    state: String,
    /// Since when, in microseconds.
    #[serde(default)]
    stateage: i64,
    /// How many answers have come.
    #[serde(default)]
    rx: u64,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: HashMap<i32, Ends>,
}

/// What has come from a coordinator that was out of reach, since it is connected again.
#[derive(Clone, Copy)]
pub(super) enum Heard {
    Nothing,
    /// Nothing since there were so many answers.
    Before(u64),
    Answer,
}

/// The end of a partition, for those who read everything and for those who read what is committed.
#[derive(Deserialize)]
struct Ends {
    #[serde(default)]
    hi_offset: i64,
    #[serde(default)]
    ls_offset: i64,
    /// What is to be fetched next. Not for commits: it may be ahead of what has reached us.
    #[serde(default)]
    next_offset: i64,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    state: String,
    #[serde(default)]
    join_state: String,
    #[serde(default)]
    assignment_size: i64,
}

impl Engine {
    /// librdkafka's statistics, each second.
    pub(super) fn note_statistics(&self, json: &[u8]) {
        let statistics: Statistics = match serde_json::from_slice(json) {
            Ok(statistics) => statistics,
            Err(error) => {
                tracing::debug!(%error, "statistics that cannot be read");
                return;
            }
        };
        let mut state = self.state.lock();
        for ours in &mut state.partitions {
            let ends = statistics
                .topics
                .get(&**ours.slot.topic())
                .and_then(|topic| topic.partitions.get(&ours.slot.partition()));
            let Some(ends) = ends else { continue };
            let end = if ends.ls_offset >= 0 { ends.ls_offset.min(ends.hi_offset) } else { ends.hi_offset };
            if end >= 0 {
                ours.end = Some(end);
                ours.caught_up = ends.next_offset >= end;
            }
        }
        if statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP") {
            state.trouble = None;
        }
        if statistics.brokers.get(COORDINATOR).is_none_or(|coordinator| self.is_in_reach(&mut state, coordinator)) {
            self.in_reach(&mut state);
        }
        let without = statistics.cgrp.as_ref().is_some_and(|group| group.state == "up" && group.assignment_size == 0);
        state.without = if without { state.without + 1 } else { 0 };
        // With KIP-848 the client does not say that it has joined: brokers assign at the first heartbeat if they have
        // something to assign.
        let steady = match self.settings.protocol {
            Protocol::Consumer => state.without >= 2,
            _ => without && statistics.cgrp.is_some_and(|group| group.join_state == "steady"),
        };
        if steady && state.membership == Membership::Joining {
            tracing::info!("idle: there are more members than partitions");
            state.membership = Membership::Idle;
        }
        self.tell(&mut state);
    }

    /// Whether its connection stands. After it was out of reach for long, it also has to have answered on this connection, and
    /// time enough to have passed to act upon the answer: that the session is over, perhaps.
    fn is_in_reach(&self, state: &mut State, coordinator: &Broker) -> bool {
        let is_up = coordinator.state == "UP";
        if !self.pulse.is_cut_off() {
            return is_up && coordinator.stateage >= SETTLED;
        }
        if !is_up || coordinator.stateage < THE_SAME {
            state.heard = Heard::Nothing;
            return false;
        }
        let answers = coordinator.rx;
        match state.heard {
            Heard::Nothing => state.heard = Heard::Before(answers),
            Heard::Before(before) if answers > before => state.heard = Heard::Answer,
            Heard::Before(_) => {}
            Heard::Answer => return true,
        }
        false
    }

    /// The group's coordinator was heard of just now.
    pub(super) fn in_reach(&self, state: &mut State) {
        state.reached = Instant::now();
        state.heard = Heard::Nothing;
        if self.pulse.cut_off(false) {
            tracing::info!("the group's coordinator is in reach again");
        }
    }

    /// Looks after stalls, and after handlers whose time is over.
    pub(super) fn watch(&self) {
        let state = &mut *self.state.lock();
        let now = Instant::now();
        if now.saturating_duration_since(state.watched) < EVERY {
            return;
        }
        state.watched = now;
        let limit = self.settings.session_timeout.mul_f64(0.7).max(CUT_OFF);
        if now.saturating_duration_since(state.reached) >= limit && self.pulse.cut_off(true) {
            tracing::warn!("the group's coordinator is out of reach for as long as a session; nothing new is begun");
        }
        state.abandon.retain(|(at, slot)| {
            let stays = *at > now && !slot.is_drained();
            if !stays {
                slot.abandon();
            }
            stays
        });
        let limit = self.settings.stalled_after;
        let (mut news, mut moved) = (false, false);
        for ours in &mut state.partitions {
            let done = ours.slot.done_count();
            let before = &mut ours.progress;
            metric::done(ours.slot.topic()).increment(done - before.done);
            moved |= done != before.done;
            before.done = done;
            let commit_point = ours.slot.commit_point().unwrap_or_default();
            if commit_point != ours.progress.commit_point || !has_work(ours) {
                ours.progress = Progress { done, commit_point, since: now };
                if std::mem::take(&mut ours.stalled) {
                    tracing::info!(slot = ?ours.slot, "goes on");
                    news = true;
                }
            } else if !ours.stalled && now.saturating_duration_since(ours.progress.since) >= limit {
                ours.stalled = true;
                news = true;
                metric::of_group(metric::STALLS, &self.settings.group).increment(1);
                let reason = why(ours, &mut state.scheduler);
                tracing::warn!(slot = ?ours.slot, after = ?limit, %reason, "no progress");
            }
        }
        if moved && state.trouble.take().is_some() {
            news = true;
        }
        if news {
            self.tell(state);
        }
    }

    /// Tells whoever listens.
    pub(super) fn tell(&self, state: &mut State) {
        let now = Instant::now();
        let mut partitions: Vec<_> =
            state.partitions.iter().map(|ours| status_of(ours, &mut state.scheduler, now)).collect();
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        for one in &partitions {
            metric::lag(&one.topic, one.partition).set(one.lag.unwrap_or_default() as f64);
            metric::in_hand(&one.topic, one.partition).set(one.in_hand.records as f64);
        }
        let status = Status { membership: state.membership, partitions, trouble: state.trouble.clone() };
        self.status.send_if_modified(|told| {
            let news = *told != status;
            *told = status;
            news
        });
    }
}

fn has_work(ours: &Partition) -> bool {
    ours.slot.in_hand().records > 0 || lag(ours).is_some_and(|lag| lag > 0)
}

/// Nothing once all that can be fetched was fetched and is done: what lies between that and the end is no record
/// (a transaction's marker, for example).
fn lag(ours: &Partition) -> Option<i64> {
    let nothing = ours.caught_up && !ours.taking && ours.slot.in_hand().records == 0;
    if nothing { Some(0) } else { Some((ours.end? - ours.slot.commit_point()?).max(0)) }
}

fn why(ours: &Partition, scheduler: &mut Option<Box<dyn Scheduler>>) -> StallReason {
    let Some(offset) = ours.slot.offsets(OffsetTracker::oldest_incomplete).flatten() else {
        return StallReason::NothingFetched;
    };
    let known = scheduler.as_mut().and_then(|scheduler| scheduler.holds_up(&ours.slot, offset));
    let trouble = || ours.slot.trouble(offset).map(StallReason::Trouble);
    known.or_else(trouble).unwrap_or(StallReason::Handler { offset })
}

fn status_of(ours: &Partition, scheduler: &mut Option<Box<dyn Scheduler>>, now: Instant) -> PartitionStatus {
    let stall = ours
        .stalled
        .then(|| Stall { since: now.saturating_duration_since(ours.progress.since), reason: why(ours, scheduler) });
    PartitionStatus {
        topic: ours.slot.topic().clone(),
        partition: ours.slot.partition(),
        epoch: ours.slot.epoch(),
        commit_point: ours.slot.commit_point().unwrap_or_default(),
        // Of the two, the one that commits is further.
        committed: ours.slot.committed().max(ours.committed.then(|| ours.schedule.confirmed())),
        in_hand: ours.slot.in_hand(),
        lag: lag(ours),
        paused: ours.paused || ours.held,
        stall,
    }
}
