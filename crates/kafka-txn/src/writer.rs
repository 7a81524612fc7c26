//! Writes to several partitions at once, atomically, without a group: what is not read from Kafka.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::error::TransactionError;
use crate::outputs::Outputs;
use crate::producer::{Failed, Plan, Producer, Wanted};
use crate::verdict::{self, Blame};

/// How long a writer tries to find the brokers.
const CONNECT: Duration = Duration::from_secs(10);

/// A transactional producer: all of what one call writes becomes visible to those who read what is committed, or nothing.
///
/// Clones are one and the same. Calls are made one after another, each in a transaction of its own, by a thread that ends
/// with the last clone.
#[derive(Clone)]
pub struct Writer {
    asked: Sender<Write>,
    id: Arc<str>,
}

struct Write {
    outputs: Outputs,
    answer: oneshot::Sender<Result<(), WriteError>>,
}

/// Why a write is not, or may not be, there.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// One of the outputs is refused; nothing was written.
    #[error("{topic} refuses an output ({source}): nothing was written; correct the output or the topic")]
    Refused {
        /// Where it was to go.
        topic: Arc<str>,
        /// What the brokers said.
        source: KafkaError,
    },
    /// The brokers did not take it in time; nothing was written.
    #[error("the brokers did not take it in time ({source}): nothing was written; write it again")]
    Aborted {
        /// What the client said last.
        source: KafkaError,
    },
    /// The answer to the commit did not come: all of it is there, or nothing.
    #[error(
        "the commit was sent and not answered ({source}): all of it was written, or nothing; read what is committed before writing it again"
    )]
    Unknown {
        /// What the client said last.
        source: KafkaError,
    },
    /// No transaction is to be had.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
}

impl Writer {
    /// A writer with this transactional id: who comes later with the same takes over from who was there before, and ends
    /// what that has left open. `connection` has the brokers, the options of the connection, and others of the producer.
    /// `timeout` is after what time the brokers abort what a writer has left open; 1 s at least.
    ///
    /// Cancelling this leaves nothing behind but the id's next epoch.
    ///
    /// # Errors
    /// When there are no transactions for it: see [`TransactionError`].
    pub async fn connect(connection: ClientConfig, id: &str, timeout: Duration) -> Result<Self, TransactionError> {
        let id: Arc<str> = id.into();
        let plan = Plan::new(connection, &[], id.clone(), id.clone(), true, timeout, CONNECT).exactly();
        let (asked, writes) = channel();
        let (ready, is_ready) = oneshot::channel();
        let spawned = std::thread::Builder::new().name(format!("writer {id}")).spawn(move || {
            match Producer::connect(&Arc::new(plan), 0, &|| true) {
                Ok(Some(producer)) => {
                    let _ = ready.send(Ok(()));
                    run(producer, &writes, timeout * 2);
                }
                Ok(None) => {}
                Err(error) => _ = ready.send(Err(error)),
            }
        });
        if spawned.is_err() {
            return Err(TransactionError::Closed);
        }
        is_ready.await.unwrap_or(Err(TransactionError::Closed))?;
        Ok(Self { asked, id })
    }

    /// Writes all of this or nothing, and returns once it is committed, or when that has taken twice as long as `timeout`: the
    /// calls before it not counted. Cancelling this does not stop it.
    ///
    /// # Errors
    /// See [`WriteError`]; only with [`WriteError::Unknown`] it may be there all the same.
    pub async fn write(&self, outputs: Outputs) -> Result<(), WriteError> {
        let (answer, answered) = oneshot::channel();
        let _ = self.asked.send(Write { outputs, answer });
        answered.await.unwrap_or(Err(WriteError::Transaction(TransactionError::Closed)))
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("id", &self.id).finish_non_exhaustive()
    }
}

fn run(mut producer: Producer, writes: &Receiver<Write>, limit: Duration) {
    while let Ok(Write { outputs, answer }) = writes.recv() {
        let until = Instant::now() + limit;
        let written = write(&mut producer, &outputs, &|| Instant::now() < until);
        let over = matches!(written, Err(WriteError::Transaction(_)));
        let _ = answer.send(written);
        if over {
            return;
        }
    }
}

fn write(producer: &mut Producer, outputs: &Outputs, wanted: Wanted<'_>) -> Result<(), WriteError> {
    if !producer.ready(wanted)? {
        return Err(WriteError::Aborted { source: KafkaError::Global(Code::OperationTimedOut) });
    }
    let failed = match attempt(producer, outputs, wanted) {
        Ok(()) => match producer.commit(wanted) {
            Ok(()) => return Ok(()),
            Err(Failed::Abort(source)) => {
                producer.abort(wanted)?;
                return Err(WriteError::Aborted { source });
            }
            Err(Failed::Rebuild(source)) => {
                producer.rebuild(source.clone(), wanted)?;
                return Err(WriteError::Unknown { source });
            }
            Err(Failed::Over(error)) => return Err(error.into()),
        },
        Err(failed) => failed,
    };
    match failed {
        Undelivered::Output(index, source) => {
            let denied = verdict::blame(&source) == Blame::Denied;
            producer.abort(wanted)?;
            Err(match verdict::blame(&source) {
                _ if denied => producer.denied(source).into(),
                Blame::Output | Blame::Company => {
                    WriteError::Refused { topic: outputs.topic_of(index).clone(), source }
                }
                _ => WriteError::Aborted { source },
            })
        }
        Undelivered::Failed(Failed::Abort(source)) => {
            producer.abort(wanted)?;
            Err(WriteError::Aborted { source })
        }
        Undelivered::Failed(Failed::Rebuild(source)) => {
            producer.rebuild(source.clone(), wanted)?;
            Err(WriteError::Aborted { source })
        }
        Undelivered::Failed(Failed::Over(error)) => Err(error.into()),
    }
}

enum Undelivered {
    Output(usize, KafkaError),
    Failed(Failed),
}

fn attempt(producer: &mut Producer, outputs: &Outputs, wanted: Wanted<'_>) -> Result<(), Undelivered> {
    producer.begin().map_err(Undelivered::Failed)?;
    for index in 0..outputs.len() {
        producer.send(outputs.record(index, index)).map_err(|error| Undelivered::Output(index, error))?;
    }
    let first = |failed: Vec<(usize, KafkaError)>| {
        let culprit = failed.iter().position(|(_, error)| verdict::blame(error) != Blame::Nobody).unwrap_or_default();
        failed.into_iter().nth(culprit)
    };
    producer.flush(wanted).map_err(|failed| match first(failed) {
        Some((index, error)) => Undelivered::Output(index, error),
        None => Undelivered::Failed(Failed::Rebuild(KafkaError::Flush(Code::OperationTimedOut))),
    })
}
