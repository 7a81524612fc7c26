//! How a member with many workers is set up.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use kafka_group::{ConfigError, GroupBuilder, Handler, Member, Record};

use crate::batches::{BatchHandler, Batches, Single};
use crate::blocking::{Blocking, BlockingHandler};
use crate::lanes::Lanes;
use crate::options::{Adaptive, LaneOptions, Order};
use crate::work::Handled;

/// Sets up a member of a consumer group that works on many records at a time.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing itself: give it a handler, and run the member"]
pub struct ParallelBuilder {
    group: GroupBuilder,
    lanes: LaneOptions,
}

impl ParallelBuilder {
    /// The member that `group` describes, with its topics, retries, dead letters, budgets and commits. Without more, records
    /// of the same key are worked on in their order, and 1,000 records at a time.
    pub fn new(group: GroupBuilder) -> Self {
        Self { group, lanes: LaneOptions::default() }
    }

    /// Which records are worked on one after another. By default those of the same key.
    pub fn order(self, order: Order) -> Self {
        Self { lanes: self.lanes.order(order), ..self }
    }

    /// How many records may be at a handler at a time, over all partitions. By default 1,000; 10,000 are no problem. How many
    /// wait to be given to one is for [`GroupBuilder::budget`] to say.
    pub fn concurrency(self, limit: NonZeroUsize) -> Self {
        Self { lanes: self.lanes.concurrency(limit), ..self }
    }

    /// Finds the limit by itself, up to that of [`concurrency`](Self::concurrency).
    pub fn adaptive(self, how: Adaptive) -> Self {
        Self { lanes: self.lanes.adaptive(how), ..self }
    }

    /// How many records may be begun in a second, over all partitions. By default any number.
    pub fn rate(self, records: std::num::NonZeroU32) -> Self {
        Self { lanes: self.lanes.rate(records), ..self }
    }

    /// A member that gives each record to `handler`.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or would break a promise.
    pub fn handler(self, handler: impl Handler<Record>) -> Result<Member, ConfigError> {
        let lanes = self.lanes;
        self.group.scheduled(handler, |worker| Lanes::new(Handled(worker), lanes))
    }

    /// A member whose handler blocks: on `threads` threads at most, which are those of tokio's
    /// [`spawn_blocking`](tokio::task::spawn_blocking), of which a runtime has 512 unless it is told otherwise. This is the
    /// concurrency limit then.
    ///
    /// # Errors
    /// As for [`handler`](Self::handler).
    pub fn blocking(self, threads: NonZeroUsize, handler: impl BlockingHandler) -> Result<Member, ConfigError> {
        let this = self.concurrency(threads);
        this.handler(Blocking::new(handler, threads.get()))
    }

    /// A member that gives up to `records` of a lane to `handler` at once, or as many as have come when `wait` has passed since
    /// the first. By key, a lane is a key's; a record without a key comes alone there, unless those have a lane. In no order,
    /// records come together as they are.
    ///
    /// # Errors
    /// As for [`handler`](Self::handler).
    pub fn batches(
        self,
        records: NonZeroUsize,
        wait: Duration,
        handler: impl BatchHandler,
    ) -> Result<Member, ConfigError> {
        let handler = Arc::new(handler);
        let lanes = self.lanes.batches(records, wait);
        self.group.scheduled(Single(handler.clone()), |worker| Lanes::new(Batches { handler, worker }, lanes))
    }
}
