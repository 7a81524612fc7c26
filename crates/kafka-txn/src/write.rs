//! The writing thread: begins a transaction and produces its outputs, until all have arrived.
//!
//! What goes wrong here has committed nothing, and the outputs are still at hand: the transaction is aborted, and written
//! again. An output that is refused takes only its own record along, which is set aside in a transaction of its own.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use turnstile_core::Backoff;

use crate::batch::Batch;
use crate::error::{RunError, TransactionError};
use crate::metric;
use crate::outputs::Outputs;
use crate::producer::{Failed, Producer};
use crate::shared::{Shared, Step, Troubled};
use crate::verdict::{self, Blame};

/// How often an output may be refused for no reason that is known.
const REFUSALS: u32 = 5;

/// What became of writing once.
enum Written {
    Well,
    /// These outputs have not arrived.
    Undelivered(Vec<(usize, KafkaError)>),
    Failed(Failed),
}

pub(crate) fn run(shared: &Shared, to_commit: &SyncSender<(Producer, Batch)>) {
    while let Some((batch, mut producer)) = shared.next() {
        match settle(shared, &mut producer, batch) {
            // The other thread ends only after this one.
            Ok(Some(batch)) => _ = to_commit.send((producer, batch)),
            Ok(None) => shared.over(producer),
            Err(failure) => {
                shared.fail(failure);
                return;
            }
        }
    }
}

/// Writes the batch until that has worked; `None` if nothing is left of it.
fn settle(shared: &Shared, producer: &mut Producer, mut batch: Batch) -> Result<Option<Batch>, RunError> {
    let wanted = || shared.is_open();
    let mut delays = Backoff::new(Duration::from_millis(20), Duration::from_secs(2)).delays();
    let mut troubled = None;
    loop {
        batch.forget_closed();
        if batch.is_void() || !wanted() {
            return Ok(None);
        }
        let wait = match write(shared, producer, &batch) {
            Written::Well => return Ok(Some(batch)),
            Written::Failed(Failed::Over(error)) => {
                // In vain, perhaps; but readers need not wait for it to time out.
                let _ = producer.abort(&|| false);
                return Err(error.into());
            }
            Written::Failed(Failed::Rebuild(error)) => {
                say(&mut troubled, shared, error.to_string());
                producer.rebuild(error, &wanted)?;
                false
            }
            Written::Failed(Failed::Abort(error)) => {
                tracing::warn!(%error, "a transaction is aborted, and written again");
                say(&mut troubled, shared, error.to_string());
                abort(shared, producer)?;
                true
            }
            Written::Undelivered(failed) => {
                // At once: an abort, too, is over only when the outputs' partitions have taken it.
                if let Some((index, error)) = failed.iter().find(|(_, error)| verdict::blame(error) == Blame::Brokers) {
                    say(&mut troubled, shared, not_taken(producer, batch.outputs.topic_of(*index), error));
                } else if failed.is_empty() {
                    say(&mut troubled, shared, "its outputs have not arrived within the transaction's time limit");
                }
                abort(shared, producer)?;
                judge(shared, producer, &mut batch, failed)?
            }
        };
        if wait {
            shared.pause(delays.next().unwrap_or_default());
        }
    }
}

/// Says what the trouble is, in place of what it was.
fn say<'a>(troubled: &mut Option<Troubled<'a>>, shared: &'a Shared, what: impl Into<Arc<str>>) {
    drop(troubled.take());
    *troubled = Some(shared.trouble(what));
}

/// What to look at where outputs do not arrive.
fn not_taken(producer: &Producer, topic: &str, error: &KafkaError) -> String {
    tracing::warn!(%error, topic, "outputs do not arrive; the transaction is aborted, and written again");
    let complaint = producer.trouble().unwrap_or_default();
    format!(
        "{topic} does not take outputs ({error}): are its partitions' leaders up, and enough replicas in sync for min.insync.replicas? {complaint}"
    )
}

