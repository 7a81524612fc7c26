//! Records, copied out of librdkafka's memory so that they can go to any task.
//!
//! What one turn of the polling thread takes of a partition lies together: one piece of memory for all keys, values and
//! headers, which is given back at once, when the last of its records is dropped.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use kafka_offsets::Epoch;
use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers};

use crate::slot::Slot;

/// The length that says that there is nothing at all, not even an empty value.
const NULL: u32 = u32::MAX;
/// Kafka's own word for a record without a timestamp.
const NO_TIME: i64 = -1;

/// A record of a topic.
///
/// A clone costs little, and so does keeping one; but it keeps the memory of those that came with it, of a thousand or of a
/// mebibyte at most. Copy what is to be kept for long.
#[derive(Clone)]
pub struct Record {
    batch: Arc<Batch>,
    at: usize,
}

/// What was taken of a partition at once.
struct Batch {
    topic: Arc<str>,
    partition: i32,
    epoch: Epoch,
    entries: Vec<Entry>,
    data: Bytes,
}

impl Batch {
    fn key(&self, at: usize) -> Option<&[u8]> {
        let entry = self.entries[at];
        (entry.key != NULL).then(|| &self.data[entry.start as usize..entry.value_at()])
    }
}

/// Where a record lies: its key, its value, then each header as its name's length, name, its value's length, value.
#[derive(Clone, Copy)]
struct Entry {
    offset: i64,
    timestamp: i64,
    start: u32,
    key: u32,
    value: u32,
    headers: u32,
}

impl Entry {
    const fn value_at(&self) -> usize {
        self.start as usize + if self.key == NULL { 0 } else { self.key as usize }
    }

    const fn headers_at(&self) -> usize {
        self.value_at() + if self.value == NULL { 0 } else { self.value as usize }
    }

    const fn size(&self) -> usize {
        self.headers_at() - self.start as usize + self.headers as usize
    }
}

/// Records of a partition, by rising offset: an iterator over them.
pub struct Records {
    batch: Arc<Batch>,
    next: usize,
    end: usize,
}

impl Records {
    /// The first of those that are left.
    #[must_use]
    pub fn first(&self) -> Option<Record> {
        (self.next < self.end).then(|| Record { batch: self.batch.clone(), at: self.next })
    }

    /// The keys of those that are left.
    pub fn keys(&self) -> impl Iterator<Item = Option<&[u8]>> {
        (self.next..self.end).map(|at| self.batch.key(at))
    }

    /// Takes the first so many out, for a scheduler that is not to have all of them at once.
    #[must_use]
    pub fn take_first(&mut self, records: usize) -> Self {
        let end = self.end.min(self.next.saturating_add(records));
        let first = Self { batch: self.batch.clone(), next: self.next, end };
        self.next = end;
        first
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let at = self.next;
        (at < self.end).then(|| {
            self.next += 1;
            Record { batch: self.batch.clone(), at }
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Batch { topic, partition, .. } = &*self.batch;
        write!(f, "{} records of {topic}/{partition}", self.len())
    }
}

/// A batch in the making.
#[derive(Default)]
pub(crate) struct Fetched {
    entries: Vec<Entry>,
    data: Vec<u8>,
}

impl Fetched {
    pub fn with_capacity(records: usize, bytes: usize) -> Self {
        Self { entries: Vec::with_capacity(records), data: Vec::with_capacity(bytes) }
    }

    /// Copies a record out of librdkafka's memory, with its headers or without.
    pub fn copy(&mut self, message: &BorrowedMessage<'_>, headers: bool) {
        let data = &mut self.data;
        let start = length(data);
        let key = put(data, message.key());
        let value = put(data, message.payload());
        let headers_at = data.len();
        if let Some(headers) = if headers { message.headers() } else { None } {
            for (name, value) in (0..headers.count()).map(|at| header(headers, at)) {
                for part in [Some(name.as_bytes()), value] {
                    data.extend(part.map_or(NULL, length).to_ne_bytes());
                    put(data, part);
                }
            }
        }
        let headers = length(&data[headers_at..]);
        let timestamp = message.timestamp().to_millis().unwrap_or(NO_TIME);
        self.entries.push(Entry { offset: message.offset(), timestamp, start, key, value, headers });
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many records, and how many bytes they have.
    pub fn len(&self) -> (usize, usize) {
        (self.entries.len(), self.data.len())
    }

    /// The first record's offset.
    pub fn first(&self) -> Option<i64> {
        self.entries.first().map(|entry| entry.offset)
    }

    /// Keeps only those records that are wanted, by their offset and size.
    pub fn retain(&mut self, mut wanted: impl FnMut(i64, usize) -> bool) {
        self.entries.retain(|entry| wanted(entry.offset, entry.size()));
    }

    pub fn finish(mut self, slot: &Slot) -> Records {
        // It may be kept for long.
        self.data.shrink_to_fit();
        self.entries.shrink_to_fit();
        let (topic, partition, epoch) = (slot.topic().clone(), slot.partition(), slot.epoch());
        let end = self.entries.len();
        let batch = Arc::new(Batch { topic, partition, epoch, entries: self.entries, data: self.data.into() });
        Records { batch, next: 0, end }
    }
}

impl Record {
    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.batch.topic
    }

    /// Its partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// Its offset in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.entry().offset
    }

    /// The assignment under which it came: rises each time this member is given the partition again, within one run.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.batch.epoch
    }

