//! Whether the topics are still there. A consumer whose topic was deleted fetches nothing, and is told nothing for a long time.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::context::Context;
use super::{End, Engine};
use crate::error::RunError;

/// How often they are looked for.
const EVERY: Duration = Duration::from_secs(5);
/// How long the brokers may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The last look, and the one under way.
#[derive(Default)]
pub(super) struct Look {
    last: Option<Instant>,
    under_way: Option<Receiver<Option<Arc<str>>>>,
    /// Missing at the last look.
    missing: Option<Arc<str>>,
}

impl Look {
    /// Somebody has reason to look now.
    pub(super) fn at_once(&mut self) {
        self.last = None;
    }
}

impl Engine {
    /// Ends the run when a topic is missing at two looks in a row.
    pub(super) fn look_after_topics(&self) {
        let state = &mut *self.state.lock();
        if let Some(under_way) = &state.topics.under_way {
            let Ok(missing) = under_way.try_recv() else {
                if state.topics.last.is_some_and(|last| last.elapsed() > 4 * ANSWER) {
                    state.topics.under_way = None; // It came to nothing.
                }
                return;
            };
            state.topics.under_way = None;
            match missing {
                Some(topic) if state.topics.missing.as_ref() == Some(&topic) => {
                    state.end = Some(End::Failed(RunError::UnknownTopic { topic }));
                }
                missing => state.topics.missing = missing,
            }
        } else if state.topics.last.is_none_or(|last| last.elapsed() >= EVERY) {
            state.topics.last = Some(Instant::now());
            let highest = |topic: &Arc<str>| {
                let ours = state.partitions.iter().filter(|ours| ours.slot.topic() == topic);
                (topic.clone(), ours.map(|ours| ours.slot.partition()).max())
            };
            let topics: Vec<_> = self.settings.topics.iter().map(highest).collect();
            let look = |consumer: &BaseConsumer<Context>| {
                let mut topics = topics.into_iter();
                topics.find(|(topic, highest)| is_missing(consumer, topic, *highest)).map(|(topic, _)| topic)
            };
            state.topics.under_way = Some(self.aside(state, "topics", look));
        }
    }
}

/// Whether the topic is not there, or was made anew without our highest partition.
fn is_missing(consumer: &BaseConsumer<Context>, topic: &str, highest: Option<i32>) -> bool {
    match partitions_of(consumer, topic, ANSWER) {
        Ok(Ok(count)) => {
            highest.and_then(|highest| usize::try_from(highest).ok()).is_some_and(|highest| highest >= count)
        }
        Ok(Err(code)) => matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic),
        Err(_) => false,
    }
}

/// How many partitions a topic has, or what the brokers say against it. A pattern has as many as may be.
pub(super) fn partitions_of(
    consumer: &BaseConsumer<Context>,
    topic: &str,
    limit: Duration,
) -> KafkaResult<Result<usize, Code>> {
    if topic.starts_with('^') {
        return Ok(Ok(usize::MAX));
    }
    let metadata = consumer.fetch_metadata(Some(topic), limit)?;
    let known = metadata.topics().iter().find(|known| known.name() == topic);
    let known = known.ok_or(KafkaError::MetadataFetch(Code::UnknownTopic))?;
    Ok(known.error().map_or(Ok(known.partitions().len()), |error| Err(error.into())))
}
