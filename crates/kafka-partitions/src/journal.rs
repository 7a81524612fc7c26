//! Who changes a topic's layouts: one at a time, since each fences the one before it.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::cluster::{Cluster, REQUEST, Topic};
use crate::error::{ChangeError, TopicError};
use crate::follower::Follower;
use crate::layout::{Layout, Layouts, State, barrier_key, entry, log_of, writer_key};
use crate::partitioner::Partitioner;
use crate::producing::{Failure, Outgoing, Transactions, is_fenced};

/// The right to change the layouts of a topic, until somebody else takes it.
pub(crate) struct Journal {
    topic: String,
    log: String,
    transactions: Transactions,
    pub follower: Follower,
}

impl Journal {
    /// Takes it, and reads what is there. Makes the log if there is none, and the first layout: the topic as it is.
    pub fn take(cluster: &Cluster, topic: &Topic, partitioner: Partitioner) -> Result<Self, ChangeError> {
        let log = log_of(&topic.name);
        let follower = match Follower::open(cluster, &topic.name)? {
            Some(follower) => follower,
            None => {
                create(cluster, &log, 1, topic.replication(), &[("cleanup.policy", "compact")])?;
                Follower::open(cluster, &topic.name)?.ok_or_else(|| TopicError::UnknownTopic(log.clone()))?
            }
        };
        let id = format!("turnstile.{}.layouts", topic.name);
        let transactions = Transactions::take(cluster, &id)
            .map_err(|error| TopicError::of(format!("the layouts of {} cannot be changed", topic.name), error))?;
        let mut journal = Self { topic: topic.name.clone(), log, transactions, follower };
        if journal.read()?.current().is_none() {
            journal.write(Layout {
                epoch: 1,
                topic: topic.name.clone(),
                partitions: topic.count(),
                partitioner,
                state: State::Open,
                barriers: Vec::new(),
            })?;
        }
        Ok(journal)
    }

    /// All that is in the log now.
    pub fn read(&mut self) -> Result<&Layouts, ChangeError> {
        Ok(self.follower.catch_up()?)
    }

    /// Writes a layout, and waits until all who read the log from now on see it.
    pub fn write(&mut self, layout: Layout) -> Result<(), ChangeError> {
        let (key, value) = entry(&layout);
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        let record = Outgoing { topic: &self.log, partition: 0, key, value };
        let written = self.transactions.write(&[record], |_| None, |_| Ok(()));
        written.map_err(|failure| self.failed(failure))?;
        self.read()?;
        Ok(())
    }

