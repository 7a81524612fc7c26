//! A transactional producer of librdkafka, and how its calls are made: again where that helps, and never on a thread of
//! tokio's or on the one that polls, since each may block.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};

use crate::error::TransactionError;
use crate::metric;
use crate::verdict::{self, Verdict};

/// How long one call may block before it is made again.
const CALL: Duration = Duration::from_secs(1);
/// How long to wait before the same call again, when it failed at once.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the brokers may take to tell each other of a new topic.
const PROPAGATION: Duration = Duration::from_secs(5);
/// How often a producer may fail in a row before its run gives up.
const REBUILDS: u32 = 10;
/// After how long a client that has not found its coordinator is made anew, at first and at last: when all connections break at
/// once, librdkafka can wait for one that is never made again.
const RENEW: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(60);

/// How a producer is made.
#[derive(Clone)]
pub(crate) struct Plan {
    pub client: ClientConfig,
    /// What the ids begin with.
    pub id: Arc<str>,
    /// Whose metrics it counts for.
    pub group: Arc<str>,
    /// Whether somebody else may have the same: it was given, and is not drawn by lot.
    pub named: bool,
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// Whether there are several producers, of whom each has the id with its number.
    numbered: bool,
}

impl Plan {
    /// `connection` are the options for the connection, `own` the user's for producers.
    pub fn new(
        mut client: ClientConfig,
        own: &[(String, String)],
        id: Arc<str>,
        group: Arc<str>,
        named: bool,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Self {
        client
            .set("linger.ms", "2")
            // What waits here is bounded by the batches.
            .set("queue.buffering.max.messages", "10000000")
            // Whether a record is too large is for the brokers to say; unless it is more than they read at all, by default
            // (`socket.request.max.bytes`): they would only hang up.
            .set("message.max.bytes", "100000000")
            // A topic that was made just now is found within this. Both end before the transaction does.
            .set("topic.metadata.propagation.max.ms", (timeout / 4).min(PROPAGATION).as_millis().to_string())
            .set("message.timeout.ms", (timeout * 2 / 3).as_millis().to_string())
            .set("retry.backoff.ms", "20")
            .set("transaction.timeout.ms", timeout.as_millis().to_string());
        for (key, value) in own {
            client.set(key, value);
        }
        // librdkafka wants it so.
        let of_sockets = client.get("socket.timeout.ms").and_then(|millis| millis.parse().ok());
        let of_sockets = Duration::from_millis(of_sockets.unwrap_or(10_000)).min(timeout);
        client
            .set("socket.timeout.ms", of_sockets.as_millis().to_string())
            .set("enable.idempotence", "true")
            .set("delivery.report.only.error", "true");
        Self { client, id, group, named, timeout, connect_timeout, numbered: true }
    }

    /// For one producer, which has the id itself.
    pub const fn exactly(mut self) -> Self {
        self.numbered = false;
        self
    }
}

/// What its callbacks tell.
#[derive(Default)]
pub(crate) struct Reports {
    any: AtomicBool,
    failed: Mutex<Vec<(usize, KafkaError)>>,
    trouble: Mutex<Option<Arc<str>>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        kafka_group::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the transactional producer");
        *self.trouble.lock() = Some(reason.into());
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = delivered {
            self.failed.lock().push((index, error.clone()));
            self.any.store(true, Ordering::Release);
        }
    }
}

/// Whether to go on waiting.
pub(crate) type Wanted<'a> = &'a dyn Fn() -> bool;

/// One of the producers, in a transaction or not.
pub(crate) struct Producer {
    plan: Arc<Plan>,
    id: Arc<str>,
    client: BaseProducer<Reports>,
    /// Whether the coordinator has let it in.
    ready: bool,
    /// When its transaction was begun, or what it did last came to its end.
    since: Instant,
    /// Failures without a transaction that was committed in between.
    failures: u32,
}

/// Why a call did not get through.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The transaction is to be aborted.
    Abort(KafkaError),
    /// The producer is to be made anew.
    Rebuild(KafkaError),
    /// There is no sense in going on.
    Over(TransactionError),
}

