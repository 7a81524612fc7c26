//! The committing thread: sends the input's offsets into a transaction whose outputs have all arrived, and commits it.
//!
//! The group's metadata is taken before the slots are looked at: as long as brokers take it, nobody else has their
//! partitions. An answer that never comes leaves open whether the transaction is committed: then its producer is made anew,
//! which ends it either way, and what the group has committed says how it ended.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::{Offset, TopicPartitionList};

use crate::batch::Batch;
use crate::error::{RunError, TransactionError};
use crate::metric;
use crate::producer::{Failed, Producer};
use crate::shared::{Shared, Step};
use crate::write::abort;

/// How long to wait before a batch is done again whose membership is in doubt: a rebalance is on its way.
const PAUSE: Duration = Duration::from_millis(20);

/// What became of a transaction.
enum End {
    Committed,
    /// It is aborted, or soon will be.
    Again,
    /// Nobody knows.
    Unknown,
}

pub(crate) fn run(shared: &Shared, written: &Receiver<(Producer, Batch)>) {
    while let Ok((mut producer, batch)) = written.recv() {
        if let Err(failure) = settle(shared, &mut producer, batch) {
            let _ = producer.abort(&|| false);
            shared.fail(failure);
            // The other thread may wait for us.
            while written.recv().is_ok() {}
            return;
        }
        shared.over(producer);
    }
}

fn settle(shared: &Shared, producer: &mut Producer, batch: Batch) -> Result<(), RunError> {
    let begun = Instant::now();
    if shared.is_broken() {
        abort(shared, producer)?;
        shared.broken(Some(batch));
        return Ok(());
    }
    let troubled = shared.trouble("its transaction is being committed, and the brokers have not answered yet");
    let end = finish(shared, producer, &batch)?;
    drop(troubled);
    match end {
        End::Committed => {
            shared.step(Step::Committed);
            batch.done();
            metric::of(metric::COMMITTED, &shared.group).increment(1);
            metric::of(metric::OUTPUTS, &shared.group).increment(batch.counted as u64);
            metric::seconds(&shared.group).record(begun.elapsed().as_secs_f64());
            shared.counts.transactions.fetch_add(1, Ordering::Relaxed);
            shared.counts.outputs.fetch_add(batch.counted as u64, Ordering::Relaxed);
        }
        End::Again => {
            // First, so that nothing behind it is committed before it.
            shared.broken(Some(batch));
        }
        End::Unknown => {
            shared.broken(None);
            if let Some(control) = shared.control() {
                control.reload(batch.slots);
            }
        }
    }
    Ok(())
}

fn finish(shared: &Shared, producer: &mut Producer, batch: &Batch) -> Result<End, TransactionError> {
    let wanted = || shared.is_open();
    let again = |producer: &mut Producer| abort(shared, producer).map(|()| End::Again);
    let metadata = shared.control().and_then(kafka_group::Control::group_metadata_blocking);
    let known = metadata.and_then(|metadata| Some((metadata, batch.commits(shared.metadata_limit)?)));
    let Some((metadata, commits)) = known else {
        tracing::debug!("the membership is in doubt; a transaction is aborted");
        shared.pause(PAUSE);
        return again(producer);
    };
    let mut offsets = TopicPartitionList::new();
    for (slot, commit) in &commits {
        let mut of_it = offsets.add_partition(slot.topic(), slot.partition());
        // An offset of Kafka's own, which it takes.
        let _ = of_it.set_offset(Offset::Offset(commit.offset));
        if !commit.metadata.text.is_empty() {
            of_it.set_metadata(&commit.metadata.text);
        }
    }
    shared.step(Step::SendOffsets);
    match producer.send_offsets(&offsets, &metadata, &wanted) {
        Ok(()) => {}
        Err(Failed::Abort(error)) => {
            tracing::info!(%error, "the group does not take the offsets; the transaction is aborted");
            shared.pause(PAUSE);
            return again(producer);
        }
        Err(Failed::Rebuild(error)) => {
            producer.rebuild(error, &wanted)?;
            return Ok(End::Again);
        }
        Err(Failed::Over(error)) => return Err(error),
    }
    shared.step(Step::Commit);
    match producer.commit(&wanted) {
        Ok(()) => {
            commits.iter().for_each(|(slot, commit)| slot.note_committed(commit.offset));
            Ok(End::Committed)
        }
        Err(Failed::Abort(error)) => {
            tracing::warn!(%error, "a transaction is not committed");
            abort(shared, producer)?;
            Ok(End::Unknown)
        }
        Err(Failed::Rebuild(error)) => {
            tracing::warn!(%error, "it is not known whether a transaction is committed");
            producer.rebuild(error, &wanted)?;
            Ok(End::Unknown)
        }
        Err(Failed::Over(error)) => Err(error),
    }
}
