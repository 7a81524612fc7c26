//! One record's way through a handler: attempts, waits, and what happens at the limit. For every scheduler the same.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::anyhow;
use metrics::Counter;
use parking_lot::Mutex;
use tracing::{Instrument, debug_span, info, warn};
use turnstile_core::{AtLimit, Attempt, Backoff, Handler, Outcome, RetryPolicy};

use crate::dead_letters::SetAside;
use crate::record::{Record, Records};
use crate::scheduler::Control;
use crate::slot::Slot;
use crate::status::Trouble;

/// Works on records with a handler.
pub struct Worker<H> {
    handler: H,
    retries: RetryPolicy,
    dead_letters: Option<Arc<dyn SetAside>>,
    counts: Arc<Counts>,
}

/// Where a worker is counted, if anywhere: it leaves its seat for as long as it only waits for the next attempt.
pub trait Seat: Send + Sync {
    /// It waits, and others may work meanwhile.
    fn leave(&self) {}

    /// It goes on as soon as there is a seat again.
    fn back(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Nobody counts.
impl Seat for () {}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// It is done, or set aside.
    Done,
    /// It is not, and nothing behind it in its order may be worked on until someone has looked.
    Halted,
    /// It is not, and no longer ours, or the run ends: begin nothing more of this slot.
    HandedBack,
}

/// What workers count, for the report and the metrics.
#[derive(Default)]
pub(crate) struct Counts {
    pub skipped: AtomicU64,
    pub retries: AtomicU64,
    pub dead_letters: AtomicU64,
    pub halted: Mutex<Vec<(Arc<str>, anyhow::Error)>>,
    control: std::sync::OnceLock<Control>,
}

impl Counts {
    pub fn started(&self, control: &Control) {
        let _ = self.control.set(control.clone());
    }

    fn one(of: &AtomicU64, metric: &Counter) {
        of.fetch_add(1, Ordering::Relaxed);
        metric.increment(1);
    }
}

impl<H: Handler<Record>> Worker<H> {
    pub(crate) const fn new(
        handler: H,
        retries: RetryPolicy,
        dead_letters: Option<Arc<dyn SetAside>>,
        counts: Arc<Counts>,
    ) -> Self {
        Self { handler, retries, dead_letters, counts }
    }

    /// Handles one record until something has become of it, and marks it as done if it is.
    ///
    /// Dropping this drops the handler's future; the record is then not done.
    pub async fn work(&self, slot: &Slot, record: &Record) -> Settled {
        let settled = watch(slot, self.settle(slot, record, &())).await;
        if settled == Settled::Done {
            let _ = slot.done(record);
        }
        settled
    }

    /// Handles one record until something has become of it, and marks nothing: for schedulers that do so themselves, many at
    /// once or at a later time. To be dropped when [`Slot::abandoned`] fires.
    #[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice, for each record at work")]
    pub fn settle<S: Seat>(&self, slot: &Slot, record: &Record, seat: &S) -> impl Future<Output = Settled> + Send {
        async move {
            match self.attempt(slot, record, NonZeroU32::MIN).await {
                Outcome::Done => Settled::Done,
                // Rare, and large: those that simply end well are not to carry it.
                outcome => Box::pin(self.go_on(slot, record, outcome, seat)).await,
            }
        }
    }

    /// Handles records one after another, and marks them as done, until one is not. The slot must have no other worker.
    pub(crate) async fn work_off(&self, slot: &Slot, mut records: Records) -> Settled {
        // The batch may have more behind the last of these.
        let mut left = records.len();
        let mut next = records.next();
        drop(records);
        let mut settled = Settled::Done;
        while let Some(record) = next {
            settled = match slot.is_ours() || slot.still_ours().await {
                true => watch(slot, self.settle(slot, &record, &())).await,
                false => Settled::HandedBack,
            };
            if settled != Settled::Done {
                break;
            }
            slot.done_in_turn(&record);
            left -= 1;
            next = if left > 0 { record.next() } else { None };
        }
        slot.note_turn();
        settled
    }

