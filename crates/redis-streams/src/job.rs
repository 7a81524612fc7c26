//! A job: what is added, and what a handler gets.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use redis_lua::redis::{FromRedisValue, ParsingError, Value};
use redis_lua::{Key, Name};

/// The field that holds the body.
pub(crate) const BODY: &str = "body";
/// The field that holds the key by which jobs keep their order.
pub(crate) const KEY: &str = "@key";
/// The group that alone is meant, after a replay.
pub(crate) const FOR: &str = "@for";

/// The most fields of a job, as scripts pass them on by Lua's stack.
pub(crate) const MOST_FIELDS: usize = 1_000;

/// Which job: the milliseconds of the server's clock when it was added, and a number within these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// Milliseconds since 1970, by the server's clock.
    pub ms: u64,
    /// Which within the millisecond.
    pub seq: u64,
}

impl JobId {
    /// How long ago that was at `now`, both by the server's clock; zero if it lies ahead.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(UNIX_EPOCH + Duration::from_millis(self.ms)).unwrap_or_default()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The text is not `MS-SEQ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job's id is two numbers with a hyphen between them, as in 1700000000000-0")]
pub struct InvalidId;

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (ms, seq) = text.split_once('-').ok_or(InvalidId)?;
        let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse().map_err(|_| InvalidId),
            false => Err(InvalidId),
        };
        Ok(Self { ms: number(ms)?, seq: number(seq)? })
    }
}

impl FromRedisValue for JobId {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let text = match &value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
            Value::SimpleString(text) => Some(text.as_str()),
            _ => None,
        };
        text.and_then(|text| text.parse().ok()).ok_or_else(|| format!("not the id of a job: {value:?}").into())
    }
}

/// A job to be added.
///
/// ```
/// # use redis_streams::NewJob;
/// # use std::time::Duration;
/// let job = NewJob::new("invoice 4711")
///     .key("customer 7")                                    // keeps its order among those of this key
///     .field("currency", "EUR")
///     .dedup("invoice/4711", Duration::from_secs(3600))     // added once, whoever adds it within the hour
///     .delay(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone)]
#[must_use = "a job is nothing until it is added"]
pub struct NewJob {
    pub(crate) fields: Vec<(Bytes, Bytes)>,
    pub(crate) dedup: Option<(String, Duration)>,
    pub(crate) when: When,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    Now,
    In(Duration),
    At(SystemTime),
}

impl NewJob {
    /// A job with this body.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { fields: vec![(Bytes::from_static(BODY.as_bytes()), body.into())], dedup: None, when: When::Now }
    }

    /// A job of fields alone.
    pub const fn empty() -> Self {
        Self { fields: Vec::new(), dedup: None, when: When::Now }
    }

    /// A body by serde, as JSON.
    ///
    /// # Errors
    /// When the value cannot be JSON.
    #[cfg(feature = "serde")]
    pub fn json(value: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(Self::new)
    }

    /// A further field. Names that begin with `@` are this crate's; `body` is the body.
    pub fn field(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The key: workers that keep the [order](crate::Order) by key work on jobs of one key one after another.
    pub fn key(self, key: impl Into<Bytes>) -> Self {
        let mut job = self;
        job.fields.retain(|(name, _)| name != KEY.as_bytes());
        job.fields.push((Bytes::from_static(KEY.as_bytes()), key.into()));
        job
    }

    /// Added only if no job with this id was added within `window`, counted from the first by the server's clock.
    pub fn dedup(mut self, id: impl Into<String>, window: Duration) -> Self {
        self.dedup = Some((id.into(), window));
        self
    }

    /// To be worked on after `delay`, by the server's clock. It takes its place in the order then.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.when = When::In(delay);
        self
    }

    /// To be worked on at that time of the server's clock.
    pub const fn due_at(mut self, time: SystemTime) -> Self {
        self.when = When::At(time);
        self
    }

    /// Whether a plain XADD will do.
    pub(crate) const fn is_plain(&self) -> bool {
        self.dedup.is_none() && matches!(self.when, When::Now)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// A job in a worker's hands.
#[derive(Debug)]
pub struct Job {
    pub(crate) id: JobId,
    pub(crate) fields: Vec<(Bytes, Bytes)>,
    pub(crate) deliveries: NonZeroU32,
    pub(crate) effects: Mutex<Vec<Effect>>,
}

impl Job {
    /// A job as a worker would get it, for tests of handlers.
    #[must_use]
    pub fn new(id: JobId, fields: Vec<(Bytes, Bytes)>) -> Self {
        Self { id, fields, deliveries: NonZeroU32::MIN, effects: Mutex::default() }
    }

    pub(crate) fn delivered(id: JobId, fields: Vec<(Bytes, Bytes)>, deliveries: u32) -> Self {
        let deliveries = NonZeroU32::new(deliveries).unwrap_or(NonZeroU32::MIN);
        Self { id, fields, deliveries, effects: Mutex::default() }
    }

    /// Its id in the stream: the same in each attempt.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.id
    }

    /// The body, or nothing if it was added without one.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.field(BODY).map_or(&[], |body| body)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none, or not of this type.
    #[cfg(feature = "serde")]
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.body())
    }

    /// The key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        self.field(KEY)
    }

    /// The first field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Bytes> {
        self.fields.iter().find(|(found, _)| found == name.as_bytes()).map(|(_, value)| value)
    }

    /// All fields as they are in the stream, the body and the key included.
    #[must_use]
    pub fn fields(&self) -> &[(Bytes, Bytes)] {
        &self.fields
    }

    /// Has `effect` happen together with the acknowledgement, in one step: once, however often the job is done.
    /// Whatever the outcome is other than done, it does not happen.
    pub fn on_done(&self, effect: Effect) {
        self.effects.lock().push(effect);
    }

    pub(crate) fn lane(&self, order: crate::Order) -> Option<&[u8]> {
        match order {
            crate::Order::None => None,
            crate::Order::ByKey => self.key().map(|key| &**key),
            crate::Order::Sequential => Some(&[]),
        }
    }
}

