//! Consumers that each lack a guard: the lab's checks have to see it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kafka_offsets::{Epoch, OffsetTracker};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use turnstile_testkit::history::Place;

use super::orders::{Fault, Join};
use super::worker::Desk;
use crate::lab::kafka;

/// How much before the commit it begins, and how far back it commits.
const BACK: i64 = 20;
const POLL: Duration = Duration::from_millis(20);

/// A member by hand, on a thread of its own.
pub struct Raw {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    epoch: AtomicU64,
    partitions: AtomicUsize,
}

struct Rebalances {
    fault: Fault,
    shared: Arc<Shared>,
}

impl ClientContext for Rebalances {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if kind != RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.shared.partitions.store(0, Ordering::Relaxed);
            let _ = consumer.unassign();
            return;
        }
        if self.fault == Fault::StartEarlier
            && let Ok(committed) = consumer.committed_offsets(list.clone(), Duration::from_secs(5))
        {
            let places: Vec<_> = committed.elements().iter().map(|one| (one.partition(), one.offset())).collect();
            let topic = list.elements().first().map(|one| one.topic().to_owned()).unwrap_or_default();
            for (partition, offset) in places {
                if let Offset::Offset(offset) = offset {
                    let earlier = Offset::Offset((offset - BACK).max(0));
                    let _ = list.set_partition_offset(&topic, partition, earlier);
                }
            }
        }
        self.shared.epoch.fetch_add(1, Ordering::Relaxed);
        self.shared.partitions.store(list.count(), Ordering::Relaxed);
        let _ = consumer.assign(list);
    }
}

/// A record in hand.
struct Item {
    place: Place,
    key: Option<String>,
    value: Vec<u8>,
    epoch: u64,
}

type Client = Arc<BaseConsumer<Rebalances>>;

impl Raw {
    pub fn start(brokers: &str, join: &Join, fault: Fault, desk: Arc<Desk>) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut config = kafka::client(brokers);
        config
            .set("group.id", &join.group)
            .set("client.id", &join.who)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", join.session_ms.to_string())
            .set("heartbeat.interval.ms", (join.session_ms / 10).to_string());
        let client: Client = Arc::new(config.create_with_context(Rebalances { fault, shared: shared.clone() })?);
        client.subscribe(&[&join.topic])?;
        let (topic, of_thread, runtime) = (join.topic.clone(), shared.clone(), tokio::runtime::Handle::current());
        let thread = std::thread::spawn(move || {
            let consumer = Faulty { client, shared: of_thread, desk, topic };
            match fault {
                Fault::GoOn => consumer.go_on(),
                Fault::AllAtOnce => consumer.all_at_once(&runtime),
                _ => consumer.one_by_one(fault),
            }
        });
        Ok(Self { shared, thread })
    }

    pub fn partitions(&self) -> usize {
        self.shared.partitions.load(Ordering::Relaxed)
    }

    pub fn leave(self) -> Result<()> {
        self.shared.over.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("its thread panicked")?
    }
}

struct Faulty {
    client: Client,
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    topic: String,
}

impl Faulty {
    fn over(&self) -> bool {
        self.shared.over.load(Ordering::Relaxed)
    }

    /// The next record. Errors are those of rebalances and outages, which pass.
    fn next(&self, within: Duration) -> Option<Item> {
        let message = self.client.poll(within)?.ok()?;
        Some(Item::of(&message, self.shared.epoch.load(Ordering::Relaxed)))
    }

    fn handle(&self, item: &Item) -> Result<()> {
        let begun = self.desk.begin(item.place.clone(), item.key.as_deref(), item.epoch, 1)?;
        std::thread::sleep(self.desk.work);
        self.desk.done(begun, Some(&item.value))
    }