pub(crate) fn abort(shared: &Shared, producer: &mut Producer) -> Result<(), TransactionError> {
    shared.counts.aborted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    producer.abort(&|| shared.is_open()).map(drop)
}

fn write(shared: &Shared, producer: &mut Producer, batch: &Batch) -> Written {
    let wanted = || shared.is_open();
    shared.step(Step::Begin);
    if let Err(failed) = producer.begin() {
        return Written::Failed(failed);
    }
    shared.step(Step::Produce);
    for index in batch.items.iter().flat_map(|item| item.outputs.clone()) {
        if batch.cuts.contains(&index)
            && let Err(failed) = producer.flush(&wanted)
        {
            return Written::Undelivered(failed);
        }
        if let Err(error) = producer.send(batch.outputs.record(index, index)) {
            return match error.rdkafka_error_code() {
                // The transaction failed already; the next call says how.
                Some(Code::State | Code::Fatal) => break,
                _ => Written::Undelivered(vec![(index, error)]),
            };
        }
    }
    match producer.flush(&wanted) {
        Ok(()) => Written::Well,
        Err(failed) => Written::Undelivered(failed),
    }
}

/// Finds out why outputs have not arrived, and takes their records out if that is for good. Whether to wait before the next
/// attempt.
fn judge(
    shared: &Shared,
    producer: &Producer,
    batch: &mut Batch,
    failed: Vec<(usize, KafkaError)>,
) -> Result<bool, RunError> {
    let (mut guilty, mut brokers) = (None, None);
    let mut company = Vec::new();
    for (index, error) in failed {
        match verdict::blame(&error) {
            Blame::Denied => return Err(producer.denied(error).into()),
            Blame::Output => guilty = guilty.or(Some((index, error))),
            Blame::Company => company.push((index, error)),
            Blame::Brokers => brokers = brokers.or(Some((index, error))),
            Blame::Nobody => {}
        }
    }
    company.sort_by_key(|(index, _)| *index);
    if let [(first, _), .., (last, _)] = &company[..]
        && batch.cut(*first..*last + 1)
    {
        return Ok(false);
    }
    if let Some((index, error)) = guilty.or(company.into_iter().next()) {
        set_aside(shared, batch, index, error)?;
        return Ok(false);
    }
    let Some((index, error)) = brokers else { return Ok(true) };
    let known = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageTimedOut
                | Code::RequestTimedOut
                | Code::OperationTimedOut
                | Code::NotEnoughReplicas
                | Code::NotEnoughReplicasAfterAppend
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
        )
    );
    if !known && let Some(item) = batch.items.iter_mut().find(|item| item.outputs.contains(&index)) {
        item.refused += 1;
        if item.refused >= REFUSALS {
            set_aside(shared, batch, index, error)?;
        }
    }
    Ok(true)
}

/// Takes the record of this output out of its batch, and sets it aside in a transaction of its own.
fn set_aside(shared: &Shared, batch: &mut Batch, output: usize, source: KafkaError) -> Result<(), RunError> {
    let Some(index) = batch.items.iter().position(|item| item.outputs.contains(&output)) else { return Ok(()) };
    let (record, topic) = (&batch.items[index].record, batch.outputs.topic_of(output).clone());
    let place = format!("{}/{}, offset {}", record.topic(), record.partition(), record.offset());
    let to = shared.dead_letters.as_ref().filter(|dead_letters| dead_letters.topic != topic);
    let Some(dead_letters) = to else {
        return Err(RunError::Refused { place: place.into(), topic, source });
    };
    tracing::warn!(record = place, error = %source, from = &*topic, "an output is refused: its record is set aside");
    metric::of(metric::REFUSED, &shared.group).increment(1);
    shared.counts.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let error = anyhow::Error::new(source).context(format!("{topic} refuses an output"));
    let mut letter = Outputs::default();
    dead_letters.push(&mut letter, record, 1, &error);
    let alone = batch.split_off(index, &letter);
    shared.first(alone);
    Ok(())
}
