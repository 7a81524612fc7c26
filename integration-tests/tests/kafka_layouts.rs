//! The order of each key across growing and moving, with writers and readers at work; and what a plain increase does to it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kafka_group::Shutdown;
use kafka_partitions::{Change, Cluster, Follow, Step, read};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::task::JoinHandle;
use turnstile_integration_tests::layouts::{
    Notes, Role, Seen, by_key, in_topics, lanes, member, name_of, out_of_order, process, reader,
};
use turnstile_integration_tests::until;
use turnstile_testkit::child::Child;
use turnstile_testkit::kafka::{self, Kafka, shared};
use turnstile_testkit::unique;

const LAYOUTS: &str = env!("CARGO_BIN_EXE_layouts");
const KEYS: u32 = 12;

type Reader = JoinHandle<anyhow::Result<u64>>;

struct Scene {
    brokers: String,
    topic: String,
    cluster: Cluster,
    seen: Seen,
    shutdown: Shutdown,
}

impl Scene {
    async fn new(kafka: &Kafka, partitions: i32) -> Self {
        let topic = unique("layouts");
        kafka.topic(&topic, partitions).await.unwrap();
        let (brokers, seen) = (kafka.brokers(), Seen::default());
        let shutdown = Shutdown::new(Duration::from_secs(10));
        Self { cluster: Cluster::new(&brokers), brokers, topic, seen, shutdown }
    }

    async fn writer(&self, name: &str, patience: Duration) -> Child {
        let (brokers, topic, name) = (self.brokers.clone(), self.topic.clone(), name.to_owned());
        let mut child = process(LAYOUTS, &Role::Write { brokers, topic, name, keys: KEYS, patience }).unwrap();
        child.line_with("round 0 ").await.unwrap();
        child
    }

    fn change(&self, into: Option<&str>, partitions: i32, halt: Option<Step>) -> Child {
        let (brokers, topic, into) = (self.brokers.clone(), self.topic.clone(), into.map(str::to_owned));
        process(LAYOUTS, &Role::Change { brokers, topic, into, partitions, halt: halt.map(name_of) }).unwrap()
    }

    fn reader(&self, slow: u64) -> Reader {
        self.reader_by(slow, false)
    }

    fn reader_by(&self, slow: u64, by_key: bool) -> Reader {
        let notes = Notes { seen: self.seen.clone(), slow: Duration::from_millis(slow) };
        let group = format!("group-of-{}", self.topic);
        reader(&self.brokers, &group, &self.topic, notes, by_key, &self.shutdown)
    }

    /// Ends a writer, and says how many rounds it wrote.
    async fn ended(&self, mut writer: Child) -> u64 {
        writer.say("end").await.unwrap();
        writer.line_with("wrote ").await.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Different records that were read.
    fn read(&self) -> u64 {
        by_key(&self.seen).values().map(|values| values.len() as u64).sum()
    }

    /// Waits until so many records were read; each of them is in the topics once.
    async fn until_read(&self, records: u64) {
        let until = Instant::now() + Duration::from_secs(90);
        while self.read() < records && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.read(), records, "{:?}", out_of_order(&self.seen).first());
        assert_eq!(self.in_topics().await, (records, 0), "records, and those of them that are there twice");
    }

    /// Waits until so many records were read, ends the readers, and sees that each key came in order.
    async fn until_all_in_order(&self, records: u64, readers: [Reader; 2]) {
        self.until_read(records).await;
        self.shutdown.begin();
        for reader in readers {
            reader.await.unwrap().unwrap();
        }
        assert_eq!(out_of_order(&self.seen), [], "in order, none lost");
    }

