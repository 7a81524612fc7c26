//! One topic, one group that works on it, and a history of it all, to be judged at the end.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use kafka_group::header;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use turnstile_testkit::child::Child;
use turnstile_testkit::history::{Event, Fault, History, How, Order, Place, Recorder, Verdict, What, check};
use turnstile_testkit::kafka::Kafka;

use crate::kafka::{Kind, Protocol, Role};
use crate::{name, until};

/// One topic, one group, one history.
pub struct Scene {
    kafka: Kafka,
    program: &'static str,
    history: History,
    test: Recorder,
    producer: Recorder,
    /// What every member does unless told otherwise.
    pub role: Role,
    /// Which records must be handled one after another.
    pub order: Order,
    /// How many keys records have.
    pub keys: usize,
    committed: Arc<Mutex<HashMap<i32, i64>>>,
    watches: Arc<AtomicBool>,
    observer: Option<JoinHandle<()>>,
}

/// A member as a process. Dropping it kills it.
pub struct Process {
    name: Arc<str>,
    child: Child,
    test: Recorder,
}

impl Scene {
    /// A new topic with so many partitions, one for dead letters, and somebody who watches what the group commits.
    /// `program` is the member's, `env!("CARGO_BIN_EXE_member")`.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn new(program: &'static str, kafka: &Kafka, partitions: i32) -> Result<Self> {
        let history = History::temporary()?;
        let topic = name("orders");
        let dead_letters = format!("{topic}-dead");
        kafka.topic(&topic, partitions).await?;
        kafka.topic(&dead_letters, 1).await?;
        let role = Role {
            name: String::new(),
            history: history.folder().into(),
            brokers: kafka.brokers(),
            group: name("group"),
            topic,
            dead_letters: Some(dead_letters),
            kind: Kind::Ours,
            protocol: Protocol::Cooperative,
            work: Duration::from_millis(5),
            session: Duration::from_secs(10),
            max_poll: Duration::from_secs(60),
            commits: Some(Duration::from_millis(50)),
            heeds: true,
            attempts: 2,
            options: Vec::new(),
        };
        let (test, producer) = (history.recorder("test")?, history.recorder("producer")?);
        let (committed, watches) = (Arc::default(), Arc::new(AtomicBool::new(true)));
        let kafka = kafka.clone();
        let mut scene = Self {
            kafka,
            program,
            history,
            test,
            producer,
            role,
            order: Order::Partition,
            keys: usize::MAX,
            committed,
            watches,
            observer: None,
        };
        scene.watch()?;
        Ok(scene)
    }

    /// Produces so many records of that value, over all partitions in turn, or to one of them.
    ///
    /// # Errors
    /// When one is not acknowledged.
    pub async fn produce(&self, count: usize, value: &str, partition: Option<i32>) -> Result<()> {
        let keys = (0..count).map(|number| format!("{}", number % self.keys));
        let partitions = self.kafka.end_offsets(&self.role.topic).await?.len();
        for to in 0..i32::try_from(partitions)? {
            if partition.is_some_and(|only| only != to) {
                continue;
            }
            let share = if partition.is_some() { 1 } else { partitions };
            let keys: Vec<_> = keys.clone().skip(usize::try_from(to)? % share).step_by(share).collect();
            let records = keys.iter().map(|key| (key.clone(), value.to_owned()));
            let places = self.kafka.produce(&self.role.topic, Some(to), records).await?;
            for ((partition, offset), key) in places.into_iter().zip(keys) {
                let place = Place::new(&*self.role.topic, partition, offset);
                self.producer.record(&What::Produced { place, key: Some(key.into()) })?;
            }
        }
        Ok(())
    }

    /// Starts a member of this name, by the scene's role as `change` has it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn member_with(&self, name: &str, change: impl FnOnce(&mut Role)) -> Result<Process> {
        let mut role = Role { name: name.to_owned(), ..self.role.clone() };
        change(&mut role);
        let mut command = Command::new(self.program);
        command.arg(serde_json::to_string(&role)?);
        Ok(Process { name: name.into(), child: Child::spawn(command)?, test: self.test.clone() })
    }

    /// Starts a member of this name by the scene's role.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn member(&self, name: &str) -> Result<Process> {
        self.member_with(name, |_| {})
    }

    /// Writes down what is done to all: a broker that goes away or comes back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn fault(&self, fault: Fault) -> Result<()> {
        self.test.record(&What::Fault { fault, whom: None })
    }

    /// What is written down until now.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.history.events().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// How many attempts ended as done, by this member or, without a name, by all.
    #[must_use]
    pub fn done_by(&self, who: Option<&str>) -> usize {
        let done = |event: &&Event| {
            matches!(event.what, What::Ended { how: How::Done, .. }) && who.is_none_or(|who| who == &*event.who)
        };
        self.events().iter().filter(done).count()
    }

    /// Waits until this member has done so many.
    pub async fn until_done_by(&self, who: &str, count: usize) {
        until(&format!("{who} has done {count}"), async || self.done_by(Some(who)) >= count).await;
    }

    /// Produces, as long as it takes, until this member has done so many more: it may have to join first.
    ///
    /// # Panics
    /// When it does not, or Kafka does not take the records.
    pub async fn produce_until_done_by(&self, who: &str, count: usize) {
        let before = self.done_by(Some(who));
        until(&format!("{who} has done {count} more"), async || {
            self.produce(60, "", None).await.unwrap_or_else(|error| panic!("{error:#}"));
            self.done_by(Some(who)) >= before + count
        })
        .await;
    }

    /// Two members join one that is at work, and two leave; each has done so many before the next comes. What is said of it.
    ///
    /// # Errors
    /// When a member does not start, or does not end in an orderly way.
    pub async fn come_and_go(&self, each: usize) -> Result<Verdict> {
        let mut members = Vec::new();
        for name in ["one", "two", "three"] {
            members.push(self.member(name)?);
            self.produce_until_done_by(name, each).await;
        }
        let stays = members.remove(1);
        for member in members {
            member.ended().await?;
        }
        self.until_all_committed().await;
        stays.ended().await?;
        self.verdict().await
    }

    /// Waits until this member is at work on a record.
    pub async fn until_at_work(&self, who: &str) {
        until(&format!("{who} is at work"), async || {
            let events = self.events();
            let last = events.iter().rev().find(|event| &*event.who == who);
            last.is_some_and(|event| matches!(event.what, What::Started { .. }))
        })
        .await;
    }

    /// Waits until the last record of each partition that was produced here is done.
    pub async fn until_last_is_done(&self) {
        let events = self.events();
        let mut last = HashMap::new();
        for event in &events {
            if let What::Produced { place, .. } = &event.what {
                let last = last.entry(place.partition).or_insert(place.offset);
                *last = place.offset.max(*last);
            }
        }
        until("the last is done", async || {
            let mut left = last.clone();
            for event in &self.events() {
                match &event.what {
                    What::Ended { place, how: How::Done, .. } if left.get(&place.partition) == Some(&place.offset) => {
                        left.remove(&place.partition);
                    }
                    _ => {}
                }
            }
            left.is_empty()
        })
        .await;
    }

    /// Who was the last to begin a record, for each partition of which there is one.
    #[must_use]
    pub fn owners(&self) -> Vec<Arc<str>> {
        let mut owners = std::collections::BTreeMap::new();
        for event in self.events() {
            if let What::Started { place, .. } = event.what {
                owners.insert(place.partition, event.who);
            }
        }
        owners.into_values().collect()
    }

    /// Waits until the group has committed all that is in the topic.
    ///
    /// # Panics
    /// When it does not, or Kafka does not answer.
    pub async fn until_all_committed(&self) {
        let ends = self.kafka.end_offsets(&self.role.topic).await.unwrap_or_else(|error| panic!("{error:#}"));
        let all = async || {
            let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
            ends.iter().zip(0..).all(|(end, partition)| *end == 0 || committed.get(&partition) == Some(end))
        };
        let wait = tokio::time::timeout(Duration::from_secs(60), async {
            while !all().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        if wait.await.is_err() {
            let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            panic!("never all committed: {committed:?} of {ends:?}\n{}", self.verdict_now());
        }
    }

    /// What was committed of a partition, as was last seen.
    #[must_use]
    pub fn committed(&self, partition: i32) -> Option<i64> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    /// Judges what is written down until now.
    #[must_use]
    pub fn verdict_now(&self) -> Verdict {
        check(&self.events(), self.order)
    }

    /// Reads the dead letters, and judges the whole history.
    ///
    /// # Errors
    /// When the dead letters cannot be read.
    pub async fn verdict(&self) -> Result<Verdict> {
        for (place, _) in self.dead_letters().await? {
            self.test.record(&What::DeadLettered { place })?;
        }
        Ok(self.verdict_now())
    }

    /// The dead letters: where each came from, and its headers.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn dead_letters(&self) -> Result<Vec<(Place, HashMap<String, String>)>> {
        let topic = format!("{}-dead", self.role.topic);
        let end = self.kafka.end_offsets(&topic).await?.remove(0);
        let consumer: BaseConsumer = self.client(&format!("{}-reader", self.role.group)).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Beginning)?;
        consumer.assign(&list)?;
        let read = tokio::task::spawn_blocking(move || {
            let mut letters = Vec::new();
            while i64::try_from(letters.len())? < end {
                let letter = consumer.poll(Duration::from_secs(30)).context("a dead letter does not come")??;
                let headers = letter.headers().into_iter().flat_map(Headers::iter);
                let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                letters.push(headers.map(|one| (one.key.to_owned(), text(one.value))).collect::<HashMap<_, _>>());
            }
            anyhow::Ok(letters)
        });
        let place = |headers: HashMap<String, String>| {
            let get = |name| headers.get(name).with_context(|| format!("no {name} in {headers:?}"));
            let topic = get(header::TOPIC)?.as_str();
            let place = Place::new(topic, get(header::PARTITION)?.parse()?, get(header::OFFSET)?.parse()?);
            Ok((place, headers))
        };
        read.await??.into_iter().map(place).collect()
    }

    fn client(&self, group: &str) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.role.brokers).set("group.id", group).set("enable.auto.commit", "false");
        client.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200").set("log_level", "0");
        client
    }

    /// Starts to write down each change of the group's committed offsets.
    fn watch(&mut self) -> Result<()> {
        let recorder = self.history.recorder("observer")?;
        let (topic, watches, committed) = (self.role.topic.clone(), self.watches.clone(), self.committed.clone());
        let client: BaseConsumer = self.client(&self.role.group).create()?;
        let look = move || {
            let within = Duration::from_secs(2);
            let metadata = client.fetch_metadata(Some(&topic), within)?;
            let mut list = TopicPartitionList::new();
            for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                list.add_partition(&topic, partition.id());
            }
            for one in client.committed_offsets(list, within)?.elements() {
                let Offset::Offset(offset) = one.offset() else { continue };
                let before = committed.lock().unwrap_or_else(PoisonError::into_inner).insert(one.partition(), offset);
                if before != Some(offset) {
                    recorder.record(&What::Committed {
                        topic: topic.as_str().into(),
                        partition: one.partition(),
                        offset,
                    })?;
                }
            }
            anyhow::Ok(())
        };
        self.observer = Some(std::thread::spawn(move || {
            while watches.load(Ordering::Relaxed) {
                // A broker that is away sees no commits either.
                let _ = look();
                std::thread::sleep(Duration::from_millis(5));
            }
        }));
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.watches.store(false, Ordering::Relaxed);
        if let Some(observer) = self.observer.take() {
            let _ = observer.join();
        }
    }
}

impl Process {
    /// Kills it, writes that down, and waits for its end.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn killed(mut self) -> Result<()> {
        self.record(Fault::Kill)?;
        self.child.kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// Asks it to end in an orderly way, waits until it has, and gives its last line.
    ///
    /// # Errors
    /// When it does not end so.
    pub async fn ended(mut self) -> Result<String> {
        self.child.say("end").await?;
        let line = self.child.line_with("ended").await?;
        anyhow::ensure!(self.child.wait().await?.success(), "it failed: {line}");
        Ok(line)
    }

    /// Stops or continues it, cuts it off or mends that: to be done by the caller, and written down by this.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, fault: Fault) -> Result<()> {
        self.test.record(&What::Fault { fault, whom: Some(self.name.clone()) })
    }

    /// Stops it, and writes that down.
    ///
    /// # Errors
    /// When it has ended.
    pub fn stopped(&self) -> Result<()> {
        self.record(Fault::Stop)?;
        self.child.stop()
    }

    /// Lets it go on, and writes that down.
    ///
    /// # Errors
    /// When it has ended.
    pub fn continued(&self) -> Result<()> {
        self.child.cont()?;
        self.record(Fault::Cont)
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}
