//! Judges a history of one group's work on its topics: one sweep over all events in the order of their times.
//!
//! An attempt's events lie inside of what they tell of: its beginning is written down after it began, its end before it
//! ended. So two attempts that overlap in the history overlapped; and what had ended before an offset was seen as
//! committed was done before the commit, or the commit was wrong.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::event::{Event, Fault, How, Place, What};
use super::verdict::{Blame, Breach, Rule, Verdict};

/// Which records must be handled one after the other: those of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// All of a partition.
    Partition,
    /// Those of a partition that have the same key. Those without a key stand alone.
    Key,
    /// None: each record stands alone.
    Unordered,
}

/// A lane in its partition: the key, or `None` for the whole partition.
type Lane = Option<Arc<str>>;

impl Order {
    fn lane(self, key: Option<&Arc<str>>) -> Option<Lane> {
        match self {
            Self::Partition => Some(None),
            Self::Key => key.map(|key| Some(key.clone())),
            Self::Unordered => None,
        }
    }
}

/// Judges the history of one group, from the first record of its topics on, when all work has come to an end.
#[must_use]
pub fn check(events: &[Event], order: Order) -> Verdict {
    let mut sweep = Sweep::new(events, order);
    for (at, event) in in_time(events) {
        sweep.see(at, event);
    }
    sweep.end()
}

/// The events in the order of their times; a kill comes after the last that its victim wrote.
fn in_time(events: &[Event]) -> Vec<(u64, &Event)> {
    let mut last: HashMap<&str, u64> = HashMap::new();
    for event in events {
        let last = last.entry(&event.who).or_default();
        *last = event.at.max(*last);
    }
    let time = |event: &Event| match &event.what {
        What::Fault { fault: Fault::Kill, whom: Some(whom) } => {
            (last.get(&**whom).copied().unwrap_or_default().max(event.at), true)
        }
        _ => (event.at, false),
    };
    let mut sorted: Vec<_> = events.iter().map(|event| (time(event), event)).collect();
    sorted.sort_by_key(|(time, _)| *time);
    sorted.into_iter().map(|((at, _), event)| (at, event)).collect()
}

#[derive(Default)]
struct Partition {
    /// Produced and not done, in the whole history's view: all of the partition, and by lane.
    left: BTreeSet<i64>,
    left_in_lane: HashMap<Lane, BTreeSet<i64>>,
    records: HashMap<i64, Record>,
    open: Vec<Open>,
    committed: Option<i64>,
    /// Who has it, as far as is known: the last new assignment.
    owner: Option<usize>,
}

#[derive(Default)]
struct Record {
    produced: bool,
    lane: Option<Lane>,
    done: bool,
    dead: u64,
    last: Option<Try>,
}

struct Try {
    epoch: usize,
    attempt: u32,
    how: Option<How>,
}

struct Open {
    epoch: usize,
    offset: i64,
    attempt: u32,
    lane: Option<Lane>,
    late: bool,
}

/// One assignment of one partition to one member.
struct Epoch {
    who: Arc<str>,
    first: u64,
    /// What was committed when it began.
    floor: Option<i64>,
    given_up: bool,
    reached: HashMap<Lane, i64>,
    /// Begun and not seen committed.
    in_flight: BTreeSet<i64>,
}

type PartitionKey = (Arc<str>, i32);
/// The times, by member; `None` for all of them.
type Suspended<'a> = HashMap<Option<&'a str>, Vec<u64>>;

struct Sweep<'a> {
    order: Order,
    verdict: Verdict,
    partitions: HashMap<PartitionKey, Partition>,
    epochs: Vec<Epoch>,
    known: HashMap<(Arc<str>, PartitionKey, u64), usize>,
    /// When each member was suspended or cut off, and when each that was killed had written its last.
    suspended: Suspended<'a>,
    gone: HashMap<&'a str, u64>,
}

fn key(place: &Place) -> PartitionKey {
    (place.topic.clone(), place.partition)
}

