//! Handlers that block: on threads of tokio's, of which they have no more than they were given.

use std::panic::resume_unwind;
use std::sync::Arc;

use async_trait::async_trait;
use kafka_group::{Attempt, Handler, Outcome, Record};
use tokio::sync::Semaphore;

/// The work of one record, for code that blocks its thread: a driver without async, a long computation.
///
/// Closures are such: `|record: &Record, attempt: Attempt<'_>| Outcome::Done`.
///
/// A thread cannot be stopped from outside: when the partition is lost, the handler goes on beside its successor unless it
/// looks at [`Attempt::cancelled`] now and then. What it says is void by then.
pub trait BlockingHandler: Send + Sync + 'static {
    /// Does the work and says what became of the record.
    fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome;
}

impl<F: Fn(&Record, Attempt<'_>) -> Outcome + Send + Sync + 'static> BlockingHandler for F {
    fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self(record, attempt)
    }
}

pub(crate) struct Blocking<H> {
    handler: Arc<H>,
    /// Kept until the thread is free, even if nobody waits for it any more.
    threads: Arc<Semaphore>,
}

impl<H> Blocking<H> {
    pub fn new(handler: H, threads: usize) -> Self {
        Self { handler: Arc::new(handler), threads: Arc::new(Semaphore::new(threads.min(Semaphore::MAX_PERMITS))) }
    }
}

#[async_trait]
impl<H: BlockingHandler> Handler<Record> for Blocking<H> {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        let thread = self.threads.clone().acquire_owned().await;
        let (handler, record) = (self.handler.clone(), record.clone());
        let (number, cancelled) = (attempt.number(), attempt.cancelled().clone());
        let work = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            handler.handle(&record, Attempt::new(number, &cancelled))
        });
        match work.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime is shutting down.
            Err(error) => Outcome::retry(error),
        }
    }
}
