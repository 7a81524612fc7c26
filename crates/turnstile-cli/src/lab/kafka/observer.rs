//! Watches what a group has committed, as an outsider: a client of its own that never joins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use turnstile_testkit::history::{Recorder, What};

use super::Scene;

/// How often it looks.
const EACH: Duration = Duration::from_millis(5);

/// Dropping this ends it.
pub struct Observer {
    seen: Arc<Mutex<BTreeMap<i32, i64>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    pub fn start(scene: &Scene, recorder: Recorder) -> Result<Self> {
        let consumer: BaseConsumer = super::client(&scene.brokers).set("group.id", &scene.group).create()?;
        let (seen, over) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
        let (shared, ended) = (seen.clone(), over.clone());
        let topic: Arc<str> = scene.topic.as_str().into();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&topic, 0, scene.partitions - 1);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // What one look does not tell the next one does.
                let Ok(committed) = consumer.committed_offsets(list.clone(), Duration::from_secs(5)) else { continue };
                for one in committed.elements() {
                    let (partition, Offset::Offset(offset)) = (one.partition(), one.offset()) else { continue };
                    if shared.lock().insert(partition, offset) != Some(offset) {
                        let _ = recorder.record(&What::Committed { topic: topic.clone(), partition, offset });
                    }
                }
                std::thread::sleep(EACH);
            }
        });
        Ok(Self { seen, over, thread: Some(thread) })
    }

    /// Whether all of these are committed.
    pub fn reached(&self, ends: &BTreeMap<i32, i64>) -> bool {
        let seen = self.seen.lock();
        ends.iter().all(|(partition, end)| seen.get(partition).is_some_and(|committed| committed >= end))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
