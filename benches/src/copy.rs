//! A topic copied to another: by kafka-txn, by a bare transactional loop, and at least once.
//!
//! The clocks run from the first record that is handled until the last is committed, or delivered: joining the group is not
//! in it. Each side has an input that keeps it busy for [`ROUND`], and each round an output of its own. All sides have the same
//! limits of a transaction, or the same interval of commits.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use kafka_group::rdkafka::consumer::{BaseConsumer, Consumer};
use kafka_group::rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use kafka_group::rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use kafka_group::{Amount, Record, Records, Scheduler, Slot};
use kafka_txn::kafka_mt_consumer::ParallelBuilder;
use kafka_txn::{
    Attempt, GroupBuilder, LaneOptions, Outcome, Output, Outputs, Shutdown, Start, StartAt, Step, Transform, TxnBuilder,
};
use tokio::sync::{Notify, oneshot};
use turnstile_testkit::kafka::{Kafka, Server};
use turnstile_testkit::unique;

const PARTITIONS: i32 = 8;
const VALUE: [u8; 100] = [b'v'; 100];
/// How many keys the records of the parallel pair have.
const KEYS: u64 = 10_000;
const CHUNK: u64 = 100_000;
/// How long a round is to last.
pub const ROUND: Duration = Duration::from_secs(3);
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The limits of a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long its first record waits.
    pub every: Duration,
    /// How many records it takes.
    pub records: usize,
}

/// A broker for measuring, and an input that is full.
pub struct Copy {
    server: Arc<Server>,
    from: String,
    records: u64,
}

/// Records that are done.
struct Count {
    of: u64,
    done: AtomicU64,
    first: OnceLock<Instant>,
    last: Mutex<Option<Instant>>,
    all: Notify,
}

impl Count {
    fn new(of: u64) -> Arc<Self> {
        let (first, last, all) = (OnceLock::new(), Mutex::default(), Notify::new());
        Arc::new(Self { of, done: AtomicU64::new(0), first, last, all })
    }

    fn begins(&self) {
        self.first.get_or_init(Instant::now);
    }

    fn done(&self) {
        if self.done.fetch_add(1, Ordering::AcqRel) + 1 == self.of {
            self.ended();
            self.all.notify_one();
        }
    }

    fn ended(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn rate(&self) -> Result<f64> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).context("it has no end")?;
        Ok(self.of as f64 / (last - *self.first.get().context("it has no beginning")?).as_secs_f64())
    }
}

impl Copy {
    /// Starts a broker and fills a topic with so many records.
    ///
    /// # Errors
    /// When no broker can be had, or it does not take the records.
    pub async fn fill(records: u64) -> Result<Self> {
        Self::on(Arc::new(Kafka::builder().for_measuring().start().await?), records).await
    }

    async fn on(server: Arc<Server>, records: u64) -> Result<Self> {
        let from = unique("orders");
        server.topic(&from, PARTITIONS).await?;
        for chunk in (0..records).step_by(CHUNK as usize) {
            let numbers = chunk..records.min(chunk + CHUNK);
            server.produce(&from, None, numbers.map(|number| ((number % KEYS).to_string(), VALUE))).await?;
        }
        Ok(Self { server, from, records })
    }

    /// Another input on the same broker, which keeps this side busy for [`ROUND`].
    ///
    /// # Errors
    /// Those of a round, or of filling.
    pub async fn sized(&self, mut side: impl AsyncFnMut(&Self) -> Result<f64>) -> Result<Self> {
        let mut copy = Self { server: self.server.clone(), from: self.from.clone(), records: self.records };
        loop {
            let records = (side(&copy).await? * ROUND.as_secs_f64()) as u64;
            if records < copy.records * 5 / 4 {
                return Ok(copy);
            }
            copy = Self::on(self.server.clone(), records).await?;
        }
    }

    /// An output, for as long as this takes.
    async fn to<T>(&self, work: impl AsyncFnOnce(String) -> Result<T>) -> Result<T> {
        let to = unique("copies");
        self.server.topic_with(&to, PARTITIONS, 1, &[("file.delete.delay.ms", "1000")]).await?;
        let done = work(to.clone()).await?;
        self.server.delete_topic(&to).await?;
        Ok(done)
    }