impl<'a> Sweep<'a> {
    fn new(events: &'a [Event], order: Order) -> Self {
        let mut sweep = Self {
            order,
            verdict: Verdict::default(),
            partitions: HashMap::new(),
            epochs: Vec::new(),
            known: HashMap::new(),
            suspended: Suspended::default(),
            gone: HashMap::new(),
        };
        for (at, event) in in_time(events) {
            match &event.what {
                What::Produced { place, key: record_key } => {
                    let partition = sweep.partitions.entry(key(place)).or_default();
                    let record = partition.records.entry(place.offset).or_default();
                    sweep.verdict.produced += u64::from(!record.produced);
                    record.produced = true;
                    record.lane = order.lane(record_key.as_ref());
                    partition.left.insert(place.offset);
                    if let Some(lane) = &record.lane {
                        partition.left_in_lane.entry(lane.clone()).or_default().insert(place.offset);
                    }
                }
                What::DeadLettered { place } => {
                    let partition = sweep.partitions.entry(key(place)).or_default();
                    partition.records.entry(place.offset).or_default().dead += 1;
                }
                What::Fault { fault: Fault::Kill, whom: Some(whom) } => _ = sweep.gone.insert(whom, at),
                What::Fault { fault: Fault::Stop | Fault::Cut, whom } => {
                    sweep.suspended.entry(whom.as_deref()).or_default().push(at);
                }
                _ => {}
            }
        }
        sweep
    }

    fn see(&mut self, at: u64, event: &Event) {
        match &event.what {
            What::Produced { .. } | What::DeadLettered { .. } => {}
            What::Assigned { topic, partition, epoch } => {
                self.epoch(at, &event.who, (topic.clone(), *partition), *epoch);
            }
            What::GivenUp { topic, partition, epoch } => {
                let epoch = self.epoch(at, &event.who, (topic.clone(), *partition), *epoch);
                self.epochs[epoch].given_up = true;
            }
            What::Started { place, key: record_key, epoch, attempt } => {
                let epoch = self.epoch(at, &event.who, key(place), *epoch);
                self.started(at, place, self.order.lane(record_key.as_ref()), epoch, *attempt);
            }
            What::Ended { place, epoch, attempt, how } => {
                let epoch = self.epoch(at, &event.who, key(place), *epoch);
                self.ended(at, place, epoch, *attempt, *how);
            }
            What::Committed { topic, partition, offset } => self.committed(at, (topic.clone(), *partition), *offset),
            What::Fault { fault: Fault::Cont | Fault::Mended, .. } => {}
            What::Fault { fault, whom } => self.fault(at, *fault, whom.as_ref()),
        }
    }

    /// The assignment of this number, which begins now if it was not known.
    fn epoch(&mut self, at: u64, who: &Arc<str>, key: PartitionKey, number: u64) -> usize {
        *self.known.entry((who.clone(), key, number)).or_insert_with_key(|(who, key, _)| {
            let partition = self.partitions.entry(key.clone()).or_default();
            let epoch = Epoch {
                who: who.clone(),
                first: at,
                floor: partition.committed,
                given_up: false,
                reached: HashMap::new(),
                in_flight: BTreeSet::new(),
            };
            self.epochs.push(epoch);
            self.verdict.assignments += 1;
            partition.owner = Some(self.epochs.len() - 1);
            self.epochs.len() - 1
        })
    }

