//! A transactional producer, and what its errors mean.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::cluster::{Cluster, REQUEST};

/// The longest that a transaction stays open, also of a process that stands still.
const TRANSACTION: Duration = Duration::from_secs(15);

/// How long aborting is waited for, which the next producer does otherwise.
const ABORT: Duration = Duration::from_secs(5);

/// Why a transaction came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Somebody else has taken the transactional id: nothing was written.
    Fenced,
    /// Nothing was written; it may be tried again, with a new producer.
    Again(KafkaError),
    /// Whether it was committed is not known: the offsets tell.
    Unknown(KafkaError),
    /// The record of this index is refused for good; nothing was written.
    Refused(usize, KafkaError),
}

/// What one is to be.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

type Delivered = Result<(i32, i64), KafkaError>;

/// Where records went, by their index.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<Mutex<Vec<Option<Delivered>>>>);

impl ClientContext for Places {
    // What goes wrong comes back with the call that it concerns.
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

impl ProducerContext for Places {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        if let Some(place) = self.0.lock().get_mut(*index) {
            *place = Some(match result {
                Ok(message) => Ok((message.partition(), message.offset())),
                Err((error, _)) => Err(error.clone()),
            });
        }
    }
}

/// A producer with a transactional id: whoever makes the next one with that id fences this one.
pub(crate) struct Transactions {
    producer: BaseProducer<Places>,
    places: Places,
}

impl Transactions {
    /// Fences whoever had the id, and ends what transaction was open. When this returns, nothing of an earlier producer with
    /// this id can become visible any more.
    pub fn take(cluster: &Cluster, id: &str) -> Result<Self, KafkaError> {
        let places = Places::default();
        let mut config = cluster.config();
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", TRANSACTION.as_millis().to_string())
            .set("linger.ms", "1")
            .set("delivery.timeout.ms", "10000")
            // Whether a record is too large is for the brokers to say.
            .set("message.max.bytes", "1000000000")
            .set("queue.buffering.max.messages", "100000");
        let producer: BaseProducer<Places> = config.create_with_context(places.clone())?;
        let until = Instant::now() + REQUEST;
        while let Err(error) = producer.init_transactions(REQUEST) {
            if !retriable(&error) || Instant::now() > until {
                return Err(error);
            }
        }
        Ok(Self { producer, places })
    }

    /// Writes all of these or none, and says at which partitions and offsets. `more` adds what follows from these.
    pub fn write<'a>(
        &self,
        records: &[Outgoing<'a>],
        more: impl FnOnce(&[(i32, i64)]) -> Option<(String, String, String)>,
        inside: impl FnOnce(&BaseProducer<Places>) -> Result<(), KafkaError>,
    ) -> Result<Vec<(i32, i64)>, Failure> {
        self.producer.begin_transaction().map_err(before)?;
        let written = self.write_all(records).and_then(|places| {
            if let Some((topic, key, value)) = more(&places) {
                let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
                self.write_all(&[Outgoing { topic: &topic, partition: 0, key, value }])?;
            }
            inside(&self.producer).map_err(before)?;
            Ok(places)
        });
        match written {
            Ok(places) => self.commit().map(|()| places),
            Err(failure) => {
                if !matches!(failure, Failure::Fenced) {
                    // If this fails too, the next with this id ends the transaction.
                    let _ = self.producer.abort_transaction(ABORT);
                }
                Err(failure)
            }
        }
    }

    fn write_all(&self, records: &[Outgoing<'_>]) -> Result<Vec<(i32, i64)>, Failure> {
        *self.places.0.lock() = (0..records.len()).map(|_| None).collect();
        for (index, outgoing) in records.iter().enumerate() {
            let mut record = BaseRecord::with_opaque_to(outgoing.topic, Box::new(index)).partition(outgoing.partition);
            record.key = outgoing.key;
            record.payload = outgoing.value;
            while let Err((error, again)) = self.producer.send(record) {
                match error.rdkafka_error_code() {
                    Some(Code::QueueFull) => self.producer.poll(Duration::from_millis(10)),
                    Some(Code::MessageSizeTooLarge) => return Err(Failure::Refused(index, error)),
                    _ => return Err(before(error)),
                };
                record = again;
            }
        }
        self.flush()?;
        let places = std::mem::take(&mut *self.places.0.lock());
        // The one that is to blame: others fail with it, because the transaction does.
        let blamed = places.iter().enumerate().find_map(|(index, place)| match place {
            Some(Err(error)) if is_of_record(error) => Some((index, error.clone())),
            _ => None,
        });
        if let Some((index, error)) = blamed {
            return Err(Failure::Refused(index, error));
        }
        places.into_iter().map(|place| place.unwrap_or(Err(KafkaError::Canceled)).map_err(before)).collect()
    }

    /// Waits until all are delivered, or until that cannot be any more: a producer that was fenced would wait for their time.
    fn flush(&self) -> Result<(), Failure> {
        let until = Instant::now() + REQUEST;
        while let Err(error) = self.producer.flush(Duration::from_millis(100)) {
            if self.producer.client().fatal_error().is_some() {
                return Err(Failure::Fenced);
            }
            if Instant::now() > until {
                return Err(before(error));
            }
        }
        Ok(())
    }

    fn commit(&self) -> Result<(), Failure> {
        let until = Instant::now() + REQUEST;
        while let Err(error) = self.producer.commit_transaction(REQUEST) {
            let KafkaError::Transaction(of) = &error else { return Err(Failure::Unknown(error)) };
            if of.txn_requires_abort() {
                // It was refused, so it is not committed, and never will be.
                let _ = self.producer.abort_transaction(ABORT);
                return Err(Failure::Again(error));
            }
            if !of.is_retriable() || Instant::now() > until {
                // Fenced, perhaps, after the commit had arrived.
                return Err(Failure::Unknown(error));
            }
        }
        Ok(())
    }
}

/// What an error before the commit means.
fn before(error: KafkaError) -> Failure {
    let fatal = matches!(&error, KafkaError::Transaction(of) if of.is_fatal());
    if fatal || is_fenced(&error) { Failure::Fenced } else { Failure::Again(error) }
}

pub(crate) fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fatal | Code::PurgeQueue)
    )
}

fn is_of_record(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::TopicAuthorizationFailed
        )
    )
}

fn retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(of) if of.is_retriable())
}
