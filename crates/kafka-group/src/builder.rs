//! How a member is set up. What would break a promise is refused here, with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_offsets::{CommitPolicy, Delivery, Start, StartAt};
use rdkafka::ClientConfig;
use turnstile_core::{AtLimit, Handler, RetryPolicy};

use crate::dead_letters::{DeadLetters, SetAside};
use crate::error::ConfigError;
use crate::in_order::InOrder;
use crate::member::Member;
use crate::record::Record;
use crate::scheduler::Scheduler;
use crate::slot::Amount;
use crate::work::{Counts, Worker};

/// How members agree on who has which partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Classic, cooperative-sticky (KIP-429): a rebalance takes from a member only what goes to another.
    #[default]
    Cooperative,
    /// Classic, range: each rebalance takes all partitions from all members, for a moment. All members of a group must
    /// use the same classic protocol.
    Eager,
    /// The brokers assign (KIP-848, Kafka 4.0 and later). Session time limit and heartbeats are set on the brokers.
    Consumer,
}

/// Sets up a member of a consumer group.
#[derive(Clone)]
#[must_use = "a builder does nothing itself: give it a handler, and run the member"]
pub struct GroupBuilder {
    pub(crate) settings: Settings,
    options: BTreeMap<String, String>,
    retries: Option<RetryPolicy>,
    set_aside: Option<Arc<dyn SetAside>>,
}

/// How a member is set up, as the polling thread needs to know it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The brokers' addresses.
    pub brokers: String,
    /// The group.
    pub group: Arc<str>,
    /// What it reads.
    pub topics: Vec<Arc<str>>,
    /// Where it begins.
    pub start: Start,
    /// How members agree.
    pub protocol: Protocol,
    /// Its static membership.
    pub instance: Option<String>,
    /// See [`GroupBuilder::max_poll_interval`].
    pub max_poll_interval: Duration,
    /// See [`GroupBuilder::session_timeout`].
    pub session_timeout: Duration,
    /// When it commits.
    pub commits: CommitPolicy,
    /// See [`GroupBuilder::drain_timeout`].
    pub drain_timeout: Duration,
    /// See [`GroupBuilder::budget`].
    pub budget: Amount,
    /// See [`GroupBuilder::total_budget`].
    pub total_budget: Option<Amount>,
    /// Whether records have their headers.
    pub headers: bool,
    /// The topic for dead letters.
    pub dead_letters: Option<Arc<str>>,
    /// See [`GroupBuilder::stalled_after`].
    pub stalled_after: Duration,
    /// See [`GroupBuilder::connect_timeout`].
    pub connect_timeout: Duration,
    /// For librdkafka.
    pub(crate) client: ClientConfig,
}

impl std::fmt::Debug for Settings {
    /// Without the options, of which one may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { brokers, group, topics, .. } = self;
        f.debug_struct("Settings")
            .field("brokers", brokers)
            .field("group", group)
            .field("topics", topics)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for GroupBuilder {
    /// Without the options, of which one may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Settings { brokers, group, topics, .. } = &self.settings;
        f.debug_struct("GroupBuilder")
            .field("brokers", brokers)
            .field("group", group)
            .field("topics", topics)
            .finish_non_exhaustive()
    }
}

/// Options that are not to be set, and why.
const REFUSED: &[(&str, &str)] = &[
    ("auto.commit.enable", "it is an old name of enable.auto.commit: commits are made here, by `commits`"),
    (
        "enable.auto.commit",
        "it commits what was fetched, not what was done, so a crash loses records; commits are made here, by `commits`",
    ),
    ("enable.auto.offset.store", "it marks records as done when they are fetched; offsets are kept here"),
    ("auto.commit.interval.ms", "auto-commit is off; choose the interval by `commits`"),
    ("auto.offset.reset", "it would jump over records in silence; choose by `Start`"),
    ("group.id", "it is what `GroupBuilder::new` was given"),
    ("bootstrap.servers", "it is what `GroupBuilder::new` was given"),
    ("metadata.broker.list", "it is what `GroupBuilder::new` was given"),
    ("group.protocol", "choose it by `protocol`"),
    ("partition.assignment.strategy", "choose it by `protocol`"),
    ("group.instance.id", "set it by `instance_id`"),
    ("session.timeout.ms", "set it by `session_timeout`"),
    ("heartbeat.interval.ms", "it follows from `session_timeout`"),
    ("max.poll.interval.ms", "set it by `max_poll_interval`"),
    ("statistics.interval.ms", "the watchdog needs the statistics each second"),
];

