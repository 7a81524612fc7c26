//! Members of a group that read a topic through its changes, and what they were given.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use kafka_group::{Attempt, GroupBuilder, Handler, Outcome, Record, Shutdown, Start, StartAt};
use kafka_partitions::{Cluster, Follow, read};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::lab::kafka::{PATIENCE, Scene};

/// Where nothing is read for so long, nothing will be.
const STILL: Duration = Duration::from_secs(8);
/// A member that could not say that it leaves is missed after so long.
const SESSION: Duration = Duration::from_secs(6);
/// How long a record takes: so long that the pause of a change does not make up for it.
const SLOW: Duration = Duration::from_millis(100);

pub struct Readers {
    shutdown: Shutdown,
    members: Vec<JoinHandle<Result<()>>>,
    seen: Seen,
    slow: Arc<AtomicBool>,
}

type Seen = Arc<Mutex<Book>>;

#[derive(Default)]
struct Book {
    /// By key, the values in the order in which they were begun.
    values: BTreeMap<String, Vec<u64>>,
    /// Of which there was a record.
    partitions: BTreeSet<i32>,
}

struct Notes {
    seen: Seen,
    /// Whether it takes its time in the partitions that the topic had first: the old layout is to be behind.
    slow: Arc<AtomicBool>,
    partitions: i32,
}

#[async_trait]
impl Handler<Record> for Notes {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        // What is no number is no record of the lab's: a barrier, which only those see who do not follow.
        let Ok(value) = text(record.value()).parse() else { return Outcome::Done };
        {
            let mut seen = self.seen.lock();
            seen.partitions.insert(record.partition());
            seen.values.entry(text(record.key())).or_default().push(value);
        }
        if record.partition() < self.partitions && self.slow.load(Ordering::Relaxed) {
            sleep(SLOW).await;
        }
        Outcome::Done
    }
}

impl Readers {
    /// So many that follow the topic's layouts, or do not.
    pub fn start(scene: &Scene, members: usize, slow: bool, follows: bool) -> Self {
        let (shutdown, seen) = (Shutdown::new(PATIENCE), Seen::default());
        let slow = Arc::new(AtomicBool::new(slow));
        let member = || {
            let notes = Notes { seen: seen.clone(), slow: slow.clone(), partitions: scene.partitions };
            let (brokers, group, topic) = (scene.brokers.clone(), scene.group.clone(), scene.topic.clone());
            let builder = move |topics: &[String]| {
                let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
                let builder = GroupBuilder::new(&brokers, &group, topics, start).session_timeout(SESSION);
                builder.option("topic.metadata.refresh.interval.ms", "200")
            };
            let follow = Follow::new(&Cluster::new(&scene.brokers), &scene.topic, &scene.group);
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                if follows {
                    read(follow, builder, notes, shutdown).await?;
                } else {
                    builder(&[topic]).handler(notes)?.run(shutdown).await?;
                }
                Ok(())
            })
        };
        Self { members: (0..members).map(|_| member()).collect(), slow, shutdown, seen }
    }

    /// From now on they take no time.
    pub fn hurry(&self) {
        self.slow.store(false, Ordering::Relaxed);
    }

    /// Waits until there was a record of each of these partitions, for so long at most; whether there was.
    pub async fn come_to(&self, partitions: Range<i32>, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !partitions.clone().all(|one| self.seen.lock().partitions.contains(&one)) {
            if Instant::now() > until {
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Different records.
    fn count(&self) -> u64 {
        self.seen.lock().values.values().map(|values| values.iter().collect::<BTreeSet<_>>().len() as u64).sum()
    }

    /// Waits until they have read so many, or read no more; then ends them.
    pub async fn end(self, records: u64) -> Result<Read> {
        self.end_after(records, STILL).await
    }

    /// The same where nothing may be read for so long, and something be all the same.
    pub async fn end_after(self, records: u64, still: Duration) -> Result<Read> {
        let (mut before, mut since) = (0, Instant::now());
        while self.count() < records && since.elapsed() < still {
            let now = self.count();
            if now != before {
                (before, since) = (now, Instant::now());
            }
            sleep(Duration::from_millis(10)).await;
        }
        self.shutdown.begin();
        for member in self.members {
            member.await??;
        }
        let seen = self.seen.lock();
        let mut read = Read::default();
        for values in seen.values.values() {
            // Where each came first: a hand-over between members may repeat some.
            let mut known = BTreeSet::new();
            let first: Vec<_> = values.iter().filter(|value| known.insert(**value)).collect();
            read.overtaken += u64::from(!first.is_sorted());
            read.again += (values.len() - first.len()) as u64;
            read.records += first.len() as u64;
        }
        Ok(read)
    }
}

/// What they read.
#[derive(Debug, Default)]
pub struct Read {
    /// Different records.
    pub records: u64,
    /// Records that were read again.
    pub again: u64,
    /// Keys whose records did not come in order.
    pub overtaken: u64,
}
