//! A runner: a task that leads until a record's work has to wait, and then follows that record's lane.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use kafka_group::{Record, Seat, Settled};

use crate::options::Order;
use crate::partition::{Lead, Partition, Registered, SLOW};
use crate::seat::LaneSeat;
use crate::work::Work;

/// What is worked on at once.
enum Unit {
    One(Record),
    Many(Vec<Record>),
}

impl Unit {
    fn records(&self) -> &[Record] {
        match self {
            Self::One(record) => std::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }

    fn first(&self) -> Option<&Record> {
        self.records().first()
    }

    fn move_to(self, finished: &mut Vec<Record>) {
        match self {
            Self::One(record) => finished.push(record),
            Self::Many(records) => finished.extend(records),
        }
    }
}

/// Runs until there is nothing to lead and nothing in its lane.
///
/// Whoever has the lead has no lane: its record is not in the table. Whoever passes the lead on makes its record's lane
/// before, so that no other record of that key is begun.
#[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice, for each record at work")]
pub(crate) fn run<W: Work>(
    partition: Registered<W>,
    lead: Box<Lead>,
    seat: LaneSeat,
) -> impl Future<Output = ()> + Send {
    async move {
        let shared = partition.shared().clone();
        let in_order = shared.order == Order::Partition;
        let mut running = None;
        let mut leads = Some(lead);
        let mut follows: Option<Record> = None;
        if let Some(lead) = &mut leads {
            // The first of all has nothing to do yet, and so no seat.
            if !seat.is_taken() {
                if !Box::pin(lead.fetch()).await {
                    return;
                }
                seat.back().await;
            }
            lead.begin();
        }
        loop {
            // What is to be begun?
            let first = match (follows.take(), &mut leads) {
                (Some(record), _) => record,
                (None, Some(lead)) => match partition.next(lead) {
                    Some(record) => record,
                    None => {
                        partition.flush(lead);
                        running = None;
                        seat.leave();
                        if !Box::pin(lead.fetch()).await {
                            return;
                        }
                        seat.back().await;
                        lead.begin();
                        continue;
                    }
                },
                (None, None) => return,
            };
            if running.is_none() {
                running = partition.slot().begin();
            }
            let ours = running.is_some() && partition.slot().is_ours();
            if !ours && !Box::pin(wait_until_ours(&partition, &mut leads)).await {
                return;
            }
            let unit = match shared.batches {
                None => Unit::One(first),
                Some((enough, wait)) => Box::pin(gather(&partition, first, &mut leads, &seat, enough, wait)).await,
            };
            if let Some(rate) = &shared.rate
                && let Some(wait) = rate.take(unit.records().len(), Instant::now())
            {
                Box::pin(rest(&partition, &mut leads, &seat, wait)).await;
            }
            // Time may have passed.
            let paused = shared.batches.is_some() || shared.rate.is_some();
            if paused && !partition.slot().is_ours() && !Box::pin(wait_until_ours(&partition, &mut leads)).await {
                return;
            }
            let slow = !in_order && leads.is_some() && partition.slow.load(Ordering::Relaxed);
            if slow && let Some(lead) = leads.take() {
                pass(&partition, &unit, lead);
            }
            // It is begun: at once, and if it has to wait, others lead meanwhile.
            let timed = (slow || shared.gauge.is_some()).then(Instant::now);
            let settled = {
                let mut work = pin!(shared.work.work(partition.slot(), unit.records(), &seat));
                let first_poll = futures_util::poll!(work.as_mut());
                if slow && timed.is_some_and(|since| since.elapsed() < SLOW / 2) {
                    partition.slow.store(false, Ordering::Relaxed);
                }
                match first_poll {
                    Poll::Ready(settled) => settled,
                    Poll::Pending => {
                        if let Some(mut lead) = leads.take() {
                            if in_order {
                                partition.flush(&mut lead);
                                leads = Some(lead);
                            } else {
                                note_pace(&partition, &mut lead, true);
                                pass(&partition, &unit, lead);
                            }
                        }
                        work.await
                    }
                }
            };
            if let (Some(gauge), Some(since)) = (&shared.gauge, timed) {
                let (now, at_work) = (Instant::now(), shared.limit.usage().0);
                if let Some(limit) = gauge.took(now - since, at_work, now) {
                    shared.limit.set(limit);
                }
            }
            // What became of it?
            match (settled, &mut leads) {
                (Settled::Done, Some(lead)) => {
                    unit.move_to(&mut lead.finished);
                    note_pace(&partition, lead, false);
                    if lead.is_full() {
                        partition.flush(lead);
                    }
                }
                (Settled::Done, None) => {
                    let mut finished = Vec::with_capacity(1);
                    unit.move_to(&mut finished);
                    let settled = finished.first().cloned();
                    partition.finish(&mut finished);
                    follows = settled.and_then(|settled| partition.advance(&settled));
                    if follows.is_none() {
                        leads = partition.take_lead();
                        if let Some(lead) = &mut leads {
                            lead.begin();
                        }
                    }
                }
                (Settled::Halted, Some(lead)) => {
                    partition.flush(lead);
                    if in_order {
                        return;
                    }
                    // Its lane stands from now on.
                    if let Some(first) = unit.first() {
                        partition.open(first);
                    }
                }
                (Settled::Halted, None) => {
                    leads = partition.take_lead();
                    if let Some(lead) = &mut leads {
                        lead.begin();
                    }
                }
                (Settled::HandedBack, _) => {
                    if let Some(lead) = &mut leads {
                        partition.flush(lead);
                    }
                    return;
                }
            }
        }
    }
}

/// `false` when nothing more of the slot may be begun.
async fn wait_until_ours<W: Work>(partition: &Partition<W>, leads: &mut Option<Box<Lead>>) -> bool {
    if let Some(lead) = leads {
        partition.flush(lead);
    }
    partition.slot().still_ours().await
}

/// Makes the lane of what is begun, and lets others lead.
fn pass<W: Work>(partition: &Arc<Partition<W>>, unit: &Unit, mut lead: Box<Lead>) {
    partition.flush(&mut lead);
    if let Some(first) = unit.first() {
        partition.open(first);
    }
    partition.pass(lead);
}

fn note_pace<W: Work>(partition: &Partition<W>, lead: &mut Lead, now: bool) {
    if lead.tick(now) == Some(true) {
        partition.slow.store(true, Ordering::Relaxed);
    }
}

/// Waits for its turn by the rate limit.
async fn rest<W: Work>(partition: &Partition<W>, leads: &mut Option<Box<Lead>>, seat: &LaneSeat, wait: Duration) {
    if let Some(lead) = leads {
        partition.flush(lead);
    }
    seat.leave();
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = partition.slot().draining().cancelled() => {}
    }
    seat.back().await;
}

/// A batch that begins with this record.
async fn gather<W: Work>(
    partition: &Arc<Partition<W>>,
    first: Record,
    leads: &mut Option<Box<Lead>>,
    seat: &LaneSeat,
    enough: usize,
    wait: Duration,
) -> Unit {
    let mut unit = vec![first];
    if let Some(lead) = leads {
        partition.flush(lead);
    }
    if partition.has_lane(&unit[0]) {
        seat.leave();
        if let Some(lead) = leads.take() {
            partition.open(&unit[0]);
            partition.pass(lead);
        }
        partition.gather(&mut unit, enough, wait).await;
        seat.back().await;
    } else if !matches!(partition.shared().order, Order::Key(_))
        && let Some(lead) = leads
    {
        seat.leave();
        let mut over = pin!(tokio::time::sleep(wait));
        while unit.len() < enough {
            if let Some(record) = partition.next(lead) {
                unit.push(record);
                continue;
            }
            tokio::select! {
                true = lead.fetch() => {}
                () = &mut over => break,
                () = partition.slot().draining().cancelled() => break,
            }
        }
        seat.back().await;
    }
    Unit::Many(unit)
}
