//! Adding jobs: one or many, now or later, once or as often as asked, and never beyond a limit.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis_lua::redis::{Cmd, FromRedisValue, ParsingError, Value};
use redis_lua::{Channel, Invocation};
use tokio::time::{Instant, sleep};
use turnstile_core::{Backoff, Owner};

use crate::error::AddError;
use crate::job::{JobId, MOST_FIELDS, NewJob, When};
use crate::keys::{DELAYED, SEEN, channel, publish};
use crate::queue::Queue;
use crate::scripts::ADD;

/// Jobs in one call, and their bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// Adds jobs to a queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Producer {
    queue: Queue,
    limit: Option<Limit>,
    patience: Option<Duration>,
    channel: Channel,
}

/// How large a queue may become: jobs in the stream that are not removed yet, and delayed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// So many jobs.
    Jobs(u64),
    /// Not above so many bytes of the server's memory, as it estimates them: what is added when there are fewer may go
    /// beyond.
    Bytes(u64),
}

/// The queue is at its limit: workers are too few, too slow or gone. Nothing was added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the queue {queue:?} is full: {size} of {limit:?} are taken, and nothing was added; see `turnstile queue stat` for who works on it, add later, or raise the limit"
)]
#[non_exhaustive]
pub struct Full {
    /// The queue.
    pub queue: String,
    /// How large it is: jobs or bytes, as the limit.
    pub size: u64,
    /// The producer's limit.
    pub limit: Limit,
}

/// What became of a job that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Added {
    /// It is in the stream.
    Queued(JobId),
    /// It will be there at this time, by the server's clock.
    Delayed(SystemTime),
    /// One with its dedup id was added before, within the window: it was not added again.
    Duplicate,
}

impl Added {
    /// The id, if it is in the stream.
    #[must_use]
    pub const fn id(&self) -> Option<JobId> {
        match self {
            Self::Queued(id) => Some(*id),
            _ => None,
        }
    }
}

impl Producer {
    pub(crate) fn new(queue: Queue) -> Self {
        let channel = channel(queue.name(), queue.client());
        Self { queue, limit: None, patience: None, channel }
    }

    /// With backpressure: what would go beyond `limit` is refused, with [`AddError::Full`].
    #[must_use]
    pub const fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// With a limit: waits for room, for at most `limit`, before it refuses. It looks again after 5 ms, then less often,
    /// down to four times a second.
    #[must_use]
    pub const fn wait_for_room(mut self, limit: Duration) -> Self {
        self.patience = Some(limit);
        self
    }

    /// Adds a job.
    ///
    /// # Errors
    /// See [`AddError`].
    ///
    /// # Cancelling
    /// A job that was sent is added all the same.
    pub async fn add(&self, job: NewJob) -> Result<Added, AddError> {
        check(&job)?;
        if self.limit.is_none() && job.is_plain() {
            return Ok(Added::Queued(self.queue.client().run(&xadd(&self.queue, &job)).await?));
        }
        let added = self.add_batch(std::slice::from_ref(&job)).await?;
        added.into_iter().next().ok_or(AddError::Invalid("the server added nothing, and did not say why"))
    }

