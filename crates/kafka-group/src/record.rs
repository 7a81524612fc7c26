//! A record, detached from librdkafka's memory so that it can go to any task: one allocation for key, value and headers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use kafka_offsets::Epoch;
use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers};

/// The length that says that there is nothing at all, not even an empty value.
const NULL: u32 = u32::MAX;

/// A record of a topic.
#[derive(Debug, Clone)]
pub struct Record {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    epoch: Epoch,
    timestamp: Option<i64>,
    /// The key, the value, then each header as its name's length, name, its value's length, value.
    data: Bytes,
    key: u32,
    value: u32,
}

impl Record {
    /// Copies a record out of librdkafka's memory.
    pub(crate) fn detach(message: &BorrowedMessage<'_>, topic: &Arc<str>, epoch: Epoch) -> Self {
        let (key, value) = (message.key(), message.payload());
        let headers: Vec<_> = message
            .headers()
            .map(|headers| (0..headers.count()).map(|at| header(headers, at)).collect())
            .unwrap_or_default();
        let of_headers: usize = headers.iter().map(|(name, value)| 8 + name.len() + value.map_or(0, <[u8]>::len)).sum();
        let mut data = Vec::with_capacity(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + of_headers);
        let key = put(&mut data, key);
        let value = put(&mut data, value);
        for (name, value) in headers {
            for part in [Some(name.as_bytes()), value] {
                data.extend(part.map_or(NULL, length).to_ne_bytes());
                put(&mut data, part);
            }
        }
        Self {
            topic: topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
            epoch,
            timestamp: message.timestamp().to_millis(),
            data: data.into(),
            key,
            value,
        }
    }

    /// Its topic.
    #[must_use]
    pub const fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Its partition.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition
    }

    /// Its offset in the partition.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.offset
    }

    /// The assignment under which it came: rises each time this member is given the partition again, within one run.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When it was made or appended, as the topic has it, in milliseconds since 1970.
    #[must_use]
    pub const fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// Its key; `None` if it has none, which is not the same as an empty one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        (self.key != NULL).then(|| &self.data[..self.key as usize])
    }

    /// Its value; `None` for a tombstone, which is not the same as an empty one.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        (self.value != NULL).then(|| &self.data[self.value_at()..][..self.value as usize])
    }

    /// Its value as bytes that can be kept: they share the record's memory.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        (self.value != NULL).then(|| self.data.slice(self.value_at()..self.headers_at()))
    }

    /// Its headers, in their order; a name may come more than once. One whose name is not UTF-8 is there as `?`, without its
    /// value: rdkafka cannot read it.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut rest = &self.data[self.headers_at()..];
        std::iter::from_fn(move || {
            let name = take(&mut rest)??;
            // It was UTF-8 when it was put there.
            Some((std::str::from_utf8(name).unwrap_or_default(), take(&mut rest)?))
        })
    }

    /// How many bytes its key, value and headers take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len()
    }

    fn value_at(&self) -> usize {
        if self.key == NULL { 0 } else { self.key as usize }
    }

    fn headers_at(&self) -> usize {
        self.value_at() + if self.value == NULL { 0 } else { self.value as usize }
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