impl Producer {
    /// Makes one, and ends what an earlier one of this id has left open. `None` if it is no longer wanted.
    pub fn connect(plan: &Arc<Plan>, number: usize, wanted: Wanted<'_>) -> Result<Option<Self>, TransactionError> {
        let id = if plan.numbered { format!("{}-{number}", plan.id).into() } else { plan.id.clone() };
        let client = create(plan, &id)?;
        let mut producer = Self { plan: plan.clone(), id, client, ready: false, since: Instant::now(), failures: 0 };
        let until = Instant::now() + plan.connect_timeout;
        Ok(producer.init(Some(until), wanted)?.then_some(producer))
    }

    /// The same in place of this one, whose transaction is aborted by that, unless it was committed. `false` if it is no longer
    /// wanted.
    pub fn rebuild(&mut self, source: KafkaError, wanted: Wanted<'_>) -> Result<bool, TransactionError> {
        // Brokers that do not answer are waited for, however long.
        if verdict::of(&source) != Verdict::Again {
            self.failures += 1;
            if self.failures > REBUILDS {
                return Err(TransactionError::Hopeless { source });
            }
        }
        self.renew(&source, wanted)
    }

    fn renew(&mut self, source: &KafkaError, wanted: Wanted<'_>) -> Result<bool, TransactionError> {
        let (id, failures) = (self.id.clone(), self.failures);
        tracing::warn!(error = %source, id = &*id, failures, "the transactional producer is made anew");
        metric::of(metric::REBUILT, &self.plan.group).increment(1);
        if failures > 1 {
            std::thread::sleep(PAUSE * (1 << failures));
        }
        self.client = create(&self.plan, &id)?;
        self.ready = false;
        self.since = Instant::now();
        self.init(None, wanted)
    }

    /// Waits for the coordinator where there was no time for that when the producer was made anew. `false` if that is no longer
    /// wanted.
    pub fn ready(&mut self, wanted: Wanted<'_>) -> Result<bool, TransactionError> {
        Ok(self.ready || self.init(None, wanted)?)
    }