    /// Adds many jobs, in order, in as few round trips as it takes. Each call of up to 256 jobs or 1 MiB is added as a
    /// whole or not at all; at the first that fails it stops, and what was added by then is in the error.
    ///
    /// # Errors
    /// What had been added, and why the next could not be.
    ///
    /// # Cancelling
    /// What was sent is added all the same.
    pub async fn add_all(&self, jobs: impl IntoIterator<Item = NewJob>) -> Result<Vec<Added>, (Vec<Added>, AddError)> {
        let mut added = Vec::new();
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < BATCH && bytes < BATCH_BYTES {
                let Some(job) = jobs.next() else { break };
                if let Err(error) = check(&job) {
                    return Err((added, error));
                }
                bytes += job.bytes();
                batch.push(job);
            }
            match self.add_batch(&batch).await {
                Ok(more) => added.extend(more),
                Err(error) => return Err((added, error)),
            }
        }
        Ok(added)
    }

    async fn add_batch(&self, jobs: &[NewJob]) -> Result<Vec<Added>, AddError> {
        let mut delays = Backoff::new(Duration::from_millis(5), Duration::from_millis(125)).delays();
        let until = self.patience.map(|patience| Instant::now() + patience);
        loop {
            let (length, bytes, fits, replies): (i64, i64, bool, Vec<Reply>) =
                self.call(jobs).run(self.queue.client()).await?;
            if fits {
                return Ok(replies.into_iter().map(|reply| reply.0).collect());
            }
            let delay = delays.next().unwrap_or_default();
            match (until, self.limit) {
                (Some(until), _) if Instant::now() < until => sleep(delay.min(until - Instant::now())).await,
                (_, limit) => {
                    let limit = limit.unwrap_or(Limit::Jobs(0));
                    let size = if matches!(limit, Limit::Jobs(_)) { length } else { bytes };
                    let size = u64::try_from(size).unwrap_or_default();
                    return Err(Full { queue: self.queue.name().to_string(), size, limit }.into());
                }
            }
        }
    }

    fn call(&self, jobs: &[NewJob]) -> Invocation<'static> {
        let name = self.queue.name();
        let (most_jobs, most_bytes) = match self.limit {
            Some(Limit::Jobs(most)) => (i64::try_from(most).unwrap_or(i64::MAX), -1),
            Some(Limit::Bytes(most)) => (-1, i64::try_from(most).unwrap_or(i64::MAX)),
            None => (-1, -1),
        };
        let unique = Owner::random().to_string();
        let mut call = ADD
            .keys([name.into(), name.key(DELAYED), name.key(SEEN)])
            .arg(most_jobs)
            .arg(most_bytes)
            .arg(publish(&self.channel))
            .arg(&self.channel);
        for (nth, job) in jobs.iter().enumerate() {
            let when = match job.when {
                When::Now => "+0".to_owned(),
                When::In(delay) => format!("+{}", delay.as_millis()),
                When::At(time) => format!("@{}", time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()),
            };
            let (dedup, window) = match &job.dedup {
                Some((id, window)) => (id.as_str(), window.as_millis()),
                None => ("", 0),
            };
            call = call.arg(when).arg(dedup).arg(u64::try_from(window).unwrap_or(u64::MAX));
            call = call.arg(format!("{unique}{nth}")).arg(job.fields.len() * 2);
            for (field, value) in &job.fields {
                call = call.arg(&field[..]).arg(&value[..]);
            }
        }
        call
    }
}

fn check(job: &NewJob) -> Result<(), AddError> {
    if job.fields.is_empty() {
        return Err(AddError::Invalid("a job without any field cannot be in a stream: give it a body or a field"));
    }
    if job.fields.len() > MOST_FIELDS {
        return Err(AddError::Invalid("a job has at most 1,000 fields: put more into its body"));
    }
    if job.dedup.as_ref().is_some_and(|(id, window)| id.is_empty() || window.as_millis() == 0) {
        return Err(AddError::Invalid(
            "a dedup id is a text that is not empty, with a window of at least a millisecond",
        ));
    }
    Ok(())
}

fn xadd(queue: &Queue, job: &NewJob) -> Cmd {
    let mut xadd = Cmd::with_capacity(3 + job.fields.len() * 2, 64 + job.bytes());
    xadd.arg("XADD").arg(queue.name().as_key()).arg("*");
    for (field, value) in &job.fields {
        xadd.arg(&field[..]).arg(&value[..]);
    }
    xadd
}

/// Nothing, `+` and a time, or an id.
struct Reply(Added);

impl FromRedisValue for Reply {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let text = String::from_redis_value(value)?;
        if text.is_empty() {
            return Ok(Self(Added::Duplicate));
        }
        match text.strip_prefix('+') {
            Some(ms) => {
                let ms = ms.parse().map_err(|_| ParsingError::from(format!("not a time: {text:?}")))?;
                Ok(Self(Added::Delayed(UNIX_EPOCH + Duration::from_millis(ms))))
            }
            None => JobId::from_redis_value(Value::BulkString(text.into_bytes())).map(|id| Self(Added::Queued(id))),
        }
    }
}
