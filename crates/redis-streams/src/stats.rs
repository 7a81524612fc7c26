//! How large a queue is, by part, and who works on it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis_lua::redis::{FromRedisValue, ParsingError, Value, from_redis_value};

use crate::job::JobId;

/// Where a queue and one group of it stand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The server's time of this answer.
    pub at: SystemTime,
    /// Jobs in the stream, the acknowledged that are not removed yet included.
    pub length: u64,
    /// What the stream takes of the server's memory, in bytes, as the server estimates it.
    pub bytes: u64,
    /// Jobs that are not due yet.
    pub delayed: u64,
    /// What these take, in bytes.
    pub delayed_bytes: u64,
    /// The group's dead letters.
    pub dead: u64,
    /// What these take, in bytes.
    pub dead_bytes: u64,
    /// Jobs in lanes: being worked on or waiting for one of the same key.
    pub in_lanes: u64,
    /// Jobs that wait for another attempt, or for somebody to take them over. They are pending too.
    pub due: u64,
    /// Jobs that the group has not read; `None` if the server cannot tell, because jobs were deleted among them, or there
    /// is no such group.
    pub unread: Option<u64>,
    /// Jobs that were read and are not acknowledged.
    pub pending: u64,
    /// How long the oldest of these has been in the stream.
    pub oldest_pending: Option<Duration>,
    /// How long the oldest unread job has been in the stream.
    pub oldest_unread: Option<Duration>,
    /// The group's workers.
    pub workers: Vec<WorkerStats>,
}

/// One worker of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its name.
    pub name: String,
    /// How many jobs are pending in its name.
    pub pending: u64,
    /// How long ago it last asked for jobs.
    pub idle: Duration,
    /// How long it counts as alive without another sign of life; `None` if it gives none: it has ended, is dead, or is
    /// not of this crate.
    pub alive_for: Option<Duration>,
}

impl FromRedisValue for Stats {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let values: Vec<Value> = from_redis_value(value)?;
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let number = |value| from_redis_value::<u64>(value);
        let ms = number(next())?;
        let at = UNIX_EPOCH + Duration::from_millis(ms);
        let counts = (0..8).map(|_| number(next())).collect::<Result<Vec<_>, _>>()?;
        let unread: i64 = from_redis_value(next())?;
        let pending = number(next())?;
        let age = |value| {
            let id: String = from_redis_value(value)?;
            Ok::<_, ParsingError>(id.parse().ok().map(|id: JobId| id.age(at)))
        };
        let (oldest_pending, oldest_unread) = (age(next())?, age(next())?);
        let workers: Vec<(String, u64, u64, i64)> = from_redis_value(next())?;
        let workers = workers
            .into_iter()
            .map(|(name, pending, idle, alive)| WorkerStats {
                name,
                pending,
                idle: Duration::from_millis(idle),
                alive_for: u64::try_from(alive).ok().map(Duration::from_millis),
            })
            .collect();
        let [length, bytes, delayed, delayed_bytes, dead, dead_bytes, in_lanes, due] = counts[..] else {
            return Err("a part of the sizes is missing".into());
        };
        Ok(Self {
            at,
            length,
            bytes,
            delayed,
            delayed_bytes,
            dead,
            dead_bytes,
            in_lanes,
            due,
            unread: u64::try_from(unread).ok(),
            pending,
            oldest_pending,
            oldest_unread,
            workers,
        })
    }
}
