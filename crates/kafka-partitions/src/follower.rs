//! Reads the log of a topic's layouts.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::cluster::{Cluster, REQUEST, watermarks};
use crate::error::{TopicError, is_passing};
use crate::layout::{Layouts, log_of};

/// A reader of the log, which sees only what is committed.
pub(crate) struct Follower {
    log: String,
    consumer: BaseConsumer,
    /// Sees also what is not committed yet.
    eager: BaseConsumer,
    next: Offset,
    pub layouts: Layouts,
}

impl Follower {
    /// `None` if the topic has no log. What is in it is not read yet.
    pub fn open(cluster: &Cluster, topic: &str) -> Result<Option<Self>, TopicError> {
        let log = log_of(topic);
        let consumer = cluster.clone().option("isolation.level", "read_committed").consumer(None)?;
        match crate::cluster::topic(&consumer, &log) {
            Ok(_) => {}
            Err(TopicError::UnknownTopic(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        let eager = cluster.clone().option("isolation.level", "read_uncommitted").consumer(None)?;
        Ok(Some(Self { log, consumer, eager, next: Offset::Beginning, layouts: Layouts::default() }))
    }

    /// Reads all that was in the log when this was called, also what was not visible yet: a change may have been committed
    /// whose last marker is still on its way to the log.
    pub fn catch_up(&mut self) -> Result<&Layouts, TopicError> {
        let (_, end) = watermarks(&self.eager, &self.log, 0)?;
        let until = Instant::now() + REQUEST;
        while watermarks(&self.consumer, &self.log, 0)?.1 < end {
            if Instant::now() > until {
                return Err(self.failed(KafkaError::NoMessageReceived));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Assigned anew, its end is told anew: nothing stale can be taken for it.
        self.assign()?;
        loop {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if !is_passing(&error) => {
                    return Err(self.failed(error));
                }
                Some(Ok(record)) => {
                    self.layouts.apply(record.key().unwrap_or_default(), record.payload());
                    self.next = Offset::Offset(record.offset() + 1);
                }
                _ if Instant::now() > until => return Err(self.failed(KafkaError::NoMessageReceived)),
                _ => {}
            }
        }
        match self.layouts.newer {
            None => Ok(&self.layouts),
            Some(version) => Err(TopicError::Newer { log: self.log.clone(), version }),
        }
    }

    /// Takes in what comes within this time; whether anything did. Only after [`catch_up`](Self::catch_up).
    pub fn poll(&mut self, limit: Duration) -> bool {
        let mut wait = limit;
        let mut came = false;
        while let Some(polled) = self.consumer.poll(wait) {
            if let Ok(record) = polled {
                self.layouts.apply(record.key().unwrap_or_default(), record.payload());
                self.next = Offset::Offset(record.offset() + 1);
                came = true;
            }
            wait = Duration::ZERO;
        }
        came
    }

    fn assign(&self) -> Result<(), TopicError> {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.log, 0, self.next).and_then(|()| self.consumer.assign(&list));
        added.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: KafkaError) -> TopicError {
        let what = format!("the layouts in {} cannot be read", self.log);
        match error {
            KafkaError::NoMessageReceived => TopicError::Unreachable { what, source: Box::new(error) },
            error => TopicError::of(what, error),
        }
    }
}