    /// When it was made or appended, as the topic has it, in milliseconds since 1970.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        Some(self.entry().timestamp).filter(|timestamp| *timestamp != NO_TIME)
    }

    /// Its key; `None` if it has none, which is not the same as an empty one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.batch.key(self.at)
    }

    /// Its value; `None` for a tombstone, which is not the same as an empty one.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        let entry = self.entry();
        (entry.value != NULL).then(|| &self.batch.data[entry.value_at()..entry.headers_at()])
    }

    /// Its value as bytes that can be kept: they share the record's memory.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        let entry = self.entry();
        (entry.value != NULL).then(|| self.batch.data.slice(entry.value_at()..entry.headers_at()))
    }

    /// Its headers, in their order; a name may come more than once. One whose name is not UTF-8 is there as `?`, without its
    /// value: rdkafka cannot read it. None under [`without_headers`](crate::GroupBuilder::without_headers).
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let entry = self.entry();
        let mut rest = &self.batch.data[entry.headers_at()..][..entry.headers as usize];
        std::iter::from_fn(move || {
            let name = take(&mut rest)??;
            // It was UTF-8 when it was put there.
            Some((std::str::from_utf8(name).unwrap_or_default(), take(&mut rest)?))
        })
    }

    /// How many bytes its key, value and headers take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entry().size()
    }

    /// The same record in memory of its own, if what it shares is more than four times as much: for one that is kept while
    /// those that came with it are done.
    #[must_use]
    pub fn compact(self) -> Self {
        let (entry, shared) = (*self.entry(), self.batch.data.len());
        if shared / 4 <= entry.size() {
            return self;
        }
        let Batch { topic, partition, epoch, data, .. } = &*self.batch;
        let data = Bytes::copy_from_slice(&data[entry.start as usize..][..entry.size()]);
        let entries = vec![Entry { start: 0, ..entry }];
        Self {
            batch: Arc::new(Batch { topic: topic.clone(), partition: *partition, epoch: *epoch, entries, data }),
            at: 0,
        }
    }

    /// The one behind it in what was taken at once.
    pub(crate) fn next(self) -> Option<Self> {
        let at = self.at + 1;
        (at < self.batch.entries.len()).then(|| Self { at, ..self })
    }

    fn entry(&self) -> &Entry {
        &self.batch.entries[self.at]
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("topic", self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("epoch", &self.epoch())
            .field("timestamp", &self.timestamp())
            .field("key", &self.key())
            .field("value", &self.value())
            .field("headers", &self.headers().collect::<Vec<_>>())
            .finish()
    }
}

/// One header. rdkafka panics at a name that is not UTF-8, as other clients may well write it; then neither its name nor its
/// value is to be had.
fn header(headers: &BorrowedHeaders, at: usize) -> (&str, Option<&[u8]>) {
    std::panic::catch_unwind(AssertUnwindSafe(|| headers.get(at)))
        .map_or(("?", None), |header| (header.key, header.value))
}

/// Kafka's own lengths are 32 bits, with a sign.
fn length(part: &[u8]) -> u32 {
    u32::try_from(part.len()).unwrap_or(NULL)
}

fn put(data: &mut Vec<u8>, part: Option<&[u8]>) -> u32 {
    data.extend_from_slice(part.unwrap_or_default());
    part.map_or(NULL, length)
}

/// The next part: `None` at the end, `Some(None)` if it is null.
fn take<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = u32::from_ne_bytes(*length);
    if length == NULL {
        *rest = after;
        return Some(None);
    }
    let (part, after) = after.split_at_checked(length as usize)?;
    *rest = after;
    Some(Some(part))
}