    fn init(&mut self, until: Option<Instant>, wanted: Wanted<'_>) -> Result<bool, TransactionError> {
        let (mut made, mut patience) = (Instant::now(), *RENEW.start());
        loop {
            if !wanted() {
                return Ok(false);
            }
            let Err(source) = self.client.init_transactions(CALL) else {
                self.ready = true;
                return Ok(true);
            };
            self.client.poll(Duration::ZERO);
            tracing::debug!(error = %source, id = &*self.id, "the transactional producer waits for its coordinator");
            match verdict::of(&source) {
                Verdict::Denied => return Err(self.denied(source)),
                Verdict::Unsupported => return Err(TransactionError::Unsupported { source }),
                Verdict::Fenced => return Err(TransactionError::TakenOver { id: self.id.clone() }),
                Verdict::Again => {}
                // Of no use, but not for good: a coordinator that is on its way.
                _ if self.client.client().fatal_error().is_some() => {
                    return Err(TransactionError::Hopeless { source });
                }
                _ => {}
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(TransactionError::Unavailable { limit: self.plan.connect_timeout, source });
            }
            if made.elapsed() > patience {
                tracing::info!(error = %source, id = &*self.id, "no transaction coordinator yet; its client is made anew");
                self.client = create(&self.plan, &self.id)?;
                (made, patience) = (Instant::now(), (patience * 2).min(*RENEW.end()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    pub fn begin(&mut self) -> Result<(), Failed> {
        self.client.context().any.store(false, Ordering::Release);
        self.client.context().failed.lock().clear();
        self.call(&|| true, BaseProducer::begin_transaction)?;
        self.since = Instant::now();
        Ok(())
    }

    /// Hands one over to be sent. Whether it arrives shows in [`flush`](Self::flush).
    pub fn send(&self, mut record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), KafkaError> {
        loop {
            record = match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) => again,
                Err((error, _)) => return Err(error),
            };
            self.client.poll(PAUSE);
        }
    }

    /// Waits until all that was sent has arrived, or one has not: then it says which, and none in particular when the
    /// transaction's time is over. Other failures show in the next call.
    pub fn flush(&self, wanted: Wanted<'_>) -> Result<(), Vec<(usize, KafkaError)>> {
        let reports = self.client.context();
        let began = Instant::now();
        loop {
            // What arrives well is not reported, so that nothing ends the wait before its time.
            let flushed = self.client.flush(Duration::from_millis(if began.elapsed() < CALL { 1 } else { 20 }));
            if reports.any.swap(false, Ordering::AcqRel) {
                return Err(std::mem::take(&mut reports.failed.lock()));
            }
            match flushed {
                Err(KafkaError::Flush(Code::OperationTimedOut)) if wanted() && !self.is_late() => {}
                Err(KafkaError::Flush(Code::OperationTimedOut)) => return Err(Vec::new()),
                _ => return Ok(()),
            }
            if self.client.client().fatal_error().is_some() {
                return Ok(());
            }
        }
    }

    pub fn send_offsets(
        &mut self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
        wanted: Wanted<'_>,
    ) -> Result<(), Failed> {
        self.call(&|| wanted() && !self.is_late(), |client| client.send_offsets_to_transaction(offsets, group, CALL))
    }

    pub fn commit(&mut self, wanted: Wanted<'_>) -> Result<(), Failed> {
        self.call(&|| wanted() && !self.is_late(), |client| client.commit_transaction(CALL))?;
        (self.failures, self.since) = (0, Instant::now());
        Ok(())
    }

    /// Aborts the transaction; where that fails the producer is made anew, which comes to the same.
    pub fn abort(&mut self, wanted: Wanted<'_>) -> Result<bool, TransactionError> {
        metric::of(metric::ABORTED, &self.plan.group).increment(1);
        // Else it waits for reports that nobody takes.
        self.client.purge(PurgeConfig::default().queue().inflight());
        let abort = |client: &BaseProducer<Reports>| {
            // Where not all is gone yet, the abort says so.
            let _ = client.flush(PAUSE);
            client.abort_transaction(CALL)
        };
        // Past its time the brokers have aborted it, and a new producer makes sure of that.
        let until = Instant::now() + self.plan.timeout;
        match self.call(&|| wanted() && Instant::now() < until, abort) {
            Ok(()) => {
                self.since = Instant::now();
                // Reports of what was purged are not to be taken for those of the next transaction.
                while self.client.in_flight_count() > 0 && Instant::now() < until {
                    self.client.poll(Duration::from_millis(1));
                }
                Ok(wanted())
            }
            // That is no failure of its own.
            Err(Failed::Abort(source) | Failed::Rebuild(source)) => self.renew(&source, wanted),
            Err(Failed::Over(error)) => Err(error),
        }
    }

    /// Whether the brokers have aborted the transaction by now: nothing of it is worth waiting for.
    fn is_late(&self) -> bool {
        self.since.elapsed() > self.plan.timeout
    }

    /// The last complaint of the client.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.client.context().trouble.lock().take()
    }

    pub fn denied(&self, source: KafkaError) -> TransactionError {
        TransactionError::Denied { id: self.plan.id.clone(), source }
    }

    /// Makes a call, again where that helps, as long as it is wanted.
    fn call(&self, wanted: Wanted<'_>, call: impl Fn(&BaseProducer<Reports>) -> KafkaResult<()>) -> Result<(), Failed> {
        loop {
            let Err(error) = call(&self.client) else { return Ok(()) };
            tracing::debug!(%error, id = &*self.id, verdict = ?verdict::of(&error), "a call of the transactional producer");
            match verdict::of(&error) {
                Verdict::Again if wanted() => std::thread::sleep(PAUSE),
                Verdict::Again => return Err(Failed::Rebuild(error)),
                Verdict::Abort => return Err(Failed::Abort(error)),
                Verdict::Rebuild => return Err(Failed::Rebuild(error)),
                Verdict::Denied => return Err(Failed::Over(self.denied(error))),
                Verdict::Unsupported => return Err(Failed::Over(TransactionError::Unsupported { source: error })),
                // A transaction that took too long is ended by its coordinator, in the same way as by another producer.
                Verdict::Fenced if self.plan.named && self.since.elapsed() < self.plan.timeout.mul_f64(0.9) => {
                    return Err(Failed::Over(TransactionError::TakenOver { id: self.id.clone() }));
                }
                Verdict::Fenced => return Err(Failed::Rebuild(error)),
            }
        }
    }
}

fn create(plan: &Plan, id: &str) -> Result<BaseProducer<Reports>, TransactionError> {
    let mut client = plan.client.clone();
    client.set("transactional.id", id);
    client.create_with_context(Reports::default()).map_err(|source| TransactionError::Client { source })
}
