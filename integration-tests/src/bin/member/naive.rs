//! A member by librdkafka alone, without guards.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::OwnedMessage;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use turnstile_integration_tests::kafka::{Commits, Naive, Protocol, Role};
use turnstile_testkit::history::{How, Place, Recorder, What};

use crate::Task;

struct Context {
    recorder: Recorder,
    epoch: AtomicU64,
    from_the_beginning: bool,
    dies_of_errors: bool,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, _: &str) {
        if self.dies_of_errors {
            println!("died of {error}");
            std::process::exit(1);
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(_) = rebalance {
            self.all(consumer, |topic, partition, epoch| What::GivenUp { topic, partition, epoch });
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(given) = rebalance {
            if self.from_the_beginning {
                let mut given = (*given).clone();
                // The assignment is what it was, with another offset.
                let _ = given.set_all_offsets(Offset::Beginning).and_then(|()| consumer.assign(&given));
            }
            self.epoch.fetch_add(1, Ordering::SeqCst);
            self.all(consumer, |topic, partition, epoch| What::Assigned { topic, partition, epoch });
            println!("Working {}", given.count());
        }
    }
}

impl Context {
    fn all(&self, consumer: &BaseConsumer<Self>, what: impl Fn(Arc<str>, i32, u64) -> What) {
        let epoch = self.epoch.load(Ordering::SeqCst);
        for one in consumer.assignment().iter().flat_map(TopicPartitionList::elements) {
            if let Err(error) = self.recorder.record(&what(one.topic().into(), one.partition(), epoch)) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// The next offset to commit, by partition.
type Done = Arc<Mutex<HashMap<i32, i64>>>;

pub fn run(role: &Role, naive: Naive, recorder: &Recorder) -> Result<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &role.brokers)
        .set("group.id", &role.group)
        .set("auto.offset.reset", "earliest")
        .set("max.poll.interval.ms", role.max_poll.as_millis().to_string())
        .set("enable.auto.commit", (naive.commits == Commits::Auto).to_string())
        .set("reconnect.backoff.max.ms", "200");
    if let Some(interval) = role.commits {
        config.set("auto.commit.interval.ms", interval.as_millis().to_string());
    }
    if role.protocol == Protocol::Consumer {
        config.set("group.protocol", "consumer");
    } else {
        config
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", role.session.as_millis().to_string())
            .set("heartbeat.interval.ms", (role.session / 10).as_millis().to_string());
    }
    for (key, value) in &role.options {
        config.set(key, value);
    }
    let Naive { from_the_beginning, dies_of_errors, .. } = naive;
    let context = Context { recorder: recorder.clone(), epoch: AtomicU64::new(0), from_the_beginning, dies_of_errors };
    let consumer: BaseConsumer<Context> = config.create_with_context(context)?;
    consumer.subscribe(&[&role.topic])?;

    let ends = Arc::new(AtomicBool::new(false));
    let asked = ends.clone();
    std::thread::spawn(move || {
        if std::io::stdin().lock().lines().map_while(Result::ok).any(|line| line == "end") {
            asked.store(true, Ordering::SeqCst);
        }
    });
    let done = Done::default();
    let mut workers = Vec::new();
    for _ in 0..naive.workers {
        let (sender, records) = mpsc::channel::<(OwnedMessage, u64)>();
        let (role, recorder, done) = (role.clone(), recorder.clone(), done.clone());
        std::thread::spawn(move || {
            for (record, epoch) in records {
                if let Err(error) = work(&role, &recorder, &record, epoch, &done) {
                    eprintln!("{error:#}");
                }
            }
        });
        workers.push(sender);
    }

    let mut turn = workers.iter().cycle();
    let mut committed = Instant::now();
    while !ends.load(Ordering::SeqCst) {
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(10)) {
            let (record, epoch) = (record.detach(), consumer.context().epoch.load(Ordering::SeqCst));
            match turn.next() {
                Some(worker) => worker.send((record, epoch))?,
                None => work(role, recorder, &record, epoch, &done)?,
            }
        }
        if naive.commits == Commits::Done && role.commits.is_some_and(|interval| committed.elapsed() >= interval) {
            committed = Instant::now();
            commit(role, &consumer, &done)?;
        }
    }
    println!("ended");
    drop(consumer);
    std::process::exit(0)
}

fn work(role: &Role, recorder: &Recorder, record: &OwnedMessage, epoch: u64, done: &Done) -> Result<()> {
    let place = Place::new(record.topic(), record.partition(), record.offset());
    let key = record.key().map(String::from_utf8_lossy);
    let working = recorder.start(place, key.as_deref(), epoch, 1)?;
    match Task::of(record.payload(), role) {
        Task::Takes(time) => {
            std::thread::sleep(time);
            working.end(How::Done)?;
        }
        Task::Poison => working.end(How::Failed)?,
    }
    done.lock().unwrap_or_else(PoisonError::into_inner).insert(record.partition(), record.offset() + 1);
    Ok(())
}

fn commit(role: &Role, consumer: &BaseConsumer<Context>, done: &Done) -> Result<()> {
    let lock = || done.lock().unwrap_or_else(PoisonError::into_inner);
    let mut list = TopicPartitionList::new();
    let books = std::mem::take(&mut *lock());
    for (partition, offset) in &books {
        list.add_partition_offset(&role.topic, *partition, Offset::Offset(*offset))?;
    }
    if list.count() > 0
        && let Err(error) = consumer.commit(&list, CommitMode::Sync)
    {
        println!("refused {error}");
        // Again with the next.
        let mut newer = lock();
        for (partition, offset) in books {
            newer.entry(partition).or_insert(offset);
        }
    }
    Ok(())
}
