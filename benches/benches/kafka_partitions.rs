//! kafka-partitions by criterion: what it costs to find a key's partition, and to leave it to librdkafka instead.
//!
//! librdkafka's partitioners cannot be called by themselves, so records are handed to a producer of its own mock broker: with a
//! partition that ours found, and without one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use kafka_partitions::Partitioner;
use kafka_partitions::rdkafka::ClientConfig;
use kafka_partitions::rdkafka::mocking::MockCluster;
use kafka_partitions::rdkafka::producer::{BaseProducer, BaseRecord, Producer};

const PARTITIONS: i32 = 8;
/// Records between two flushes, which are not measured.
const BATCH: usize = 10_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for partitioner in [Partitioner::Murmur2Random, Partitioner::ConsistentRandom, Partitioner::Fnv1aRandom] {
        for length in [8, 36, 1_000] {
            let keys: Vec<Vec<u8>> = (0..64_u8).map(|at| vec![at.wrapping_mul(37); length]).collect();
            let mut at = 0;
            criterion.bench_function(&format!("kafka-partitions/{partitioner}/{length}-bytes"), |bencher| {
                bencher.iter(|| {
                    at = (at + 1) % keys.len();
                    partitioner.partition(Some(black_box(&keys[at])), black_box(PARTITIONS))
                });
            });
        }
    }
    let cluster = MockCluster::new(1).expect("a mock broker");
    cluster.create_topic("routes", PARTITIONS, 1).expect("a topic");
    let keys: Vec<String> = (0..BATCH).map(|at| format!("{at:036}")).collect();
    for ours in [true, false] {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "1000000");
        let producer: BaseProducer = config.create().expect("a producer");
        let name = if ours { "ours" } else { "librdkafka" };
        criterion.bench_function(&format!("kafka-partitions/send/{name}"), |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..(times as usize).div_ceil(BATCH) {
                    let begun = Instant::now();
                    for key in &keys {
                        let mut record = BaseRecord::to("routes").key(key).payload("");
                        if ours {
                            record.partition = Partitioner::Murmur2Random.partition(Some(key.as_bytes()), PARTITIONS);
                        }
                        producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
                    }
                    spent += begun.elapsed();
                    producer.flush(Duration::from_secs(30)).expect("the mock broker takes them");
                }
                spent.mul_f64(times as f64 / (BATCH * (times as usize).div_ceil(BATCH)) as f64)
            });
        });
    }
    criterion.final_summary();
}
