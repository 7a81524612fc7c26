//! Keys go where the Java client and librdkafka send them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_partitions::{Partitioner, murmur2};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ProducerContext};

/// The key of a line of `java.csv`.
fn key(text: &str) -> Vec<u8> {
    let byte = |hex: &str| u8::from_str_radix(hex, 16).unwrap();
    match text.strip_prefix("repeat:").and_then(|rest| rest.split_once(':')) {
        Some((hex, count)) => vec![byte(hex); count.parse().unwrap()],
        None => (0..text.len()).step_by(2).map(|at| byte(&text[at..at + 2])).collect(),
    }
}

#[test]
fn murmur2_is_that_of_the_java_client() {
    let lines = include_str!("java.csv").lines().filter(|line| !line.starts_with('#'));
    let mut seen = 0;
    for line in lines {
        let mut fields = line.split(',');
        let key = key(fields.next().unwrap());
        let numbers: Vec<i32> = fields.map(|field| field.parse().unwrap()).collect();
        assert_eq!(murmur2(&key).cast_signed(), numbers[0], "{line}");
        for (count, partition) in [3, 8, 100, 4096].into_iter().zip(&numbers[1..]) {
            for partitioner in [Partitioner::Murmur2, Partitioner::Murmur2Random] {
                assert_eq!(partitioner.partition(Some(&key), count), Some(*partition), "{line}");
            }
        }
        seen += 1;
    }
    assert!(seen >= 50, "{seen}");
}

/// Where librdkafka sent each key, by the key's number.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<(usize, i32)>>>);

impl ClientContext for Sent {}

impl ProducerContext for Sent {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        self.0.lock().unwrap().push((*index, result.as_ref().unwrap().partition()));
    }
}

fn keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..200).map(|n| format!("order-{n}").into_bytes()).collect();
    // All lengths around a word, with all bytes, and one as large as a broker takes by default.
    keys.extend((0..64_u8).map(|n| (0..n).map(|at| at.wrapping_mul(89).wrapping_add(n) ^ 0x80).collect()));
    keys.push(vec![0xff; 900_000]);
    keys
}

fn librdkafka(cluster: &MockCluster<'_, DefaultProducerContext>, partitioner: Partitioner, partitions: i32) {
    let topic = format!("{partitioner}-{partitions}");
    cluster.create_topic(&topic, partitions, 1).unwrap();
    let sent = Sent::default();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("partitioner", partitioner.name());
    let producer: BaseProducer<Sent> = config.create_with_context(sent.clone()).unwrap();
    let keys = keys();
    for (index, key) in keys.iter().enumerate() {
        let record = BaseRecord::with_opaque_to(&topic, Box::new(index)).key(key).payload("");
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    let record: BaseRecord<'_, [u8], str, Box<usize>> = BaseRecord::with_opaque_to(&topic, Box::new(usize::MAX));
    producer.send(record.payload("")).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    let sent = sent.0.lock().unwrap();
    assert_eq!(sent.len(), keys.len() + 1);
    for (index, partition) in &*sent {
        let key = keys.get(*index).map(Vec::as_slice);
        match partitioner.partition(key, partitions) {
            Some(expected) => assert_eq!(*partition, expected, "{partitioner} of {partitions}, key {index}"),
            None => assert!(key.is_none_or(<[u8]>::is_empty), "{partitioner} says that {key:?} may go anywhere"),
        }
    }
}

#[test]
fn each_is_that_of_librdkafka() {
    let cluster = MockCluster::new(1).unwrap();
    for partitioner in Partitioner::ALL {
        for partitions in [1, 3, 12] {
            librdkafka(&cluster, partitioner, partitions);
        }
    }
}

#[test]
fn no_key_and_an_empty_key_are_what_each_client_takes_them_for() {
    use Partitioner::{Consistent, ConsistentRandom, Fnv1a, Fnv1aRandom, Murmur2, Murmur2Random};
    for (partitioner, without, empty) in [
        (Murmur2Random, None, Some(1)),
        (Murmur2, Some(1), Some(1)),
        (ConsistentRandom, None, None),
        (Consistent, Some(0), Some(0)),
        (Fnv1aRandom, None, Some(3)),
        (Fnv1a, Some(3), Some(3)),
    ] {
        assert_eq!(partitioner.partition(None, 8), without, "{partitioner}");
        assert_eq!(partitioner.partition(Some(b""), 8), empty, "{partitioner}");
    }
}

#[test]
fn names_are_those_of_librdkafka_and_no_partitions_are_no_partition() {
    for partitioner in Partitioner::ALL {
        assert_eq!(partitioner.name().parse(), Ok(partitioner));
        assert_eq!(serde_json::to_string(&partitioner).unwrap(), format!("\"{partitioner}\""));
        for count in [0, -1, i32::MIN] {
            assert_eq!(partitioner.partition(Some(b"k"), count), None);
        }
    }
    let error = "sticky".parse::<Partitioner>().unwrap_err();
    assert!(error.to_string().contains("murmur2_random"), "{error}");
}