    /// After a first attempt that did not simply end well.
    async fn go_on(&self, slot: &Slot, record: &Record, mut outcome: Outcome, seat: &impl Seat) -> Settled {
        let mut number = NonZeroU32::MIN;
        let mut delays = None;
        loop {
            let (after, error) = match outcome {
                Outcome::Done => break,
                Outcome::Skip(reason) => {
                    info!(
                        topic = &**record.topic(),
                        partition = record.partition(),
                        offset = record.offset(),
                        reason,
                        "skipped"
                    );
                    Counts::one(&self.counts.skipped, &crate::metric::skipped(record.topic()));
                    break;
                }
                Outcome::DeadLetter(error) => return self.set_aside(slot, record, number, error).await,
                Outcome::Retry { error, .. } if !self.retries.allows_after(number) => {
                    return match self.retries.at_limit() {
                        AtLimit::DeadLetter => self.set_aside(slot, record, number, error).await,
                        _ => self.halt(slot, record, error),
                    };
                }
                Outcome::Retry { after, error } => (after, error),
                Outcome::Stop(error) => {
                    if let Some(control) = self.counts.control.get() {
                        control.stop(error);
                    }
                    return Settled::HandedBack;
                }
                _ => (None, anyhow!("this version does not know the outcome")),
            };
            let delays = delays.get_or_insert_with(|| self.retries.delays());
            let delay = after.or_else(|| delays.next()).unwrap_or_default();
            warn!(
                topic = &**record.topic(),
                partition = record.partition(),
                offset = record.offset(),
                attempt = number,
                ?delay,
                error = format!("{error:#}"),
                "trying again"
            );
            Counts::one(&self.counts.retries, &crate::metric::retries(record.topic()));
            let trouble =
                Trouble::Retrying { offset: record.offset(), failed: number.get(), error: format!("{error:#}").into() };
            slot.set_trouble(record.offset(), Some(trouble));
            seat.leave();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = slot.draining().cancelled() => return Settled::HandedBack,
            }
            seat.back().await;
            slot.set_trouble(record.offset(), None);
            if !slot.still_ours().await {
                return Settled::HandedBack;
            }
            number = number.saturating_add(1);
            outcome = self.attempt(slot, record, number).await;
        }
        Settled::Done
    }

    fn attempt<'a>(&'a self, slot: &'a Slot, record: &'a Record, number: NonZeroU32) -> Trial<'a> {
        let work = self.handler.handle(record, Attempt::new(number, slot.cancelled()));
        let span = debug_span!(
            "record",
            topic = &**record.topic(),
            partition = record.partition(),
            offset = record.offset(),
            attempt = number
        );
        Trial(if span.is_disabled() { work } else { Box::pin(work.instrument(span)) })
    }

    /// To the dead letters; the record is done once it has arrived there.
    async fn set_aside(&self, slot: &Slot, record: &Record, attempts: NonZeroU32, error: anyhow::Error) -> Settled {
        let Some(dead_letters) = &self.dead_letters else {
            return self.halt(slot, record, error.context("there is no dead-letter topic to set it aside in"));
        };
        let mut delays = Backoff::new(Duration::from_millis(100), Duration::from_secs(10)).delays();
        loop {
            let sent = tokio::select! {
                sent = dead_letters.set_aside(record, attempts.get(), &error) => sent,
                () = slot.abandoned().cancelled() => return Settled::HandedBack,
            };
            let Err(refused) = sent else { break };
            warn!(
                topic = &**record.topic(),
                partition = record.partition(),
                offset = record.offset(),
                error = format!("{refused:#}"),
                "the dead-letter topic did not take it"
            );
            let trouble = Trouble::DeadLetter { offset: record.offset(), error: format!("{refused:#}").into() };
            slot.set_trouble(record.offset(), Some(trouble));
            tokio::select! {
                () = tokio::time::sleep(delays.next().unwrap_or_default()) => {}
                () = slot.draining().cancelled() => return Settled::HandedBack,
            }
        }
        slot.set_trouble(record.offset(), None);
        warn!(
            topic = &**record.topic(),
            partition = record.partition(),
            offset = record.offset(),
            attempts,
            error = format!("{error:#}"),
            to = dead_letters.topic(),
            "set aside"
        );
        Counts::one(&self.counts.dead_letters, &crate::metric::dead_letters(record.topic()));
        Settled::Done
    }

    fn halt(&self, slot: &Slot, record: &Record, error: anyhow::Error) -> Settled {
        let place = format!("{}/{}, offset {}", record.topic(), record.partition(), record.offset());
        tracing::error!(
            topic = &**record.topic(),
            partition = record.partition(),
            offset = record.offset(),
            error = format!("{error:#}"),
            "halted: nothing behind it is handled"
        );
        let trouble = Trouble::Halted { offset: record.offset(), error: format!("{error:#}").into() };
        slot.set_trouble(record.offset(), Some(trouble));
        self.counts.halted.lock().push((place.into(), error));
        Settled::Halted
    }
}

/// One attempt. A panic is an attempt that failed.
struct Trial<'a>(Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>);

impl Future for Trial<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Poll::Ready(Outcome::retry(anyhow!("the handler panicked: {text}")))
        })
    }
}

/// What comes of that work, which is dropped when the slot is gone.
async fn watch(slot: &Slot, work: impl Future<Output = Settled>) -> Settled {
    let mut work = pin!(work);
    // Most are ready at once, and need no watch over the slot.
    match futures_util::poll!(work.as_mut()) {
        Poll::Ready(settled) => settled,
        Poll::Pending => tokio::select! {
            settled = work => settled,
            () = slot.abandoned().cancelled() => Settled::HandedBack,
        },
    }
}
