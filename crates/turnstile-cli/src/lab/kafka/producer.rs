//! Produces at a steady pace, in turn to each partition. The value of a record is the time at which it was produced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use turnstile_testkit::history::{Place, Recorder, What};

use super::{PATIENCE, Scene};
use crate::lab::clock;

/// The key of records that nobody can handle.
pub const POISON: &str = "poison";

/// How fast, and what.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Records a second, of all partitions together.
    pub per_second: u64,
    /// Each so many records one is poison.
    pub poison: Option<u64>,
    /// Whether each is written down.
    pub recorded: bool,
}

/// Dropping this ends it.
pub struct Producer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
    delivered: Arc<Mutex<Delivered>>,
}

/// What has arrived.
#[derive(Debug, Default, Clone)]
pub struct Delivered {
    pub records: u64,
    pub poison: u64,
    /// The offset after the last, of each partition.
    pub ends: BTreeMap<i32, i64>,
    failed: Option<String>,
}

struct Reports {
    topic: Arc<str>,
    recorder: Option<Recorder>,
    delivered: Arc<Mutex<Delivered>>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.delivered.lock();
        match result {
            Ok(message) => {
                let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
                delivered.records += 1;
                delivered.poison += u64::from(key == Some(POISON));
                let end = delivered.ends.entry(message.partition()).or_default();
                *end = (*end).max(message.offset() + 1);
                if let Some(recorder) = &self.recorder {
                    let place = Place::new(self.topic.clone(), message.partition(), message.offset());
                    if let Err(error) = recorder.record(&What::Produced { place, key: key.map(Into::into) }) {
                        delivered.failed.get_or_insert_with(|| error.to_string());
                    }
                }
            }
            Err((error, _)) => _ = delivered.failed.get_or_insert_with(|| error.to_string()),
        }
    }
}

impl Producer {
    /// Begins, once the first record of each partition has arrived.
    pub fn start(scene: &Scene, pace: Pace) -> Result<Self> {
        let delivered = Arc::new(Mutex::new(Delivered::default()));
        let recorder = pace.recorded.then(|| scene.history.recorder("producer")).transpose()?;
        let topic: Arc<str> = scene.topic.as_str().into();
        let reports = Reports { topic: topic.clone(), recorder, delivered: delivered.clone() };
        let mut config = super::client(&scene.brokers);
        config.set("enable.idempotence", "true").set("linger.ms", "0");
        let producer: ThreadedProducer<Reports> = config.create_with_context(reports)?;
        // The first records wait for connections and for the producer's id: they tell no time.
        for partition in 0..scene.partitions {
            send(&producer, &topic, partition, "k", 0)?;
        }
        producer.flush(Duration::from_secs(30))?;
        let over = Arc::new(AtomicBool::new(false));
        let (ended, partitions) = (over.clone(), scene.partitions);
        let thread = std::thread::spawn(move || {
            let (begun, mut sent) = (Instant::now(), 0);
            while !ended.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * pace.per_second as f64) as u64;
                while sent < due {
                    sent += 1;
                    let poison = pace.poison.is_some_and(|each| sent.is_multiple_of(each));
                    let key = if poison { POISON.to_owned() } else { format!("k{}", sent % 97) };
                    let partition = i32::try_from(sent % u64::try_from(partitions)?)?;
                    send(&producer, &topic, partition, &key, clock::now())?;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(producer.flush(PATIENCE)?)
        });
        Ok(Self { over, thread: Some(thread), delivered })
    }

    /// Ends it, and says what has arrived.
    pub fn end(mut self) -> Result<Delivered> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.and_then(Result::ok).context("the producer's thread panicked")?.context("the producer cannot go on")?;
        let delivered = self.delivered.lock().clone();
        anyhow::ensure!(delivered.failed.is_none(), "a record did not arrive: {:?}", delivered.failed);
        Ok(delivered)
    }
}

fn send(producer: &ThreadedProducer<Reports>, topic: &str, partition: i32, key: &str, at: u64) -> Result<()> {
    let value = format!("{at:<100}");
    let record = BaseRecord::to(topic).partition(partition).key(key).payload(&value);
    producer.send(record).map_err(|(error, _)| error).context("the producer takes no record")
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