    /// How many records the topics of all layouts have, and how many of them are there twice.
    async fn in_topics(&self) -> (u64, u64) {
        let layouts = self.cluster.layouts(&self.topic).await.unwrap();
        let topics = layouts.opened().map(|layout| layout.topic.clone()).chain([self.topic.clone()]);
        let topics: std::collections::BTreeSet<_> = topics.collect();
        let (brokers, topics) = (self.brokers.clone(), topics.into_iter().collect::<Vec<_>>());
        tokio::task::spawn_blocking(move || in_topics(&brokers, &topics)).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn growing_keeps_the_order_of_each_key_with_writers_and_readers_at_work_and_one_writer_stopped() {
    let scene = Scene::new(&shared().await.unwrap(), 2).await;
    // Two members, so slow that the old layout is behind when the new one begins; the first is there before any layout.
    let first = scene.reader(2);
    let mut one = scene.writer("one", Duration::from_secs(30)).await;
    let mut stopped = scene.writer("stopped", Duration::from_secs(30)).await;
    let dead = scene.writer("dead", Duration::from_secs(30)).await;
    let readers = [first, scene.reader(2)];
    one.line_with("round 20 ").await.unwrap();
    stopped.stop().unwrap();
    dead.kill().unwrap();
    drop(dead);

    let plan = scene.cluster.plan(Change::grow(&scene.topic, 5)).await.unwrap();
    assert_eq!(plan.writers, ["dead", "one", "stopped"]);
    let layout = scene.cluster.carry_out(plan, |_| ()).await.unwrap();
    assert_eq!((layout.epoch, layout.partitions, layout.barriers.len()), (2, 5, 2));
    one.line_with("epoch 2").await.unwrap();
    stopped.cont().unwrap();
    stopped.line_with("epoch 2").await.unwrap();
    let rounds = [scene.ended(one).await, scene.ended(stopped).await];

    // The dead one may have been killed before it said what it had written: all of a round, or nothing of it.
    let expected = scene.in_topics().await.0;
    let of_dead = expected - rounds.iter().sum::<u64>() * u64::from(KEYS);
    assert!(of_dead > 0 && of_dead % u64::from(KEYS) == 0, "{of_dead}");
    scene.until_all_in_order(expected, readers).await;
    let new = scene.seen.lock().iter().filter(|(.., partition)| *partition >= 2).count();
    assert!(new > 0, "nothing came by the new partitions");
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_away_as_a_topic_moves_do_not_end_its_readers() {
    let scene = Scene::new(&shared().await.unwrap(), 2).await;
    let (notes, turns) = (Notes { seen: scene.seen.clone(), slow: Duration::ZERO }, Arc::new(AtomicU32::new(0)));
    let (brokers, group, counted) = (scene.brokers.clone(), unique("group"), turns.clone());
    let follow = Follow::new(&scene.cluster, &scene.topic, &group);
    let members = move |topics: &[String]| {
        // The second one finds nobody.
        let away = counted.fetch_add(1, Ordering::SeqCst) == 1;
        member(if away { "127.0.0.1:1" } else { &brokers }, &group, topics)
    };
    let mut writer = scene.writer("one", Duration::from_secs(30)).await;
    let run = tokio::spawn(read(follow, members, notes, scene.shutdown.clone()));
    until("something is read", async || scene.read() > 0).await;
    let plan = scene.cluster.plan(Change::into_topic(&scene.topic, format!("{}.2", scene.topic), 3)).await.unwrap();
    scene.cluster.carry_out(plan, |_| ()).await.unwrap();
    writer.line_with("epoch 2").await.unwrap();
    let rounds = scene.ended(writer).await;
    scene.until_read(rounds * u64::from(KEYS)).await;
    assert!(turns.load(Ordering::SeqCst) >= 3);
    scene.shutdown.begin();
    run.await.unwrap().unwrap();
    assert_eq!(out_of_order(&scene.seen), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_increase_is_seen_to_break_the_order_of_keys() {
    let kafka = shared().await.unwrap();
    let scene = Scene::new(&kafka, 2).await;
    let keys: Vec<_> = (0..KEYS).map(|key| format!("plain-{key}")).collect();
    let round = |value: usize| keys.iter().map(move |key| (key.clone(), value.to_string()));
    for value in 0..30 {
        kafka.produce(&scene.topic, None, round(value)).await.unwrap();
    }
    kafka.grow_topic(&scene.topic, 5).await.unwrap();
    for value in 30..40 {
        kafka.produce(&scene.topic, None, round(value)).await.unwrap();
    }
    let notes = Notes { seen: scene.seen.clone(), slow: Duration::from_millis(5) };
    let group = unique("group");
    let member = member(&scene.brokers, &group, std::slice::from_ref(&scene.topic)).handler(notes).unwrap();
    let run = tokio::spawn(member.run(scene.shutdown.clone()));
    scene.until_read(40 * u64::from(KEYS)).await;
    scene.shutdown.begin();
    run.await.unwrap().unwrap();
    assert!(!out_of_order(&scene.seen).is_empty(), "no key was overtaken: the checker is blind");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_by_key_follow_a_topic_that_grows_and_moves_and_where_they_do_not_keys_are_seen_to_be_overtaken() {
    let scene = Scene::new(&shared().await.unwrap(), 2).await;
    let mut writer = scene.writer("one", Duration::from_secs(30)).await;
    let readers = [scene.reader_by(100, true), scene.reader_by(100, true)];
    let blind = Notes { seen: Seen::default(), slow: Duration::from_secs(1) };
    let (seen, group) = (blind.seen.clone(), unique("blind"));
    let blind = member(&scene.brokers, &group, std::slice::from_ref(&scene.topic)).scheduled(blind, lanes).unwrap();
    let stop = Shutdown::new(Duration::from_millis(100));
    let blind = tokio::spawn(blind.run(stop.clone()));
    until("the blind one is at work", async || !seen.lock().is_empty()).await;
    writer.line_with("round 20 ").await.unwrap();

    let plan = scene.cluster.plan(Change::grow(&scene.topic, 5)).await.unwrap();
    scene.cluster.carry_out(plan, |_| ()).await.unwrap();
    writer.line_with("epoch 2").await.unwrap();
    let overtaken = || out_of_order(&seen).iter().any(|(key, _)| key.starts_with("one-"));
    until("a key is overtaken where nobody follows", async || overtaken()).await;
    stop.begin();
    blind.await.unwrap().unwrap();
    let plan = scene.cluster.plan(Change::into_topic(&scene.topic, unique("small"), 1)).await.unwrap();
    scene.cluster.carry_out(plan, |_| ()).await.unwrap();
    writer.line_with("epoch 3").await.unwrap();
    let expected = scene.ended(writer).await * u64::from(KEYS);
    scene.until_all_in_order(expected, readers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_brokers_is_lost_in_the_middle_of_a_change_and_with_the_other_two_it_comes_to_its_end() {
    let mut kafka = kafka::Cluster::start(3).await.unwrap();
    let scene = Scene::new(&kafka, 2).await;
    let mut writer = scene.writer("one", Duration::from_secs(60)).await;
    let readers = [scene.reader(2), scene.reader(2)];
    writer.line_with("round 5 ").await.unwrap();
    let mut change = scene.change(None, 5, Some(Step::Closed));
    change.line_with("halted").await.unwrap();
    let log = scene.cluster.topic(&format!("{}.layouts", scene.topic)).await.unwrap();
    let leader = log.partitions[0].leader.unwrap();
    kafka.each().iter_mut().find(|broker| broker.id() == leader).unwrap().kill().await.unwrap();
    change.say("go on").await.unwrap();
    // It may say that it has failed; then it is asked for again.
    let done = async {
        while change.line().await.as_deref() != Some("done 2") {
            change = scene.change(None, 5, None);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done).await.unwrap();
    writer.line_with("epoch 2").await.unwrap();
    let expected = scene.ended(writer).await * u64::from(KEYS);
    scene.until_all_in_order(expected, readers).await;
}

/// A producer with a transaction that it has begun under the first layout, and commits behind the barrier.
async fn late(scene: &Scene, id: &str) -> Result<(), rdkafka::error::KafkaError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &scene.brokers).set("transactional.id", id);
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    let plan = scene.cluster.plan(Change::grow(&scene.topic, 3)).await.unwrap();
    let cluster = scene.cluster.clone();
    cluster.carry_out(plan, |_| ()).await.unwrap();
    tokio::task::spawn_blocking({
        let topic = scene.topic.clone();
        move || {
            producer.begin_transaction()?;
            let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic).partition(0).key("late").payload("0");
            producer.send(record).map_err(|(error, _)| error)?;
            producer.flush(Duration::from_secs(30))?;
            producer.commit_transaction(Duration::from_secs(30))
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_writer_is_fenced_and_one_that_was_not_entered_is_seen_to_write_behind_the_barrier() {
    let kafka = shared().await.unwrap();
    for entered in [true, false] {
        let scene = Scene::new(&kafka, 1).await;
        let writer = scene.writer("late", Duration::from_secs(30)).await;
        writer.kill().unwrap();
        let id = if entered { format!("turnstile.{}.writer.late", scene.topic) } else { unique("stranger") };
        let written = late(&scene, &id).await;
        assert_eq!(written.is_err(), entered, "{written:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_that_are_killed_at_each_step_are_taken_up_and_lose_and_repeat_nothing() {
    let scene = Scene::new(&shared().await.unwrap(), 4).await;
    let mut writer = scene.writer("one", Duration::from_secs(60)).await;
    let readers = [scene.reader(0), scene.reader(0)];
    writer.line_with("round 5 ").await.unwrap();
    let steps = [Step::Planned, Step::Prepared, Step::CarriedOver, Step::Closed, Step::Fenced, Step::Switched];
    for (number, step) in steps.into_iter().enumerate() {
        let (into, partitions) = (format!("{}.{number}", scene.topic), [3, 2, 1, 4, 2, 1][number]);
        let mut killed = scene.change(Some(&into), partitions, Some(step));
        killed.line_with("halted").await.unwrap();
        killed.kill().unwrap();
        killed.wait().await.unwrap();
        let before = scene.cluster.layouts(&scene.topic).await.unwrap();
        assert_eq!(before.pending().is_some(), step != Step::Switched, "{step:?}");
        if step != Step::Switched {
            let plan = scene.cluster.plan(Change::into_topic(&scene.topic, &into, partitions)).await.unwrap();
            assert!(plan.resumes, "{step:?}");
            let other = scene.cluster.plan(Change::into_topic(&scene.topic, "elsewhere", partitions)).await;
            assert!(other.unwrap_err().to_string().contains("under way"));
            let mut again = scene.change(Some(&into), partitions, None);
            again.line_with(&format!("done {}", number + 2)).await.unwrap();
        }
        writer.line_with(&format!("epoch {}", number + 2)).await.unwrap();
    }
    let expected = scene.ended(writer).await * u64::from(KEYS);
    scene.until_all_in_order(expected, readers).await;
    assert_eq!(scene.seen.lock().len() as u64, expected, "nothing is repeated when members leave and join");
    let topics: std::collections::BTreeSet<_> =
        scene.seen.lock().iter().map(|(_, _, topic, _)| topic.clone()).collect();
    assert_eq!(topics.len(), steps.len() + 1, "{topics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_stands_still_is_withdrawn_by_a_waiting_writer_and_cannot_go_on_later() {
    let scene = Scene::new(&shared().await.unwrap(), 2).await;
    let mut writer = scene.writer("one", Duration::from_secs(1)).await;
    let mut change = scene.change(None, 4, Some(Step::Fenced));
    change.line_with("halted").await.unwrap();
    change.stop().unwrap();
    until("it is withdrawn", async || scene.cluster.layouts(&scene.topic).await.unwrap().pending().is_none()).await;
    writer.line_with("epoch 1").await.unwrap();
    change.cont().unwrap();
    change.say("go on").await.unwrap();
    assert!(change.line_with("failed").await.unwrap().contains("taken over"));
    let written = scene.ended(writer).await;
    assert!(written > 0);
    let layouts = scene.cluster.layouts(&scene.topic).await.unwrap();
    assert_eq!(layouts.current().unwrap().epoch, 1);
    // And begun anew, it is carried out.
    let plan = scene.cluster.plan(Change::grow(&scene.topic, 4)).await.unwrap();
    assert_eq!(scene.cluster.carry_out(plan, |_| ()).await.unwrap().epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_would_begin_at_the_end_begin_a_moved_topic_at_its_beginning() {
    let kafka = shared().await.unwrap();
    let scene = Scene::new(&kafka, 2).await;
    let into = format!("{}.small", scene.topic);
    let done = scene.writer("one", Duration::from_secs(30)).await;
    scene.ended(done).await;
    let group = format!("group-of-{}", scene.topic);
    let reader = scene.reader(0);
    until("it has committed", async || {
        kafka.committed(&group, &scene.topic).await.unwrap().iter().any(|one| one.offset.is_some())
    })
    .await;
    let plan = scene.cluster.plan(Change::into_topic(&scene.topic, &into, 1)).await.unwrap();
    assert_eq!((plan.groups.as_slice(), plan.to.partitions), (&[group.clone()][..], 1));
    scene.cluster.carry_out(plan, |_| ()).await.unwrap();
    until("the offset is carried over", async || kafka.committed(&group, &into).await.unwrap()[0].offset.is_some())
        .await;
    scene.shutdown.begin();
    reader.await.unwrap().unwrap();
}