    /// It may fail in a rebalance; then the next one tells it.
    fn commit(&self, offsets: &HashMap<i32, i64>, mode: CommitMode) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        if list.count() > 0 {
            let _ = self.client.commit(&list, mode);
        }
        Ok(())
    }

    fn one_by_one(&self, fault: Fault) -> Result<()> {
        let mut committed = Instant::now();
        let (mut done, mut count) = (HashMap::new(), 0_u64);
        let mut epoch = 0;
        while !self.over() {
            let first = self.next(POLL);
            let mut items: Vec<_> = first.into_iter().collect();
            if fault == Fault::CommitFirst {
                items.extend(std::iter::from_fn(|| self.next(Duration::ZERO)).take(100));
                let fetched = items.iter().map(|item| (item.place.partition, item.place.offset + 1)).collect();
                self.commit(&fetched, CommitMode::Sync)?;
            }
            if epoch != self.shared.epoch.load(Ordering::Relaxed) {
                epoch = self.shared.epoch.load(Ordering::Relaxed);
                done.clear();
            }
            for item in items {
                self.handle(&item)?;
                let (partition, next) = (item.place.partition, item.place.offset + 1);
                done.insert(partition, next);
                count += 1;
                match fault {
                    Fault::CommitFirst => {}
                    Fault::NoLastCommit if committed.elapsed() < super::worker::COMMIT_EACH => {}
                    Fault::NoLastCommit => {
                        self.commit(&done, CommitMode::Sync)?;
                        committed = Instant::now();
                    }
                    _ => self.commit(&HashMap::from([(partition, next)]), CommitMode::Sync)?,
                }
                if fault == Fault::CommitBack && count.is_multiple_of(20) {
                    self.commit(&HashMap::from([(partition, (next - BACK).max(0))]), CommitMode::Sync)?;
                    // For as long as it takes to be seen.
                    std::thread::sleep(Duration::from_millis(20));
                    self.commit(&HashMap::from([(partition, next)]), CommitMode::Sync)?;
                }
            }
        }
        Ok(())
    }

    /// The one thread polls, the other handles, and nobody tells it that a partition is gone.
    fn go_on(self) -> Result<()> {
        let (hand_over, queue): (Sender<Item>, Receiver<Item>) = channel();
        let consumer = Arc::new(self);
        let handler = consumer.clone();
        let handling = std::thread::spawn(move || {
            while let Ok(item) = queue.recv() {
                handler.handle(&item)?;
                let done = HashMap::from([(item.place.partition, item.place.offset + 1)]);
                handler.commit(&done, CommitMode::Async)?;
                if handler.over() {
                    break;
                }
            }
            anyhow::Ok(())
        });
        while !consumer.over() {
            if let Some(item) = consumer.next(POLL) {
                let _ = hand_over.send(item);
            }
        }
        drop(hand_over);
        handling.join().ok().context("its handling thread panicked")?
    }

    fn all_at_once(&self, runtime: &tokio::runtime::Handle) -> Result<()> {
        let mut trackers: HashMap<i32, OffsetTracker> = HashMap::new();
        let (tell, completed) = channel();
        let mut epoch = 0;
        while !self.over() {
            let next = self.next(POLL);
            if epoch != self.shared.epoch.load(Ordering::Relaxed) {
                epoch = self.shared.epoch.load(Ordering::Relaxed);
                trackers.clear();
            }
            if let Some(item) = next {
                let (partition, offset) = (item.place.partition, item.place.offset);
                let tracker = trackers.entry(partition).or_insert_with(|| OffsetTracker::new(Epoch::FIRST, offset));
                let _ = tracker.fetched(offset);
                let (desk, tell) = (self.desk.clone(), tell.clone());
                // The last ones first.
                let work = self.desk.work * u32::try_from(10 - offset.rem_euclid(10))?;
                runtime.spawn(async move {
                    let begun = desk.begin(item.place.clone(), item.key.as_deref(), item.epoch, 1);
                    tokio::time::sleep(work).await;
                    let done = begun.and_then(|begun| desk.done(begun, Some(&item.value)));
                    let _ = tell.send((partition, offset, item.epoch, done));
                });
            }
            let mut moved = HashMap::new();
            for (partition, offset, of, done) in completed.try_iter() {
                done?;
                if let Some(tracker) = trackers.get_mut(&partition).filter(|_| of == epoch) {
                    let _ = tracker.complete(offset, Epoch::FIRST);
                    moved.insert(partition, tracker.commit_point());
                }
            }
            self.commit(&moved, CommitMode::Async)?;
        }
        Ok(())
    }
}

impl Item {
    fn of(message: &BorrowedMessage<'_>, epoch: u64) -> Self {
        Self {
            place: Place::new(message.topic(), message.partition(), message.offset()),
            key: message.key().and_then(|key| String::from_utf8(key.to_vec()).ok()),
            value: message.payload().unwrap_or_default().to_vec(),
            epoch,
        }
    }
}