/// A command that Redis carries out in the same step in which a job is acknowledged: an effect that happens once, though
/// the job may be done twice.
///
/// If it fails, by a key of another type for example, the job is not acknowledged, and tried again; commands of the same
/// job before it have then happened.
///
/// ```
/// # use redis_streams::{Effect, Job, Name};
/// # fn f(job: &Job) -> Result<(), redis_streams::NameError> {
/// let queue = Name::new("invoices")?;
/// job.on_done(Effect::new("INCRBY", queue.key("total")).arg("250"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Effect {
    pub(crate) key: String,
    pub(crate) words: Vec<Bytes>,
}

impl Effect {
    /// A command whose first argument is its one key. The key must have the queue's hash tag, `{orders}:total` for the
    /// queue `orders`, so that it lies on the same server of a cluster.
    #[must_use]
    pub fn new(command: &'static str, key: Key<'_>) -> Self {
        let key = key.to_string();
        Self { words: vec![Bytes::from_static(command.as_bytes()), key.clone().into()], key }
    }

    /// A result that whoever added the job can [ask for](crate::Queue::result), for `ttl` from then on.
    #[must_use]
    pub fn result(queue: &Name, job: &Job, value: impl Into<Bytes>, ttl: Duration) -> Self {
        let suffix = result_suffix(job.id);
        Self::new("SET", queue.key(&suffix)).arg(value).arg("PX").arg(ttl.as_millis().max(1).to_string())
    }

    /// The next argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Bytes>) -> Self {
        self.words.push(arg.into());
        self
    }
}

pub(crate) fn result_suffix(id: JobId) -> String {
    format!("{id}:result")
}

/// Jobs out of a reply: of `XREADGROUP`, or of a script that gives the delivery as well.
pub(crate) struct Jobs(pub Vec<Job>);

impl FromRedisValue for Jobs {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        match value {
            Value::Array(jobs) => jobs.into_iter().map(job).collect::<Result<_, _>>().map(Self),
            Value::Nil => Ok(Self(Vec::new())),
            other => Err(format!("not a list of jobs: {other:?}").into()),
        }
    }
}

/// What one stream gave: by RESP2 a list of name and jobs, by RESP3 a map.
pub(crate) struct Read(pub Vec<Job>);

impl FromRedisValue for Read {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let jobs = match value {
            Value::Nil => None,
            Value::Map(streams) => streams.into_iter().next().map(|(_, jobs)| jobs),
            Value::Array(streams) => match streams.into_iter().next() {
                Some(Value::Array(stream)) => stream.into_iter().nth(1),
                other => other,
            },
            other => return Err(format!("not what a stream gives: {other:?}").into()),
        };
        jobs.map_or(Ok(Self(Vec::new())), |jobs| Jobs::from_redis_value(jobs).map(|jobs| Self(jobs.0)))
    }
}

fn job(value: Value) -> Result<Job, ParsingError> {
    let Value::Array(parts) = value else { return Err(format!("not a job: {value:?}").into()) };
    let mut parts = parts.into_iter();
    let id = JobId::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
    let fields = match parts.next() {
        Some(Value::Array(fields)) => {
            let mut pairs = Vec::with_capacity(fields.len() / 2);
            let mut fields = fields.into_iter();
            while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
                pairs.push((bytes(name)?, bytes(value)?));
            }
            pairs
        }
        Some(Value::Map(fields)) => fields
            .into_iter()
            .map(|(name, value)| Ok((bytes(name)?, bytes(value)?)))
            .collect::<Result<_, ParsingError>>()?,
        // Deleted from the stream while it was pending.
        _ => Vec::new(),
    };
    let deliveries = parts.next().map_or(Ok(1), u32::from_redis_value)?;
    Ok(Job::delivered(id, fields, deliveries))
}

fn bytes(value: Value) -> Result<Bytes, ParsingError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into()),
        other => Err(format!("not the bytes of a field: {other:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_two_numbers_and_nothing_else() {
        let id: JobId = "1700000000000-12".parse().unwrap();
        assert_eq!((id.ms, id.seq, id.to_string().as_str()), (1_700_000_000_000, 12, "1700000000000-12"));
        for wrong in ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", "1- 2", "18446744073709551616-0"] {
            assert_eq!(wrong.parse::<JobId>(), Err(InvalidId), "{wrong:?}");
        }
    }
}