/// And why not where offsets are committed in transactions.
const READ_UNCOMMITTED: &str =
    "it would read what transactions that were aborted have left, and offsets of such that are not over";

impl GroupBuilder {
    /// A member of `group` that works on `topics`, found by `brokers` (`host:port`, more separated by commas). `start`
    /// says where to begin where nothing is committed, and where to go on when the committed offset is gone.
    pub fn new<T: AsRef<str>>(
        brokers: impl Into<String>,
        group: impl AsRef<str>,
        topics: impl IntoIterator<Item = T>,
        start: Start,
    ) -> Self {
        let settings = Settings {
            brokers: brokers.into(),
            group: group.as_ref().into(),
            topics: topics.into_iter().map(|topic| topic.as_ref().into()).collect(),
            start,
            protocol: Protocol::default(),
            instance: None,
            max_poll_interval: Duration::from_secs(300),
            session_timeout: Duration::from_secs(45),
            commits: CommitPolicy::default(),
            drain_timeout: Duration::from_secs(10),
            budget: Amount { records: 10_000, bytes: 16 << 20 },
            total_budget: None,
            headers: true,
            dead_letters: None,
            stalled_after: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            client: ClientConfig::new(),
        };
        Self { settings, options: BTreeMap::new(), retries: None, set_aside: None }
    }

    /// How members agree on who has which partition. By default [`Protocol::Cooperative`].
    pub const fn protocol(mut self, protocol: Protocol) -> Self {
        self.settings.protocol = protocol;
        self
    }

    /// Static membership (KIP-345): a member that comes back under the same name within the session time limit gets its
    /// partitions back, without a rebalance; so nobody takes over earlier when it leaves. Names must differ.
    pub fn instance_id(mut self, name: impl Into<String>) -> Self {
        self.settings.instance = Some(name.into());
        self
    }

    /// Any other option of librdkafka: for the connection, security, fetching. Those that would break a promise of this
    /// crate are refused by [`handler`](Self::handler).
    pub fn option(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }

    /// How long the group waits for a member that takes part in a rebalance. By default 5 minutes. A handler may take
    /// longer: polling goes on meanwhile. Draining may not; see [`drain_timeout`](Self::drain_timeout).
    pub const fn max_poll_interval(mut self, limit: Duration) -> Self {
        self.settings.max_poll_interval = limit;
        self
    }

    /// After how long without a heartbeat a member counts as dead. By default 45 s. With [`Protocol::Consumer`] the
    /// brokers' `group.consumer.session.timeout.ms` decides; then this is to be no more than that, and says only when a
    /// process that was stopped gives its partitions up by itself.
    pub const fn session_timeout(mut self, limit: Duration) -> Self {
        self.settings.session_timeout = limit;
        self
    }

    /// When to commit. By default each second, at hand-over and at shutdown, what is done.
    pub fn commits(mut self, policy: CommitPolicy) -> Self {
        self.settings.commits = policy;
        self
    }

    /// How long handlers may go on when their partition is to be given up; in the last fifth their cancellation token
    /// fires. By default 10 s, and never more than half of the longest poll interval. While one partition drains in a
    /// rebalance, the member's others work off what they have, and nothing more is fetched.
    pub const fn drain_timeout(mut self, limit: Duration) -> Self {
        self.settings.drain_timeout = limit;
        self
    }

    /// How much of one partition may be in hand: above it, fetching rests until half is done. By default 10,000 records
    /// and 16 MiB. It is looked at after each batch, of at most 1,024 records.
    pub const fn budget(mut self, budget: Amount) -> Self {
        self.settings.budget = budget;
        self
    }

