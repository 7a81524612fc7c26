//! Members for as long as there are layouts: one after another, when a topic moves.

use std::sync::Arc;
use std::time::Duration;

use kafka_group::{ConfigError, GroupBuilder, Handler, InOrder, Record, Report, RunError, Scheduler, Shutdown, Worker};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cluster::blocking;
use crate::error::TopicError;
use crate::follower::Follower;
use crate::ordered::{Follow, Ordered};

/// Why a reader ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The layouts cannot be read.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The member is set up wrongly.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The member cannot go on.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl ReadError {
    /// Whether it may be otherwise soon.
    const fn is_passing(&self) -> bool {
        matches!(self, Self::Topic(TopicError::Unreachable { .. }) | Self::Run(RunError::Unreachable { .. }))
    }
}

/// How soon the next member is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Works on a topic's records by `handler`, in the order of each partition and from layout to layout, until `shutdown` begins.
///
/// `member` sets up a member of the group for these topics: one, and after a move the old and the new. When a topic moves, the
/// member leaves in an orderly way and another one takes its place.
///
/// Dropping the future ends the member, as that of [`Member::run`](kafka_group::Member::run).
///
/// # Errors
/// As those of the member, and where the layouts cannot be read. Brokers that are away are an error only at the start; between
/// two members they are waited for, as in the middle of a member's run.
pub async fn read<H: Handler<Record>>(
    follow: Follow,
    member: impl Fn(&[String]) -> GroupBuilder,
    handler: H,
    shutdown: Shutdown,
) -> Result<Report, ReadError> {
    read_by(follow, member, handler, InOrder::new, shutdown).await
}

/// As [`read`], in the order of another scheduler, which is made anew for each member: kafka-mt-consumer's lanes, say.
///
/// # Errors
/// As those of [`read`].
pub async fn read_by<H: Handler<Record>, S: Scheduler>(
    follow: Follow,
    member: impl Fn(&[String]) -> GroupBuilder,
    handler: H,
    scheduler: impl Fn(Worker<Arc<H>>) -> S,
    shutdown: Shutdown,
) -> Result<Report, ReadError> {
    let handler = Arc::new(handler);
    let (mut sum, mut again) = (Report::default(), false);
    loop {
        let turn = match turn(&follow, &member, &handler, &scheduler, &shutdown).await {
            Err(error) if again && error.is_passing() => {
                warn!(topic = follow.topic, %error, "the next member cannot begin for now");
                tokio::select! {
                    () = sleep(AGAIN) => continue,
                    () = shutdown.begun() => return Ok(sum),
                }
            }
            turn => turn?,
        };
        let (report, moved) = turn;
        sum.done += report.done;
        sum.skipped += report.skipped;
        sum.retries += report.retries;
        sum.dead_letters += report.dead_letters;
        sum.handed_back += report.handed_back;
        sum.halted.extend(report.halted);
        sum.stopped_by = report.stopped_by;
        if shutdown.is_begun() || !moved || sum.stopped_by.is_some() {
            return Ok(sum);
        }
        again = true;
    }
}

/// One member, and whether it ended because the topic moves.
async fn turn<H: Handler<Record>, S: Scheduler>(
    follow: &Follow,
    member: impl Fn(&[String]) -> GroupBuilder,
    handler: &Arc<H>,
    scheduler: impl Fn(Worker<Arc<H>>) -> S,
    shutdown: &Shutdown,
) -> Result<(Report, bool), ReadError> {
    let topics = topics(follow).await?;
    let mut moved = None;
    let member = member(&topics).scheduled(handler.clone(), |worker| {
        let ordered = Ordered::new(scheduler(worker), follow.clone(), topics.clone());
        moved = Some(ordered.moved());
        ordered
    })?;
    let (moved, ends) = (moved.unwrap_or_default(), CancellationToken::new());
    let run = member.run(Shutdown::when(ends.clone(), shutdown.limit()));
    tokio::pin!(run);
    let report = tokio::select! {
        report = &mut run => report,
        () = moved.cancelled() => { ends.cancel(); run.await }
        () = shutdown.begun() => { ends.cancel(); run.await }
    }?;
    Ok((report, moved.is_cancelled()))
}

/// The topics of all layouts that are still there.
async fn topics(follow: &Follow) -> Result<Vec<String>, TopicError> {
    let Follow { cluster, topic, .. } = follow.clone();
    blocking(move || {
        let client = cluster.consumer(None)?;
        let mut topics = vec![topic.clone()];
        if let Some(mut follower) = Follower::open(&cluster, &topic)? {
            let layouts = follower.catch_up()?;
            topics.extend(layouts.opened().chain(layouts.pending()).map(|layout| layout.topic.clone()));
        }
        topics.sort();
        topics.dedup();
        let mut found = Vec::new();
        for name in topics {
            match crate::cluster::topic(&client, &name) {
                Ok(_) => found.push(name),
                Err(TopicError::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() { Err(TopicError::UnknownTopic(topic)) } else { Ok(found) }
    })
    .await
}
