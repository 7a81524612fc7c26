//! What every trial on a Kafka needs: a broker of its own, a history that all who take part write, workers.

mod observer;
pub mod pictures;
mod producer;
pub mod soak;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use rdkafka::ClientConfig;
use tokio::time::sleep;
use turnstile_testkit::history::{Event, Fault, History, Recorder, What};
use turnstile_testkit::kafka::{Kafka, Server};
use turnstile_testkit::unique;

pub use self::observer::Observer;
pub use self::producer::{Delivered, POISON, Pace, Producer};
use super::Lab;
use super::breaks::Break;
use super::crew::{Worker, WorkerArgs};
use super::trial::NoServer;

/// The longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Where nothing at all happens for so long, nothing will.
const STILL: Duration = Duration::from_secs(4);

/// A trial under way.
pub struct Trial<'a> {
    pub lab: &'a Lab,
    strategy: &'static str,
    pub server: Kafka,
    /// If it is this trial's alone.
    _own: Option<Server>,
}

impl<'a> Trial<'a> {
    /// Starts a broker for it.
    pub async fn start(lab: &'a Lab, strategy: &'static str) -> Result<Self> {
        lab.progress.phase(strategy, "starting a Kafka");
        let own = Kafka::builder().for_measuring().start().await.context(NoServer("Kafka"))?;
        Ok(Self { lab, strategy, server: (*own).clone(), _own: Some(own) })
    }

    /// On a broker that others use too.
    pub fn on(lab: &'a Lab, strategy: &'static str, server: Kafka) -> Self {
        Self { lab, strategy, server, _own: None }
    }

    /// Tells what comes next.
    pub fn phase(&self, what: &str) {
        self.lab.progress.phase(self.strategy, what);
    }

    /// Whether this guard is to be taken away.
    pub fn breaks(&self, guard: Break) -> bool {
        self.lab.breaks(guard)
    }

    /// A phase with a topic, a group and a history of its own.
    pub async fn scene(&self, name: &str, partitions: i32) -> Result<Scene> {
        let topic = unique(name);
        self.server.topic(&topic, partitions).await?;
        let history = History::temporary()?;
        let lab = history.recorder("lab")?;
        let (brokers, strategy) = (self.server.brokers(), self.strategy);
        Ok(Scene { group: format!("group-of-{topic}"), topic, partitions, brokers, strategy, history, lab })
    }
}

/// A phase of a trial.
pub struct Scene {
    pub topic: String,
    pub group: String,
    pub partitions: i32,
    pub brokers: String,
    strategy: &'static str,
    pub history: History,
    lab: Recorder,
}

impl Scene {
    /// Worker processes that have not joined yet.
    pub async fn workers(&self, count: u32) -> Result<Vec<Worker>> {
        try_join_all((0..count).map(|number| self.worker(number))).await
    }

    /// One of them.
    pub async fn worker(&self, number: u32) -> Result<Worker> {
        let (strategy, register) = (self.strategy.to_owned(), self.history.folder().to_owned());
        let worker = Worker::start(WorkerArgs { strategy, url: self.brokers.clone(), register, number });
        worker.await.context("a worker process could not be started")
    }

    /// Begins to watch what is committed.
    pub fn observer(&self) -> Result<Observer> {
        Observer::start(self, self.history.recorder("observer")?)
    }

    /// Begins to produce.
    pub fn producer(&self, pace: Pace) -> Result<Producer> {
        Producer::start(self, pace)
    }

    /// Writes a kill down, and kills. The answer is when that was.
    pub async fn kill(&self, worker: &mut Worker, who: &str) -> Result<u64> {
        let at = super::clock::now();
        self.lab.record(&What::Fault { fault: Fault::Kill, whom: Some(who.into()) })?;
        worker.child().kill()?;
        worker.child().wait().await?;
        Ok(at)
    }

    /// Waits until all is committed; or until nothing happens any more, which the checker will tell.
    pub async fn settled(&self, observer: &Observer, ends: &BTreeMap<i32, i64>) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let (mut size, mut since) = (0, Instant::now());
        while Instant::now() < until && since.elapsed() < STILL {
            if observer.reached(ends) {
                return Ok(());
            }
            let grown = self.size()?;
            if grown != size {
                (size, since) = (grown, Instant::now());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Of all that was written down.
    fn size(&self) -> Result<u64> {
        let files = std::fs::read_dir(self.history.folder())?;
        files.map(|file| Ok(file?.metadata()?.len())).sum()
    }
}

/// How long it took, from `at` on, until others had begun a record in each of the partitions that this member had; if they
/// ever did.
pub fn takeover(events: &[Event], who: &str, at: u64) -> Option<Duration> {
    let mut owners: BTreeMap<i32, &str> = BTreeMap::new();
    let mut taken: BTreeMap<i32, u64> = BTreeMap::new();
    for event in events {
        let What::Started { place, .. } = &event.what else { continue };
        if event.at <= at {
            owners.insert(place.partition, &*event.who);
        } else if *event.who != *who {
            taken.entry(place.partition).or_insert(event.at);
        }
    }
    let had = owners.iter().filter(|(_, owner)| **owner == who).map(|(partition, _)| *partition);
    let times: Option<Vec<u64>> = had.map(|partition| taken.get(&partition).copied()).collect();
    Some(Duration::from_nanos(times?.into_iter().max()?.saturating_sub(at)))
}

/// Options that all clients of the lab have.
pub fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

#[cfg(test)]
mod tests {
    use turnstile_testkit::history::Place;

    use super::*;

    #[test]
    fn a_take_over_is_over_when_others_work_in_the_last_partition() {
        let started = |at, who: &str, partition| Event {
            at,
            who: who.into(),
            what: What::Started { place: Place::new("t", partition, 0), key: None, epoch: 1, attempt: 1 },
        };
        let mut events = vec![started(1, "a", 0), started(2, "a", 1), started(3, "b", 2), started(20, "b", 2)];
        assert_eq!(takeover(&events, "a", 10), None);
        events.extend([started(30, "b", 0), started(50, "b", 1), started(60, "b", 0)]);
        assert_eq!(takeover(&events, "a", 10), Some(Duration::from_nanos(40)));
        assert_eq!(takeover(&events, "nobody", 10), None);
    }
}