    /// How much of all partitions together may be in hand: above it, fetching rests of those that have more than an even share
    /// of it. By default as much as the partitions' own [`budget`](Self::budget)s allow.
    pub const fn total_budget(mut self, budget: Amount) -> Self {
        self.settings.total_budget = Some(budget);
        self
    }

    /// Leaves the headers out of the records. To look for them costs librdkafka an allocation a record, even where there are
    /// none. Not together with dead letters, which are to have them.
    pub const fn without_headers(mut self) -> Self {
        self.settings.headers = false;
        self
    }

    /// How often a record is tried. By default without end, or five times if there is a topic for dead letters.
    pub const fn retries(mut self, policy: RetryPolicy) -> Self {
        self.retries = Some(policy);
        self
    }

    /// The topic to which records go that cannot be handled. It must exist.
    pub fn dead_letters(mut self, topic: impl AsRef<str>) -> Self {
        self.settings.dead_letters = Some(topic.as_ref().into());
        self
    }

    /// Records that cannot be handled are set aside by this instead of a producer of this crate's own; the topic for
    /// [`dead_letters`](Self::dead_letters) is still to be named.
    pub fn set_aside_by(mut self, other: Arc<dyn SetAside>) -> Self {
        self.set_aside = Some(other);
        self
    }

    /// How the member is set up so far.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// After how long without progress a partition with something to do is reported. By default 30 s.
    pub const fn stalled_after(mut self, limit: Duration) -> Self {
        self.settings.stalled_after = limit;
        self
    }

    /// How long to try to reach a broker at the start before [`run`](Member::run) fails. By default 10 s. Later outages
    /// are waited for, however long.
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// A member that gives each record to `handler`: one at a time and in order within a partition, partitions side by
    /// side.
    ///
    /// # Errors
    /// When the configuration contradicts itself, or would break a promise.
    pub fn handler(self, handler: impl Handler<Record>) -> Result<Member, ConfigError> {
        self.scheduled(handler, InOrder::new)
    }

