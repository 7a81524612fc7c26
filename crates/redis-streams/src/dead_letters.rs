//! Jobs that were set aside: a stream of their own, each with what became of it.

use bytes::Bytes;
use redis_lua::redis::cmd;

use crate::error::QueueError;
use crate::job::{Job, JobId, Jobs};
use crate::keys::Group;
use crate::queue::Queue;
use crate::scripts::REPLAY;

/// The dead letters of a group, oldest first. They stay until they are replayed or purged.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    queue: Queue,
    group: Group,
}

/// A job that was set aside.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its id among the dead letters: when it was set aside.
    pub id: JobId,
    /// Its id in the queue: when it was added.
    pub job: JobId,
    /// How often it was tried.
    pub attempts: u32,
    /// The last error with its causes.
    pub error: String,
    /// The job's own fields.
    pub fields: Vec<(Bytes, Bytes)>,
}

/// Letters in one call.
const BATCH: usize = 100;

impl DeadLetters {
    pub(crate) const fn new(queue: Queue, group: Group) -> Self {
        Self { queue, group }
    }

    /// At most `count` of them, from `from` on if that is given.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn list(&self, from: Option<JobId>, count: usize) -> Result<Vec<DeadLetter>, redis_lua::Error> {
        let from = from.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let letters: Jobs = self
            .queue
            .client()
            .run(cmd("XRANGE").arg(self.group.dead()).arg(from).arg("+").arg("COUNT").arg(count))
            .await?;
        Ok(letters.0.into_iter().map(letter).collect())
    }

    /// How many there are.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn len(&self) -> Result<u64, redis_lua::Error> {
        self.queue.client().run(cmd("XLEN").arg(self.group.dead())).await
    }

    /// Whether there are none.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn is_empty(&self) -> Result<bool, redis_lua::Error> {
        Ok(self.len().await? == 0)
    }

    /// Puts letters back to the end of the queue, each as a new job that begins with attempt 1, for this group alone.
    /// Gives the new id of each, or `None` for one that was not there.
    ///
    /// # Errors
    /// See [`QueueError`]. Each letter is either replayed or still there.
    ///
    /// # Cancelling
    /// Some may be replayed, and the others are still there.
    pub async fn replay(&self, letters: &[JobId]) -> Result<Vec<Option<JobId>>, QueueError> {
        let mut replayed = Vec::with_capacity(letters.len());
        for letters in letters.chunks(BATCH) {
            let mut call = REPLAY.keys([self.queue.name().into(), self.group.dead()]).arg(&*self.group.name);
            for letter in letters {
                call = call.arg(letter.to_string());
            }
            let ids: Vec<String> = call.run(self.queue.client()).await?;
            replayed.extend(ids.iter().map(|id| id.parse().ok()));
        }
        Ok(replayed)
    }

    /// Replays all that are there now, and tells how many.
    ///
    /// # Errors
    /// As for [`replay`](Self::replay).
    pub async fn replay_all(&self) -> Result<u64, QueueError> {
        let (mut from, mut count) = (None, 0);
        // One that fails again meanwhile is a new letter, behind the last of now.
        let Some(last) = self.last().await? else { return Ok(0) };
        loop {
            let letters: Vec<JobId> =
                self.list(from, BATCH).await?.into_iter().map(|letter| letter.id).filter(|id| *id <= last).collect();
            let Some(end) = letters.last() else { return Ok(count) };
            from = Some(JobId { ms: end.ms, seq: end.seq.saturating_add(1) });
            let replayed = self.replay(&letters).await?;
            count += u64::try_from(replayed.iter().flatten().count()).unwrap_or(u64::MAX);
        }
    }

    async fn last(&self) -> Result<Option<JobId>, redis_lua::Error> {
        let last = cmd("XREVRANGE").arg(self.group.dead()).arg("+").arg("-").arg("COUNT").arg(1).to_owned();
        let letters: Jobs = self.queue.client().run(&last).await?;
        Ok(letters.0.first().map(Job::id))
    }

    /// Deletes letters for good, and tells how many there were.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn purge(&self, letters: &[JobId]) -> Result<u64, redis_lua::Error> {
        let mut count = 0;
        for letters in letters.chunks(BATCH) {
            let mut delete = cmd("XDEL");
            delete.arg(self.group.dead());
            for letter in letters {
                delete.arg(letter.to_string());
            }
            count += self.queue.client().run::<u64>(&delete).await?;
        }
        Ok(count)
    }

    /// Deletes for good all letters up to this one and including it, and tells how many there were.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn purge_to(&self, last: JobId) -> Result<u64, redis_lua::Error> {
        let after = JobId { ms: last.ms, seq: last.seq.saturating_add(1) }.to_string();
        self.queue.client().run(cmd("XTRIM").arg(self.group.dead()).arg("MINID").arg(after)).await
    }

    /// Deletes for good all that are there now, and tells how many.
    ///
    /// # Errors
    /// See [`redis_lua::Error`].
    pub async fn purge_all(&self) -> Result<u64, redis_lua::Error> {
        match self.last().await? {
            Some(last) => self.purge_to(last).await,
            None => Ok(0),
        }
    }
}

fn letter(entry: Job) -> DeadLetter {
    let text = |name: &str| entry.field(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let job = text("@id").and_then(|id| id.parse().ok()).unwrap_or(entry.id);
    let attempts = text("@attempts").and_then(|count| count.parse().ok()).unwrap_or_default();
    let error = text("@error").unwrap_or_default();
    DeadLetter { id: entry.id, job, attempts, error, fields: entry.fields.into_iter().skip(3).collect() }
}
