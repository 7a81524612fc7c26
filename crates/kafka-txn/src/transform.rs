//! The handler of this crate: it returns what is to be produced, and has no effect of its own.
//!
//! kafka-group's worker tries a record and sets it aside; what the last attempt wants produced is handed past it to the
//! scheduler, in a variable of the task.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use kafka_group::{Attempt, Handler, Outcome, Record, SetAside, header};

use crate::outputs::{Output, Outputs};

/// Makes outputs out of a record: f of the input.
///
/// What is pushed to `outputs` becomes visible together with the record's offset, or not at all. It may be called again for
/// the same record, after a crash or an abort; only one call's outputs ever count. Effects outside of Kafka are not part of
/// the transaction: see the crate's documentation.
#[async_trait]
pub trait Transform: Send + Sync + 'static {
    /// Pushes what is to be produced, and says what became of the record. With `Done` and `Skip` the outputs count; those
    /// of an attempt that ends otherwise are forgotten.
    ///
    /// The returned future is dropped at an `await` when the record is no longer this member's.
    async fn transform(&self, record: &Record, outputs: &mut Outputs, attempt: Attempt<'_>) -> Outcome;
}

#[async_trait]
impl<T: Transform + ?Sized> Transform for Arc<T> {
    async fn transform(&self, record: &Record, outputs: &mut Outputs, attempt: Attempt<'_>) -> Outcome {
        (**self).transform(record, outputs, attempt).await
    }
}

tokio::task_local! {
    static OUTPUTS: RefCell<Outputs>;
}

/// Runs the work on one record, and gives what it wants produced in `outputs`, whose memory it uses.
pub(crate) async fn collect<R>(outputs: &mut Outputs, work: impl Future<Output = R>) -> R {
    let cell = RefCell::new(std::mem::take(outputs));
    let (result, collected) = OUTPUTS
        .scope(cell, async {
            let result = work.await;
            (result, OUTPUTS.with(RefCell::take))
        })
        .await;
    *outputs = collected;
    result
}

/// A [`Transform`] as kafka-group's worker takes it.
pub(crate) struct Collect<T>(pub T);

#[async_trait]
impl<T: Transform> Handler<Record> for Collect<T> {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        let mut outputs = OUTPUTS.with(RefCell::take);
        outputs.clear();
        let outcome = self.0.transform(record, &mut outputs, attempt).await;
        if !matches!(outcome, Outcome::Done | Outcome::Skip(_)) {
            outputs.clear();
        }
        OUTPUTS.set_to(outputs);
        outcome
    }
}

/// Dead letters as outputs of their record.
pub(crate) struct InTransaction {
    pub topic: Arc<str>,
    pub group: Arc<str>,
}

impl InTransaction {
    pub fn push(&self, outputs: &mut Outputs, record: &Record, attempts: u32, error: &anyhow::Error) {
        let headers = header::of(record, &self.group, attempts, error);
        let mut letter = Output::to(&self.topic).maybe(record.key(), record.value());
        for (name, value) in record.headers() {
            letter = letter.header(name, value);
        }
        for (name, value) in &headers {
            letter = letter.header(name, Some(value.as_bytes()));
        }
        outputs.push(letter);
    }
}

#[async_trait]
impl SetAside for InTransaction {
    fn topic(&self) -> &str {
        &self.topic
    }

    async fn set_aside(&self, record: &Record, attempts: u32, error: &anyhow::Error) -> Result<()> {
        let mut outputs = OUTPUTS.with(RefCell::take);
        outputs.clear();
        self.push(&mut outputs, record, attempts, error);
        OUTPUTS.set_to(outputs);
        Ok(())
    }
}

trait SetTo {
    fn set_to(&'static self, outputs: Outputs);
}

impl SetTo for tokio::task::LocalKey<RefCell<Outputs>> {
    fn set_to(&'static self, outputs: Outputs) {
        self.with(|cell| cell.replace(outputs));
    }
}