    fn started(&mut self, at: u64, place: &Place, lane: Option<Lane>, me: usize, attempt: u32) {
        self.verdict.attempts += 1;
        let mut breaches = Vec::new();
        let partition = self.partitions.entry(key(place)).or_default();
        let epoch = &self.epochs[me];
        let who = &epoch.who;

        // Beside whom?
        partition.open.retain(|open| self.gone.get(&*self.epochs[open.epoch].who).is_none_or(|gone| at < *gone));
        for open in &partition.open {
            let other = &self.epochs[open.epoch];
            let same_lane = lane.as_ref().map_or(open.offset == place.offset, |lane| open.lane.as_ref() == Some(lane));
            if open.epoch != me && (zombie(&self.suspended, epoch, other) || zombie(&self.suspended, other, epoch)) {
                self.verdict.zombie_overlaps += 1;
            } else if other.who != *who {
                let text = format!("{who} began {place} while {} was at {}", other.who, open.offset);
                breaches.push((Rule::OneMember, text));
            } else if same_lane {
                breaches.push((Rule::OneAttempt, format!("{who} began {place} while it was at {}", open.offset)));
            }
        }

        // In order?
        if let Some(lane) = &lane {
            let first_left = partition.left_in_lane.get(lane).and_then(BTreeSet::first);
            if let Some(left) = first_left.filter(|left| **left < place.offset) {
                breaches.push((Rule::InOrder, format!("{who} began {place}, and {left} before it is not done")));
            }
            if let Some(reached) = epoch.reached.get(lane).filter(|reached| **reached > place.offset) {
                breaches.push((Rule::InOrder, format!("{who} went back to {place} from {reached}")));
            }
        }
        if let Some(floor) = epoch.floor.filter(|floor| place.offset < *floor) {
            breaches.push((Rule::FromCommit, format!("{who} began {place}, and {floor} was committed before")));
        } else if let Some(committed) = partition.committed.filter(|c| partition.owner == Some(me) && place.offset < *c)
        {
            breaches.push((Rule::CommitNotAhead, format!("{who} began {place}, and {committed} is committed already")));
        }

        // Again?
        let record = partition.records.entry(place.offset).or_default();
        match &record.last {
            Some(Try { epoch, attempt: before, how: Some(How::Failed) }) if *epoch == me && attempt == before + 1 => {}
            Some(Try { epoch, attempt: before, how }) if *epoch == me => {
                let text = format!("{who} began {place} as attempt {attempt} after attempt {before}, {how:?}");
                breaches.push((Rule::Counted, text));
            }
            _ if attempt != 1 => {
                breaches.push((Rule::Counted, format!("{who} began {place} as attempt {attempt}")));
            }
            Some(Try { how: Some(How::Failed | How::Abandoned), .. }) => self.verdict.redelivered += 1,
            Some(last) => {
                self.verdict.duplicates += 1;
                let before = &self.epochs[last.epoch];
                let of = |blame: &Blame, epoch: &Epoch| {
                    blame.whom.as_ref().is_none_or(|whom| *whom == epoch.who) && blame.at >= epoch.first
                };
                let cause = self.verdict.blames.iter_mut().rev().find(|blame| of(blame, before) || of(blame, epoch));
                match cause {
                    Some(blame) => blame.duplicates += 1,
                    None => {
                        let text = format!("{who} repeated {place}, which {} had begun: why?", before.who);
                        breaches.push((Rule::Explained, text));
                    }
                }
            }
            None => {}
        }
        record.last = Some(Try { epoch: me, attempt, how: None });

        let late = epoch.given_up;
        let epoch = &mut self.epochs[me];
        epoch.in_flight.insert(place.offset);
        if let Some(lane) = &lane {
            let reached = epoch.reached.entry(lane.clone()).or_insert(place.offset);
            *reached = place.offset.max(*reached);
        }
        partition.open.push(Open { epoch: me, offset: place.offset, attempt, lane, late });
        self.blame(at, breaches);
    }

    fn ended(&mut self, at: u64, place: &Place, me: usize, attempt: u32, how: How) {
        let who = &self.epochs[me].who;
        let mut breaches = Vec::new();
        let partition = self.partitions.entry(key(place)).or_default();
        let is_it = |open: &Open| (open.epoch, open.offset, open.attempt) == (me, place.offset, attempt);
        match partition.open.iter().position(is_it) {
            Some(index) => {
                if partition.open.swap_remove(index).late && how == How::Done {
                    let text = format!("{who} did {place}, begun after it had given the partition up");
                    breaches.push((Rule::NotAfterGivenUp, text));
                }
            }
            None => {
                breaches.push((Rule::Counted, format!("{who} ended {place}, attempt {attempt}, without beginning")))
            }
        }
        let record = partition.records.entry(place.offset).or_default();
        if let Some(last) = record.last.as_mut().filter(|last| last.epoch == me && last.attempt == attempt) {
            last.how = Some(how);
        }
        self.verdict.done += u64::from(how == How::Done && !record.done);
        record.done |= how == How::Done;
        if record.done || (how == How::Failed && record.dead > 0) {
            partition.left.remove(&place.offset);
            if let Some(left) = record.lane.as_ref().and_then(|lane| partition.left_in_lane.get_mut(lane)) {
                left.remove(&place.offset);
            }
        }
        self.blame(at, breaches);
    }

