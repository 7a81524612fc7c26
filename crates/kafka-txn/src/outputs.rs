//! What is to be produced. Outputs lie one after another in one piece of memory, so that a record's few cost no allocation
//! of their own, and stay there until their transaction is committed: an aborted one is written again from here.

use std::fmt;
use std::sync::Arc;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

/// The length that says that there is nothing at all, not even an empty value.
const NULL: u32 = u32::MAX;

/// One record to be produced: `Output::to("payments").key(b"k").value(b"v")`.
#[derive(Clone, Debug)]
#[must_use = "an output is to be pushed to the outputs"]
pub struct Output<'a> {
    topic: &'a str,
    partition: Option<i32>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    timestamp: Option<i64>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> Output<'a> {
    /// A record for this topic, without a key and without a value (a tombstone).
    pub const fn to(topic: &'a str) -> Self {
        Self { topic, partition: None, key: None, value: None, timestamp: None, headers: Vec::new() }
    }

    /// To this partition. Without it the key's hash decides, in the way of librdkafka unless the producer's option
    /// `partitioner` says otherwise.
    pub const fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Its key.
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Its value.
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Its time, in milliseconds since 1970; without it, when it is produced.
    pub const fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// One more header.
    pub fn header(mut self, name: &'a str, value: Option<&'a [u8]>) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The key, where there may be none.
    pub(crate) const fn maybe(mut self, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        (self.key, self.value) = (key, value);
        self
    }
}

/// Records to be produced, in this order.
#[derive(Clone, Default)]
pub struct Outputs {
    topics: Vec<Arc<str>>,
    entries: Vec<Entry>,
    data: Vec<u8>,
}

/// Where an output lies: its key, its value, then each header as its name's length, name, its value's length, value.
#[derive(Clone, Copy)]
struct Entry {
    topic: usize,
    partition: Option<i32>,
    timestamp: Option<i64>,
    start: usize,
    key: u32,
    value: u32,
    headers: u32,
}

impl Outputs {
    /// One more, behind the others.
    pub fn push(&mut self, output: Output<'_>) {
        let Output { topic, partition, key, value, timestamp, ref headers } = output;
        let topic = self.topic(topic);
        let start = self.data.len();
        for part in [key, value] {
            self.data.extend_from_slice(part.unwrap_or_default());
        }
        for (name, value) in headers {
            for part in [Some(name.as_bytes()), *value] {
                self.data.extend(length(part).to_ne_bytes());
                self.data.extend_from_slice(part.unwrap_or_default());
            }
        }
        let headers = u32::try_from(headers.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry {
            topic,
            partition,
            timestamp,
            start,
            key: length(key),
            value: length(value),
            headers,
        });
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes their keys, values and headers take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// Forgets them, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.data.clear();
    }

    /// All of another's behind one's own.
    pub(crate) fn append(&mut self, others: &Self) {
        let at = self.data.len();
        self.data.extend_from_slice(&others.data);
        for entry in &others.entries {
            let topic = self.topic(&others.topics[entry.topic]);
            self.entries.push(Entry { topic, start: at + entry.start, ..*entry });
        }
    }

    pub(crate) fn topic_of(&self, index: usize) -> &Arc<str> {
        &self.topics[self.entries[index].topic]
    }

    /// One of them, as the producer takes it.
    pub(crate) fn record(&self, index: usize, opaque: usize) -> BaseRecord<'_, [u8], [u8], usize> {
        let entry = &self.entries[index];
        let mut rest = &self.data[entry.start..];
        let mut record = BaseRecord::with_opaque_to(&self.topics[entry.topic], opaque);
        record.key = take(&mut rest, entry.key);
        record.payload = take(&mut rest, entry.value);
        (record.partition, record.timestamp) = (entry.partition, entry.timestamp);
        if entry.headers > 0 {
            let mut headers = OwnedHeaders::new_with_capacity(entry.headers as usize);
            for _ in 0..entry.headers {
                let mut part = || {
                    let (length, after) = rest.split_first_chunk::<4>()?;
                    rest = after;
                    take(&mut rest, u32::from_ne_bytes(*length))
                };
                // It was UTF-8 when it was put there.
                let key = part().and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
                headers = headers.insert(Header { key, value: part() });
            }
            record.headers = Some(headers);
        }
        record
    }

    fn topic(&mut self, name: &str) -> usize {
        self.topics.iter().rposition(|known| **known == *name).unwrap_or_else(|| {
            self.topics.push(name.into());
            self.topics.len() - 1
        })
    }
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outputs of {} bytes", self.len(), self.size())
    }
}

/// Kafka's own lengths are 32 bits, with a sign.
fn length(part: Option<&[u8]>) -> u32 {
    part.map_or(NULL, |part| u32::try_from(part.len()).unwrap_or(NULL))
}

fn take<'a>(rest: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    if length == NULL {
        return None;
    }
    let (part, after) = rest.split_at_checked(length as usize)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    #[test]
    fn what_was_pushed_comes_out_also_behind_others() {
        let mut first = Outputs::default();
        first.push(Output::to("a").key("k").value("v").partition(3).timestamp(7));
        let mut second = Outputs::default();
        second.push(Output::to("b").value("").header("h", Some(b"x")).header("none", None));
        second.push(Output::to("a").key(""));
        first.append(&second);
        assert_eq!((first.len(), first.topics.len()), (3, 2));
        let one = first.record(0, 5);
        assert_eq!((one.topic, one.key, one.payload), ("a", Some(&b"k"[..]), Some(&b"v"[..])));
        assert_eq!((one.partition, one.timestamp, one.delivery_opaque), (Some(3), Some(7), 5));
        let two = first.record(1, 0);
        assert_eq!((two.topic, two.key, two.payload), ("b", None, Some(&b""[..])));
        let headers = two.headers.unwrap();
        assert_eq!((headers.get(0).key, headers.get(0).value), ("h", Some(&b"x"[..])));
        assert_eq!((headers.get(1).key, headers.get(1).value), ("none", None));
        let three = first.record(2, 0);
        assert_eq!((three.topic, three.key, three.payload), ("a", Some(&b""[..]), None));
    }
}
