//! How a member with transactions is set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_group::{CommitPolicy, ConfigError, Delivery, GroupBuilder, Scheduler};
use kafka_mt_consumer::LaneOptions;

use crate::in_order::InOrder;
use crate::member::TxnMember;
use crate::parallel::Parallel;
use crate::producer::Plan;
use crate::shared::{Limits, OnStep, Shared, Step};
use crate::transform::{Collect, InTransaction, Transform};
use crate::work::Work;

/// The shortest time limit of transactions that makes sense: librdkafka takes none below.
const SHORTEST: Duration = Duration::from_secs(1);

/// Sets up a member of a consumer group whose outputs and offsets commit in transactions.
#[must_use = "a builder does nothing itself: give it a transform, and run the member"]
pub struct TxnBuilder {
    group: GroupBuilder,
    limits: Limits,
    timeout: Option<Duration>,
    id: Option<String>,
    metadata_limit: usize,
    options: Vec<(String, String)>,
    on_step: Option<OnStep>,
}

/// Options of the producer that are not to be set, and why.
const REFUSED: &[(&str, &str)] = &[
    ("transactional.id", "set what it begins with by `transactional_id`"),
    ("transaction.timeout.ms", "set it by `transaction_timeout`"),
    ("enable.idempotence", "transactions need it"),
    ("acks", "transactions need all"),
    ("request.required.acks", "transactions need all"),
    ("delivery.report.only.error", "what was delivered is told by the commit"),
    ("bootstrap.servers", "it is the group's"),
    ("metadata.broker.list", "it is the group's"),
];

impl TxnBuilder {
    /// A member of this group: brokers, topics, start, protocol, retries, the topic for dead letters and options of the
    /// connection are the group's. When to commit is said here.
    pub const fn new(group: GroupBuilder) -> Self {
        Self {
            group,
            limits: Limits { every: Duration::from_millis(100), records: 100_000, bytes: 8 << 20 },
            timeout: None,
            id: None,
            metadata_limit: kafka_offsets::metadata::DEFAULT_LIMIT,
            options: Vec::new(),
            on_step: None,
        }
    }

    /// A transaction is committed once its first record has waited for so long. By default 100 ms. It takes what is done then;
    /// it is open only for as long as it takes to write it.
    pub const fn every(mut self, interval: Duration) -> Self {
        self.limits.every = interval;
        self
    }

    /// A transaction takes at most so many records. By default 100,000. 0 counts as 1. A record is in hand until its transaction
    /// is committed: for hundreds of thousands a second, allow more in the group's [`budget`](GroupBuilder::budget).
    pub const fn records(mut self, limit: usize) -> Self {
        self.limits.records = if limit == 0 { 1 } else { limit };
        self
    }

    /// A transaction takes no further record once its outputs have so many bytes; four times as much may wait before handlers
    /// have to. By default 8 MiB.
    pub const fn bytes(mut self, limit: usize) -> Self {
        self.limits.bytes = limit;
        self
    }

    /// After what time the brokers abort a transaction whose member is gone or stands still: so long at most, and their
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`, it holds up who reads what is committed. By default two
    /// thirds of the session time limit, below which it has to be, and at most a minute; 1 s at least.
    pub const fn transaction_timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// What the transactional ids begin with that this member's two producers have; `-0` and `-1` follow. It must be of no other
    /// member. By default the group's name, and the `instance_id` or, where there is none, something drawn by lot: a
    /// member that comes back then leaves its last transaction, if it died in one, to its time limit.
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// How many bytes of metadata a partition's commit may have, for what is done beyond its offset. By default 4096, which is
    /// also the brokers' default limit; see [`CommitPolicy::metadata_limit`].
    pub const fn metadata_limit(mut self, bytes: usize) -> Self {
        self.metadata_limit = bytes;
        self
    }

    /// Any other option of librdkafka for the producers: `compression.type`, `linger.ms`, `partitioner` and so on.
    pub fn producer_option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((key.into(), value.into()));
        self
    }

    /// Calls this before each step of a transaction, on the thread that makes it, which waits meanwhile: for tests of what
    /// becomes of a process that dies there.
    pub fn on_step(mut self, call: impl Fn(Step) + Send + Sync + 'static) -> Self {
        self.on_step = Some(Arc::new(call));
        self
    }

    /// A member that gives each record to `transform`: one at a time and in order within a partition, partitions side by
    /// side. It goes on with the next while transactions commit; outputs are produced in the order of the input.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or would break a promise.
    pub fn in_order<T: Transform>(self, transform: T) -> Result<TxnMember, ConfigError> {
        self.scheduled(transform, InOrder::new)
    }

    /// A member that gives records to `transform` as `lanes` say: by default those of the same key one at a time and in
    /// order, all others side by side, a thousand at a time. A transaction takes the outputs of whatever is done; outputs of
    /// one key are in the order of its input.
    ///
    /// # Errors
    /// As for [`in_order`](Self::in_order).
    pub fn parallel<T: Transform>(self, transform: T, lanes: LaneOptions) -> Result<TxnMember, ConfigError> {
        self.scheduled(transform, |work| Parallel::new(work, lanes))
    }

    fn scheduled<T: Transform, S: Scheduler>(
        self,
        transform: T,
        scheduler: impl FnOnce(Work<T>) -> S,
    ) -> Result<TxnMember, ConfigError> {
        for (key, value) in &self.options {
            if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == key) {
                return Err(ConfigError::Refused { key: key.clone(), value: value.clone(), reason });
            }
        }
        let settings = self.group.settings();
        let session = settings.session_timeout;
        let timeout = self.timeout.unwrap_or((session * 2 / 3).clamp(SHORTEST, Duration::from_secs(60)));
        if timeout >= session || timeout < SHORTEST {
            return Err(ConfigError::Invalid(
                "a transaction's time limit must be below the session's, and a second at least: otherwise whoever takes a partition over waits for what its last holder left open",
            ));
        }
        if self.id.as_deref() == Some("") {
            return Err(ConfigError::Invalid("a transactional id needs a name"));
        }
        let name = self.id.or_else(|| settings.instance.as_ref().map(|name| format!("{}-{name}", settings.group)));
        let named = name.is_some();
        let id = name.unwrap_or_else(|| format!("{}-{:032x}", settings.group, rand::random::<u128>()));
        let group = settings.group.clone();
        let connect_timeout = settings.connect_timeout;
        let plan = Plan::new(
            self.group.connection(),
            &self.options,
            id.into(),
            group.clone(),
            named,
            timeout,
            connect_timeout,
        );
        // Finds mistakes in options now, and not in the run.
        plan.client.create_native_config().map_err(ConfigError::Client)?;
        let letters = |topic: &Arc<str>| InTransaction { topic: topic.clone(), group: group.clone() };
        let dead_letters = settings.dead_letters.as_ref();
        let shared =
            Shared::new(group.clone(), self.limits, self.metadata_limit, dead_letters.map(letters), self.on_step);
        let set_aside = dead_letters.map(letters);
        let commits = CommitPolicy::at_the_end().delivery(Delivery::Transactional).metadata_limit(self.metadata_limit);
        let mut group = self.group.commits(commits);
        if let Some(set_aside) = set_aside {
            group = group.set_aside_by(Arc::new(set_aside));
        }
        let member =
            group.scheduled(Collect(transform), |worker| scheduler(Work { worker, shared: shared.clone() }))?;
        Ok(TxnMember { member, shared, plan: Arc::new(plan) })
    }
}

impl fmt::Debug for TxnBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxnBuilder").field("group", &self.group).field("limits", &self.limits).finish_non_exhaustive()
    }
}