    /// The same, with an order of one's own: `scheduler` is given the worker that takes a record through `handler`, its
    /// retries and its dead letters.
    ///
    /// # Errors
    /// As for [`handler`](Self::handler).
    pub fn scheduled<H: Handler<Record>, S: Scheduler>(
        mut self,
        handler: H,
        scheduler: impl FnOnce(Worker<H>) -> S,
    ) -> Result<Member, ConfigError> {
        self.check()?;
        self.settings.client = self.client();
        let settings = &self.settings;
        let attempts = std::num::NonZeroU32::MIN.saturating_add(4);
        let retries = self.retries.unwrap_or_else(|| match settings.dead_letters {
            Some(_) => RetryPolicy::new(attempts, AtLimit::DeadLetter),
            None => RetryPolicy::forever(),
        });
        if settings.dead_letters.is_none() && retries.at_limit() == AtLimit::DeadLetter {
            return Err(ConfigError::Invalid(
                "records are to be set aside at the limit of attempts, and there is no topic for that: name one by `dead_letters`, or choose `AtLimit::Halt`",
            ));
        }
        let topic = settings.dead_letters.as_ref().filter(|_| self.set_aside.is_none());
        let dead_letters =
            topic.map(|topic| DeadLetters::new(self.connection(), topic, &settings.group).map_err(ConfigError::Client));
        let dead_letters = dead_letters.transpose()?;
        let set_aside = dead_letters.clone().map(|ours| Arc::new(ours) as Arc<dyn SetAside>).or(self.set_aside);
        // Finds mistakes in options now, and not in the run.
        settings.client.create_native_config().map_err(ConfigError::Client)?;
        let counts = Arc::new(Counts::default());
        let worker = Worker::new(handler, retries, set_aside, counts.clone());
        Ok(Member::new(self.settings, Box::new(scheduler(worker)), counts, dead_letters))
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (key, value) in &self.options {
            if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == key) {
                return Err(ConfigError::Refused { key: key.clone(), value: value.clone(), reason });
            }
        }
        let settings = &self.settings;
        if settings.commits.delivered() == Delivery::Transactional
            && let Some(value) = self.options.get("isolation.level").filter(|level| *level != "read_committed")
        {
            let (key, value) = ("isolation.level".to_owned(), value.clone());
            return Err(ConfigError::Refused { key, value, reason: READ_UNCOMMITTED });
        }
        let empty = |name: &Arc<str>| name.is_empty();
        if settings.topics.is_empty() || settings.topics.iter().chain(&settings.dead_letters).any(empty) {
            return Err(ConfigError::Invalid("a member needs at least one topic, and no topic is without a name"));
        }
        if settings.group.is_empty() || settings.brokers.is_empty() || settings.instance.as_deref() == Some("") {
            return Err(ConfigError::Invalid(
                "a member needs the name of its group and the address of a broker, and no instance is without a name",
            ));
        }
        if settings.session_timeout.is_zero() {
            return Err(ConfigError::Invalid("a session that lasts no time is over before it begins"));
        }
        if settings.dead_letters.as_ref().is_some_and(|topic| settings.topics.contains(topic)) {
            return Err(ConfigError::Invalid(
                "the topic for dead letters is one that the member reads itself: they would go round for ever",
            ));
        }
        if settings.dead_letters.is_some() && !settings.headers {
            return Err(ConfigError::Invalid(
                "a dead letter is to have its record's headers: keep them, or set none aside",
            ));
        }
        if settings.session_timeout > settings.max_poll_interval {
            return Err(ConfigError::Invalid("the session time limit must not be above the longest poll interval"));
        }
        if [Some(settings.budget), settings.total_budget].iter().flatten().any(|one| one.records == 0 || one.bytes == 0)
        {
            return Err(ConfigError::Invalid("a budget of nothing lets nothing be fetched"));
        }
        Ok(())
    }

    fn client(&self) -> ClientConfig {
        let settings = &self.settings;
        let mut client = ClientConfig::new();
        // A full queue is looked at again after this long, not after the default second.
        client.set("fetch.queue.backoff.ms", "10");
        // How long a last commit may hang; the default is a minute.
        client.set("socket.timeout.ms", "10000");
        for (key, value) in &self.options {
            client.set(key, value);
        }
        let reset = match settings.start.out_of_range {
            StartAt::Earliest => "earliest",
            StartAt::Latest => "latest",
            _ => "error",
        };
        client
            .set("bootstrap.servers", &settings.brokers)
            .set("group.id", &*settings.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", reset)
            .set("max.poll.interval.ms", settings.max_poll_interval.as_millis().to_string())
            .set("statistics.interval.ms", "1000");
        if let Some(instance) = &settings.instance {
            client.set("group.instance.id", instance);
        }
        let classic = match settings.protocol {
            Protocol::Cooperative => "cooperative-sticky",
            Protocol::Eager => "range",
            Protocol::Consumer => {
                client.set("group.protocol", "consumer");
                return client;
            }
        };
        client
            .set("partition.assignment.strategy", classic)
            .set("session.timeout.ms", settings.session_timeout.as_millis().to_string())
            .set(
                "heartbeat.interval.ms",
                (settings.session_timeout / 10)
                    .clamp(Duration::from_millis(50), Duration::from_secs(3))
                    .as_millis()
                    .to_string(),
            );
        client
    }

    /// The options of the connection, for a producer that goes with the member.
    #[must_use]
    pub fn connection(&self) -> ClientConfig {
        let mut producer = ClientConfig::new();
        producer.set("bootstrap.servers", &self.settings.brokers);
        // Whether a letter is too large is for the brokers to say.
        producer.set("message.max.bytes", "1000000000");
        let of_connection = |key: &str| {
            [
                "security.",
                "ssl.",
                "sasl.",
                "socket.",
                "broker.address",
                "client.id",
                "reconnect.",
                "enable.ssl",
                "debug",
            ]
            .iter()
            .any(|prefix| key.starts_with(prefix))
        };
        for (key, value) in self.options.iter().filter(|(key, _)| of_connection(key)) {
            producer.set(key, value);
        }
        producer
    }
}