    fn group(&self) -> GroupBuilder {
        let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
        GroupBuilder::new(self.server.brokers(), unique("copiers"), [&self.from], start)
            .option("fetch.queue.backoff.ms", "10")
            // A record is in hand until its transaction is committed.
            .budget(Amount { records: 100_000, bytes: 16 << 20 })
    }

    /// By kafka-txn, in partition order: records a second.
    ///
    /// # Errors
    /// When the run fails.
    pub async fn ours(&self, limits: Limits) -> Result<f64> {
        self.to(async |to| {
            let copy = Copier::new(self, to, Duration::ZERO);
            let count = copy.count.clone();
            self.run(self.txn(limits, &count).in_order(copy)?, &count).await
        })
        .await
    }

    /// By kafka-txn, in parallel by key, with so much of waiting for each record.
    ///
    /// # Errors
    /// When the run fails.
    pub async fn ours_parallel(&self, limits: Limits, work: Duration, at_once: NonZeroUsize) -> Result<f64> {
        self.to(async |to| {
            let copy = Copier::new(self, to, work);
            let count = copy.count.clone();
            let lanes = LaneOptions::default().concurrency(at_once);
            self.run(self.txn(limits, &count).parallel(copy, lanes)?, &count).await
        })
        .await
    }

    fn txn(&self, limits: Limits, count: &Arc<Count>) -> TxnBuilder {
        let count = count.clone();
        TxnBuilder::new(self.group()).every(limits.every).records(limits.records).bytes(64 << 20).on_step(move |step| {
            if step == Step::Committed {
                count.ended();
            }
        })
    }

    async fn run(&self, member: kafka_txn::TxnMember, count: &Arc<Count>) -> Result<f64> {
        let shutdown = Shutdown::new(Duration::from_secs(30));
        let run = tokio::spawn(member.run(shutdown.clone()));
        tokio::time::timeout(LIMIT, count.all.notified()).await.context("a round of ours hangs")?;
        shutdown.begin();
        let report = run.await??;
        anyhow::ensure!(report.outputs == self.records && report.aborted == 0, "{report:?}");
        count.rate()
    }

    /// By kafka-group, at least once: a scheduler that produces each record, and takes it for done once it is delivered.
    ///
    /// # Errors
    /// When the run fails.
    pub async fn at_least_once(&self) -> Result<f64> {
        self.to(async |to| {
            let count = Count::new(self.records);
            let producer = self.producer(None).create_with_context(Delivered(count.clone()))?;
            let scheduler = Forward { producer, to, count: count.clone() };
            self.run_at_least_once(self.group().scheduled(Nothing, |_| scheduler)?, &count).await
        })
        .await
    }

    /// By kafka-mt-consumer, at least once, with so much of waiting for each record: it is done once it is delivered.
    ///
    /// # Errors
    /// When the run fails.
    pub async fn parallel_at_least_once(&self, work: Duration, at_once: NonZeroUsize) -> Result<f64> {
        self.to(async |to| {
            let count = Count::new(self.records);
            let producer = self.producer(None).create_with_context(Told)?;
            let handler = Send { producer, to, work, count: count.clone() };
            let member = ParallelBuilder::new(self.group()).concurrency(at_once).handler(handler)?;
            self.run_at_least_once(member, &count).await
        })
        .await
    }

    async fn run_at_least_once(&self, member: kafka_group::Member, count: &Count) -> Result<f64> {
        let shutdown = Shutdown::new(Duration::from_secs(30));
        let run = tokio::spawn(member.run(shutdown.clone()));
        tokio::time::timeout(LIMIT, count.all.notified()).await.context("a round at least once hangs")?;
        shutdown.begin();
        run.await??;
        count.rate()
    }

    fn producer(&self, id: Option<&str>) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.server.brokers())
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("retry.backoff.ms", "20")
            .set("queue.buffering.max.messages", "1000000");
        if let Some(id) = id {
            config.set("transactional.id", id);
        }
        config
    }

    /// By a bare loop: one thread fetches, another writes and commits, and a third serves the producer.
    ///
    /// # Errors
    /// When a client fails.
    pub async fn raw(&self, limits: Limits) -> Result<f64> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.server.brokers())
            .set("group.id", unique("raw"))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.queue.backoff.ms", "10");
        let producer = self.producer(Some(&unique("raw")));
        self.to(async |to| {
            let (from, records) = (self.from.clone(), self.records);
            tokio::task::spawn_blocking(move || bare(&config, &producer, &from, &to, records, limits)).await?
        })
        .await
    }

    /// The median and the 99th percentile of the time from producing a record until it is read in the output by who reads
    /// what is committed, in milliseconds, at so many records a second for so long.
    ///
    /// # Errors
    /// When a client fails.
    pub async fn latency(&self, limits: Limits, rate: u64, time: Duration) -> Result<(f64, f64)> {
        let (from, to) = (unique("timed"), unique("timed-copies"));
        self.server.topic(&from, PARTITIONS).await?;
        self.server.topic(&to, PARTITIONS).await?;
        let total = (rate as f64 * time.as_secs_f64()) as u64;
        let timed = Timed { brokers: self.server.brokers(), from, to, total };
        timed.measure(self, limits, rate).await
    }
}