    fn committed(&mut self, at: u64, (topic, number): PartitionKey, offset: i64) {
        self.verdict.commits_seen += 1;
        let mut breaches = Vec::new();
        let partition = self.partitions.entry((topic.clone(), number)).or_default();
        if let Some(before) = partition.committed.filter(|before| *before > offset) {
            breaches.push((Rule::CommitNotBack, format!("{topic}/{number}: from {before} to {offset}")));
        }
        if partition.committed.is_none_or(|before| before < offset) {
            if let Some(left) = partition.left.first().filter(|left| **left < offset) {
                let text = format!("{topic}/{number}: {offset} is committed, and {left} is not done");
                breaches.push((Rule::CommitNotAhead, text));
            }
            let passed = |open: &&Open| {
                let gone = self.gone.get(&*self.epochs[open.epoch].who).is_some_and(|gone| *gone <= at);
                Some(open.epoch) == partition.owner && open.offset < offset && !gone
            };
            if let Some(open) = partition.open.iter().find(passed) {
                let who = &self.epochs[open.epoch].who;
                let text = format!("{topic}/{number}: {offset} is committed, and {who} is still at {}", open.offset);
                breaches.push((Rule::CommitNotAhead, text));
            }
        }
        partition.committed = Some(offset);
        if let Some(owner) = partition.owner {
            let epoch = &mut self.epochs[owner];
            epoch.in_flight = epoch.in_flight.split_off(&offset);
        }
        self.blame(at, breaches);
    }

    fn fault(&mut self, at: u64, fault: Fault, whom: Option<&Arc<str>>) {
        let owners = self.partitions.values().filter_map(|partition| partition.owner);
        let theirs = owners.map(|owner| &self.epochs[owner]).filter(|epoch| Some(&epoch.who) == whom);
        let in_flight = theirs.map(|epoch| epoch.in_flight.len() as u64).sum();
        let in_flight = if fault == Fault::Kill { in_flight } else { 0 };
        self.verdict.blames.push(Blame { fault, whom: whom.cloned(), at, in_flight, duplicates: 0 });
    }

    fn end(mut self) -> Verdict {
        let mut lost = Vec::new();
        for ((topic, number), partition) in &self.partitions {
            for (offset, record) in &partition.records {
                self.verdict.dead_letters += u64::from(record.dead > 0);
                self.verdict.dead_letter_copies += record.dead.saturating_sub(1);
                if record.produced && !record.done && record.dead == 0 {
                    lost.push(Place::new(topic.clone(), *number, *offset));
                }
            }
        }
        lost.sort();
        let at = self.verdict.blames.last().map_or(0, |blame| blame.at);
        let mut breaches: Vec<_> = lost.iter().map(|place| (Rule::NoLoss, format!("{place} was never done"))).collect();
        for Blame { fault, whom, in_flight, duplicates, .. } in &self.verdict.blames {
            if *fault == Fault::Kill && duplicates > in_flight {
                let text = format!("{whom:?} was killed with {in_flight} in flight, and {duplicates} were repeated");
                breaches.push((Rule::Explained, text));
            }
        }
        self.blame(at, breaches);
        self.verdict
    }

    fn blame(&mut self, at: u64, breaches: Vec<(Rule, String)>) {
        self.verdict.breaches.extend(breaches.into_iter().map(|(rule, text)| Breach { rule, at, text }));
    }
}

/// Whether the first may be taken for dead by the second: it was suspended or cut off under this assignment, before the
/// other's began.
fn zombie(suspended: &Suspended<'_>, one: &Epoch, other: &Epoch) -> bool {
    let mut times = [Some(&*one.who), None].into_iter().filter_map(|whom| suspended.get(&whom)).flatten();
    one.who != other.who && times.any(|at| one.first <= *at && *at <= other.first)
}
