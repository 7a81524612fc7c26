//! Reads what is in a topic as those see it who read only what is committed, or everything.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Headers, Message};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// What to read of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// What transactions have committed, and what was produced without one; up to the first transaction that is open
    /// (`read_committed`).
    Committed,
    /// Everything, also what was aborted or still may be (`read_uncommitted`).
    Everything,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When it was made or appended, in milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers. One whose name is not UTF-8 is left out.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Reads a topic without a group: an iterator over its records, each partition's in order, which ends where the partition ended
/// when that was reached. It blocks; in a runtime it belongs into `spawn_blocking`.
///
/// For tests and for looking. Who works on records does so as a member of a group.
#[must_use = "a reader reads when it is iterated over"]
pub struct Reader {
    client: BaseConsumer,
    /// Partitions whose end is not reached.
    left: BTreeSet<i32>,
    limit: Duration,
}

impl Reader {
    /// A reader of all of this topic. `connection` has the brokers and the options of the connection.
    ///
    /// # Errors
    /// When there is no such topic, it may not be read, or no broker answers within `limit`; the iterator gives the same, when
    /// nothing comes for so long.
    pub fn open(connection: ClientConfig, topic: &str, isolation: Isolation, limit: Duration) -> KafkaResult<Self> {
        Self::begin(connection, topic, isolation, limit, Offset::Beginning)
    }

    /// The same, but only of the last so many offsets of each partition, one at least: as many records at the most, since brokers
    /// use some for themselves.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn newest(
        connection: ClientConfig,
        topic: &str,
        isolation: Isolation,
        limit: Duration,
        offsets: u32,
    ) -> KafkaResult<Self> {
        Self::begin(connection, topic, isolation, limit, Offset::OffsetTail(offsets.max(1).into()))
    }

    fn begin(
        mut connection: ClientConfig,
        topic: &str,
        isolation: Isolation,
        limit: Duration,
        at: Offset,
    ) -> KafkaResult<Self> {
        connection
            // Never joined, but librdkafka wants a name.
            .set("group.id", "turnstile-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // Where there are not so many any more.
            .set("auto.offset.reset", if at == Offset::Beginning { "error" } else { "earliest" })
            .set(
                "isolation.level",
                match isolation {
                    Isolation::Committed => "read_committed",
                    Isolation::Everything => "read_uncommitted",
                },
            );
        let client: BaseConsumer = connection.create()?;
        let metadata = client.fetch_metadata(Some(topic), limit)?;
        let (mut from, mut left) = (TopicPartitionList::new(), BTreeSet::new());
        for known in metadata.topics() {
            if let Some(error) = known.error() {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            for partition in known.partitions() {
                from.add_partition_offset(topic, partition.id(), at)?;
                left.insert(partition.id());
            }
        }
        if left.is_empty() {
            return Err(KafkaError::MetadataFetch(Code::UnknownTopic));
        }
        client.assign(&from)?;
        Ok(Self { client, left, limit })
    }
}

impl Iterator for Reader {
    type Item = KafkaResult<ReadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let until = Instant::now() + self.limit;
        while !self.left.is_empty() {
            match self.client.poll(Duration::from_millis(100)) {
                // It was written after its end.
                Some(Ok(message)) if !self.left.contains(&message.partition()) => {}
                Some(Ok(message)) => {
                    let owned = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
                    return Some(Ok(ReadRecord {
                        partition: message.partition(),
                        offset: message.offset(),
                        timestamp: message.timestamp().to_millis(),
                        key: owned(message.key()),
                        value: owned(message.payload()),
                        headers: message.headers().map(headers).unwrap_or_default(),
                    }));
                }
                // It comes again when more was written since.
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = self.left.remove(&partition),
                Some(Err(error)) if is_passing(&error) && Instant::now() < until => {}
                Some(Err(error)) => {
                    self.left.clear();
                    return Some(Err(error));
                }
                None if Instant::now() >= until => {
                    self.left.clear();
                    return Some(Err(KafkaError::MessageConsumption(Code::OperationTimedOut)));
                }
                None => {}
            }
        }
        None
    }
}

/// What librdkafka says, and goes on trying; and that the group is forbidden, to which it does not belong.
fn is_passing(error: &KafkaError) -> bool {
    use Code::{AllBrokersDown, BrokerTransportFailure, GroupAuthorizationFailed, OperationTimedOut, Resolve};
    let passing =
        [AllBrokersDown, BrokerTransportFailure, GroupAuthorizationFailed, OperationTimedOut, Resolve].map(Some);
    passing.contains(&error.rdkafka_error_code())
}

fn headers<H: Headers>(headers: &H) -> Vec<(String, Option<Vec<u8>>)> {
    (0..headers.count())
        .filter_map(|at| {
            // rdkafka panics at a name that is not UTF-8.
            let get = std::panic::AssertUnwindSafe(|| {
                let header = headers.get(at);
                (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
            });
            std::panic::catch_unwind(get).ok()
        })
        .collect()
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("partitions_left", &self.left.len()).finish_non_exhaustive()
    }
}