struct Timed {
    brokers: String,
    from: String,
    to: String,
    total: u64,
}

impl Timed {
    async fn measure(self, copy: &Copy, limits: Limits, rate: u64) -> Result<(f64, f64)> {
        let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
        let group = GroupBuilder::new(&self.brokers, unique("copiers"), [&self.from], start);
        let count = Count::new(self.total);
        let copier = Copier { to: self.to.clone(), work: Duration::ZERO, count: count.clone() };
        let member = TxnBuilder::new(group).every(limits.every).records(limits.records).in_order(copier)?;
        let mut status = member.status();
        let shutdown = Shutdown::new(Duration::from_secs(30));
        let run = tokio::spawn(member.run(shutdown.clone()));
        status.wait_for(|status| status.partitions.len() == PARTITIONS as usize).await?;
        let (brokers, to, total) = (self.brokers.clone(), self.to.clone(), self.total);
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = ready.clone();
        let reader = tokio::task::spawn_blocking(move || read(&brokers, &to, total, &is_ready));
        let producer: ThreadedProducer<Told> = copy.producer(None).set("linger.ms", "0").create_with_context(Told)?;
        let from = self.from.clone();
        let writer = tokio::task::spawn_blocking(move || {
            while !ready.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let began = Instant::now();
            for number in 0..total {
                let at = began + Duration::from_nanos(1_000_000_000 * number / rate);
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                let (key, value) = (number.to_string(), now().to_string());
                let record = BaseRecord::with_opaque_to(&from, Box::new(None)).key(&key).payload(&value);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            producer.flush(LIMIT)?;
            anyhow::Ok(())
        });
        writer.await??;
        let mut times = reader.await??;
        shutdown.begin();
        run.await??;
        Ok((crate::rounds::quantile(&mut times, 0.5), crate::rounds::quantile(&mut times, 0.99)))
    }
}

/// Microseconds since 1970: one clock for who writes and who reads.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}

fn read(brokers: &str, topic: &str, total: u64, ready: &AtomicBool) -> Result<Vec<f64>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "reader").set("isolation.level", "read_committed");
    let reader: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    reader.assign(&list)?;
    reader.poll(Duration::from_secs(1));
    ready.store(true, Ordering::Release);
    let (mut times, begun) = (Vec::new(), Instant::now());
    while (times.len() as u64) < total {
        // A poll may end before its time, where there was something else to do.
        let Some(record) = reader.poll(Duration::from_secs(1)) else {
            anyhow::ensure!(begun.elapsed() < LIMIT, "{} of {total} came", times.len());
            continue;
        };
        let record = record?;
        let sent: u128 = std::str::from_utf8(record.payload().unwrap_or_default())?.parse()?;
        times.push(now().saturating_sub(sent) as f64 / 1000.0);
    }
    Ok(times)
}

/// Copies a record as it is.
struct Copier {
    to: String,
    work: Duration,
    count: Arc<Count>,
}

impl Copier {
    fn new(copy: &Copy, to: String, work: Duration) -> Self {
        Self { to, work, count: Count::new(copy.records) }
    }
}

#[async_trait]
impl Transform for Copier {
    async fn transform(&self, record: &Record, outputs: &mut Outputs, _: Attempt<'_>) -> Outcome {
        self.count.begins();
        if !self.work.is_zero() {
            tokio::time::sleep(self.work).await;
        }
        let (key, value) = (record.key().unwrap_or_default(), record.value().unwrap_or_default());
        outputs.push(Output::to(&self.to).key(key).value(value));
        self.count.done();
        Outcome::Done
    }
}

struct Nothing;