    /// Opens a layout: barriers in all partitions of the old one and the record that says so, all of it or nothing.
    pub fn switch(&mut self, old: &Layout, mut layout: Layout) -> Result<Layout, ChangeError> {
        let key = barrier_key(&self.topic, layout.epoch);
        let value = format!(r#"{{"v":1,"epoch":{}}}"#, layout.epoch);
        let barrier =
            |partition| Outgoing { topic: &old.topic, partition, key: Some(&key), value: Some(value.as_bytes()) };
        let barriers: Vec<_> = (0..old.partitions).map(barrier).collect();
        layout.state = State::Open;
        let open = |places: &[(i32, i64)]| {
            layout.barriers = places.iter().map(|(_, offset)| *offset).collect();
            let (key, value) = entry(&layout);
            Some((self.log.clone(), key, value))
        };
        let written = self.transactions.write(&barriers, open, |_| Ok(()));
        written.map_err(|failure| self.failed(failure))?;
        self.read()?;
        Ok(layout)
    }

    /// Commits offsets for a group that may have members, who commit elsewhere.
    pub fn commit_for(&self, group: &BaseConsumer, offsets: &TopicPartitionList) -> Result<(), ChangeError> {
        let metadata = group.group_metadata().ok_or_else(|| {
            TopicError::of("a group's offsets cannot be carried over", KafkaError::MetadataFetch(Code::UnknownGroup))
        })?;
        let written = self.transactions.write(
            &[],
            |_| None,
            |producer| producer.send_offsets_to_transaction(offsets, &metadata, REQUEST),
        );
        written.map(drop).map_err(|failure| self.failed(failure))
    }

    fn failed(&self, failure: Failure) -> ChangeError {
        let what = format!("the layouts of {} cannot be changed", self.topic);
        match failure {
            Failure::Fenced => ChangeError::TakenOver(self.topic.clone()),
            // What it was at may be in the log all the same: the one who has taken over sees it there.
            Failure::Unknown(error) if is_fenced(&error) => ChangeError::TakenOver(self.topic.clone()),
            Failure::Again(error) | Failure::Refused(_, error) => TopicError::of(what, error).into(),
            Failure::Unknown(error) => {
                TopicError::of(format!("{what}, or were: do it again to find out"), error).into()
            }
        }
    }
}

/// Creates a topic unless there is one.
pub(crate) fn create(
    cluster: &Cluster,
    name: &str,
    partitions: i32,
    replication: i32,
    settings: &[(&str, &str)],
) -> Result<(), TopicError> {
    let what = format!("the topic {name} cannot be created");
    let admin: AdminClient<DefaultClientContext> =
        cluster.config().create().map_err(|error| TopicError::of(&*what, error))?;
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let options = options();
    let done = block_on(admin.create_topics([&topic], &options)).map_err(|error| TopicError::of(&*what, error))?;
    for one in done {
        match one {
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(TopicError::of_code(&*what, code)),
        }
    }
    seen(cluster, name, partitions)
}

/// Waits until clients find the topic with so many partitions, each with a leader.
pub(crate) fn seen(cluster: &Cluster, name: &str, partitions: i32) -> Result<(), TopicError> {
    let client = cluster.consumer(None)?;
    let until = Instant::now() + REQUEST;
    loop {
        match crate::cluster::topic(&client, name) {
            Ok(topic) if topic.count() >= partitions && topic.partitions.iter().all(|one| one.leader.is_some()) => {
                return Ok(());
            }
            Ok(_) | Err(TopicError::UnknownTopic(_)) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(_) => return Err(TopicError::of_code(format!("{name} is not ready"), Code::LeaderNotAvailable)),
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

/// These futures need no runtime: a thread of the client completes them.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}

/// Enters a writer into the log, or takes it out. Whoever closes the layout from then on fences it.
pub(crate) fn register(cluster: &Cluster, topic: &str, name: &str, present: bool) -> Result<(), TopicError> {
    let what = format!("the writer {name} cannot be entered into the layouts of {topic}");
    let (log, key) = (log_of(topic), writer_key(name));
    let mut config = cluster.config();
    config.set("enable.idempotence", "true").set("delivery.timeout.ms", REQUEST.as_millis().to_string());
    let told: std::sync::Arc<parking_lot::Mutex<Option<Result<(), KafkaError>>>> = std::sync::Arc::default();
    let producer: BaseProducer<Told> =
        config.create_with_context(Told(told.clone())).map_err(|error| TopicError::of(&*what, error))?;
    let mut record: BaseRecord<'_, str, str> = BaseRecord::to(&log).partition(0).key(&key);
    record.payload = present.then_some(r#"{"v":1}"#);
    producer.send(record).map_err(|(error, _)| TopicError::of(&*what, error))?;
    producer.flush(REQUEST).map_err(|error| TopicError::of(&*what, error))?;
    let told = told.lock().take().unwrap_or(Err(KafkaError::Canceled));
    told.map_err(|error| TopicError::of(what, error))
}

struct Told(std::sync::Arc<parking_lot::Mutex<Option<Result<(), KafkaError>>>>);

impl rdkafka::client::ClientContext for Told {}

impl rdkafka::producer::ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::message::DeliveryResult<'_>, (): ()) {
        *self.0.lock() = Some(result.as_ref().map(drop).map_err(|(error, _)| error.clone()));
    }
}

/// What a group has committed of these partitions.
pub(crate) fn committed(client: &BaseConsumer, topic: &str, partitions: i32) -> Result<Vec<Option<i64>>, TopicError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let answer = crate::cluster::retry(|| client.committed_offsets(list.clone(), REQUEST / 4));
    let answer = answer.map_err(|error| TopicError::of("a group's offsets cannot be read", error))?;
    let one = |partition| match answer.find_partition(topic, partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Ok((0..partitions).map(one).collect())
}