#[async_trait]
impl kafka_group::Handler<Record> for Nothing {
    async fn handle(&self, _: &Record, _: Attempt<'_>) -> Outcome {
        Outcome::Done
    }
}

struct Delivered(Arc<Count>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = Box<(Arc<Slot>, Record)>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, of: Self::DeliveryOpaque) {
        if delivered.is_ok() {
            let _ = of.0.done(&of.1);
            self.0.done();
        }
    }
}

struct Forward {
    producer: ThreadedProducer<Delivered>,
    to: String,
    count: Arc<Count>,
}

impl Scheduler for Forward {
    fn assigned(&mut self, _: &Arc<Slot>) {}

    fn submit(&mut self, slot: &Arc<Slot>, records: Records) {
        self.count.begins();
        for record in records {
            let (key, value) = (Bytes::copy_from_slice(record.key().unwrap_or_default()), record.value_bytes());
            let value = value.unwrap_or_default();
            let sent = BaseRecord::with_opaque_to(&self.to, Box::new((slot.clone(), record)));
            if let Err((error, _)) = self.producer.send(sent.key(&*key).payload(&*value)) {
                eprintln!("{error}");
            }
        }
    }

    fn closed(&mut self, _: &Arc<Slot>) {}
}

/// Tells who waits for a delivery, if anybody does.
struct Told;

impl ClientContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = Box<Option<oneshot::Sender<bool>>>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        if let Some(waiting) = *waiting {
            let _ = waiting.send(delivered.is_ok());
        }
    }
}

struct Send {
    producer: ThreadedProducer<Told>,
    to: String,
    work: Duration,
    count: Arc<Count>,
}

#[async_trait]
impl kafka_group::Handler<Record> for Send {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        self.count.begins();
        tokio::time::sleep(self.work).await;
        let (told, is_told) = oneshot::channel();
        let sent = BaseRecord::with_opaque_to(&self.to, Box::new(Some(told)))
            .key(record.key().unwrap_or_default())
            .payload(record.value().unwrap_or_default());
        if let Err((error, _)) = self.producer.send(sent) {
            return Outcome::retry(error);
        }
        match is_told.await {
            Ok(true) => {
                self.count.done();
                Outcome::Done
            }
            _ => Outcome::retry(anyhow::anyhow!("not delivered")),
        }
    }
}

fn bare(
    consumer: &ClientConfig,
    producer: &ClientConfig,
    from: &str,
    to: &str,
    records: u64,
    limits: Limits,
) -> Result<f64> {
    let consumer: BaseConsumer = consumer.create()?;
    consumer.subscribe(&[from])?;
    let producer: ThreadedProducer<_> = producer.create()?;
    producer.init_transactions(Duration::from_secs(30))?;
    let (batches, written) = sync_channel::<(Vec<(Vec<u8>, Vec<u8>)>, TopicPartitionList, _)>(1);
    let to = to.to_owned();
    let writer = std::thread::spawn(move || {
        while let Ok((batch, offsets, group)) = written.recv() {
            producer.begin_transaction()?;
            for (key, value) in &batch {
                producer.send(BaseRecord::to(&to).key(key).payload(value)).map_err(|(error, _)| error)?;
            }
            producer.send_offsets_to_transaction(&offsets, &group, Duration::from_secs(30))?;
            producer.commit_transaction(Duration::from_secs(30))?;
        }
        anyhow::Ok(Instant::now())
    });
    let (mut done, mut began) = (0, None);
    while done < records {
        let (mut batch, mut next) = (Vec::new(), std::collections::BTreeMap::new());
        let since = Instant::now();
        while batch.len() < limits.records && since.elapsed() < limits.every && done + (batch.len() as u64) < records {
            let Some(record) = consumer.poll(Duration::from_millis(10)) else { continue };
            let record = record?;
            began.get_or_insert_with(Instant::now);
            next.insert(record.partition(), record.offset() + 1);
            batch.push((record.key().unwrap_or_default().to_vec(), record.payload().unwrap_or_default().to_vec()));
        }
        if batch.is_empty() {
            continue;
        }
        done += batch.len() as u64;
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in next {
            offsets.add_partition_offset(from, partition, Offset::Offset(offset))?;
        }
        let group = consumer.group_metadata().context("no group")?;
        if batches.send((batch, offsets, group)).is_err() {
            break;
        }
    }
    drop(batches);
    let ended = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    Ok(records as f64 / (ended - began.context("nothing was read")?).as_secs_f64())
}
