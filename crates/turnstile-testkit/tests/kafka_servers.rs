//! Kafka servers: shared, private with options, clusters, and faults of brokers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use turnstile_testkit::kafka::{self, Cluster, Committed, Kafka, Operation, Resource};
use turnstile_testkit::{unique, until};

const WITHIN: Duration = Duration::from_secs(30);

fn consumer(brokers: &str, options: &[(&str, &str)]) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    config.extend(options.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
    config.create().unwrap()
}

/// The value of the next record, or the error that comes in its place.
fn next(consumer: &BaseConsumer) -> Result<String, RDKafkaErrorCode> {
    let until = Instant::now() + WITHIN;
    // It comes back with nothing after an event, too.
    let polled =
        std::iter::repeat_with(|| consumer.poll(WITHIN)).take_while(|_| Instant::now() < until).flatten().next();
    match polled.expect("a record or an error") {
        Ok(record) => Ok(String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned()),
        Err(KafkaError::MessageConsumption(code)) => Err(code),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_shared_broker_is_one_for_all_tests_and_has_what_was_produced() {
    let other = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(kafka::shared()).unwrap().brokers()
    });
    let other = other.join().unwrap();
    let kafka = kafka::shared().await.unwrap();
    assert_eq!(kafka.brokers(), other);
    let topic = unique("orders");
    kafka.topic(&topic, 4).await.unwrap();
    kafka.topic(&topic, 4).await.unwrap_err();
    let places = kafka.produce(&topic, None, (0..1000).map(|n| (format!("key {n}"), "value"))).await.unwrap();
    let mut counted = [0; 4];
    for &(partition, offset) in &places {
        assert_eq!(offset, counted[partition as usize]);
        counted[partition as usize] += 1;
    }
    assert_eq!((places.len(), kafka.end_offsets(&topic).await.unwrap()), (1000, counted.to_vec()));
    assert!(counted.iter().all(|&count| count > 0));
}

#[tokio::test(start_paused = true)]
async fn topics_grow_and_go_also_on_a_paused_clock() {
    let kafka = kafka::shared().await.unwrap();
    let topic = unique("orders");
    kafka.topic_with(&topic, 1, 1, &[("cleanup.policy", "compact")]).await.unwrap();
    kafka.grow_topic(&topic, 3).await.unwrap();
    assert_eq!(kafka.produce(&topic, Some(2), [("key", "value")]).await.unwrap(), [(2, 0)]);
    kafka.grow_topic(&topic, 2).await.unwrap_err();
    kafka.delete_topic(&topic).await.unwrap();
    kafka.delete_topic(&topic).await.unwrap_err();
    kafka.end_offsets(&topic).await.unwrap_err();
}

#[tokio::test]
async fn what_a_group_has_committed_is_seen_with_its_metadata() {
    let kafka = kafka::shared().await.unwrap();
    let (topic, group) = (unique("orders"), unique("workers"));
    kafka.topic(&topic, 2).await.unwrap();
    assert_eq!(kafka.committed(&group, &topic).await.unwrap(), [Committed::default(), Committed::default()]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 1, Offset::Offset(7)).unwrap();
    list.find_partition(&topic, 1).unwrap().set_metadata("and what follows");
    consumer(&kafka.brokers(), &[("group.id", &group)]).commit(&list, CommitMode::Sync).unwrap();
    let seen = kafka.committed(&group, &topic).await.unwrap();
    assert_eq!((seen[0].offset, seen[1].offset, &*seen[1].metadata), (None, Some(7), "and what follows"));
}

#[tokio::test]
async fn groups_of_each_protocol_get_their_records() {
    let kafka = kafka::shared().await.unwrap();
    let topic = unique("orders");
    kafka.topic(&topic, 1).await.unwrap();
    kafka.produce(&topic, None, [("key", "value")]).await.unwrap();
    let eager = ("partition.assignment.strategy", "range");
    let cooperative = ("partition.assignment.strategy", "cooperative-sticky");
    for protocol in [eager, cooperative, ("group.protocol", "consumer")] {
        let consumer = consumer(&kafka.brokers(), &[("group.id", &unique("workers")), protocol]);
        consumer.subscribe(&[&topic]).unwrap();
        assert_eq!(next(&consumer).unwrap(), "value", "{protocol:?}");
    }
}

#[tokio::test]
async fn a_stopped_broker_hangs_and_answers_when_it_goes_on() {
    let server = Kafka::start().await.unwrap();
    let client = consumer(&server.brokers(), &[]);
    server.stop().await.unwrap();
    client.fetch_metadata(None, Duration::from_millis(300)).unwrap_err();
    server.cont().await.unwrap();
    client.fetch_metadata(None, WITHIN).unwrap();
}

#[tokio::test]
async fn a_killed_broker_comes_back_at_the_same_address_with_what_it_had() {
    let mut server = Kafka::start().await.unwrap();
    let topic = unique("orders");
    server.topic(&topic, 1).await.unwrap();
    server.produce(&topic, Some(0), [("key", "value")]).await.unwrap();
    let brokers = server.brokers();
    server.stop().await.unwrap();
    server.kill().await.unwrap();
    server.kill().await.unwrap();
    server.stop().await.unwrap_err();
    consumer(&brokers, &[]).fetch_metadata(None, Duration::from_millis(300)).unwrap_err();
    server.restart().await.unwrap();
    assert_eq!(server.brokers(), brokers);
    assert_eq!(server.end_offsets(&topic).await.unwrap(), [1]);
}

#[tokio::test]
async fn a_cluster_goes_on_without_one_of_its_brokers() {
    let mut cluster = Cluster::start(3).await.unwrap();
    let topic = unique("orders");
    cluster.topic(&topic, 3).await.unwrap();
    cluster.produce(&topic, None, (0..100).map(|n| (n.to_string(), "before"))).await.unwrap();
    // A path through proxies reaches each broker by its own.
    let proxy = cluster.proxy().await.unwrap();
    let client = consumer(&proxy.brokers(), &[]);
    for partition in 0..3 {
        client.fetch_watermarks(&topic, partition, WITHIN).unwrap();
    }
    until("each proxy was used", async || proxy.each().iter().all(|one| one.stats().connections > 0)).await;
    for victim in 0..2 {
        cluster.each()[victim].kill().await.unwrap();
        // To all partitions, also those that it led.
        for partition in 0..3 {
            cluster.produce(&topic, Some(partition), [("key", "meanwhile")]).await.unwrap();
        }
        cluster.each()[victim].restart().await.unwrap();
    }
    assert_eq!(cluster.end_offsets(&topic).await.unwrap().iter().sum::<i64>(), 106);
}

#[tokio::test]
async fn on_a_restricted_broker_clients_may_do_what_they_were_allowed() {
    let server = Kafka::builder().restricted().start().await.unwrap();
    let (topic, group) = (unique("orders"), unique("workers"));
    server.topic(&topic, 1).await.unwrap();
    server.produce(&topic, None, [("key", "value")]).await.unwrap();
    let attempt = || {
        let consumer = consumer(&server.brokers(), &[("group.id", &group)]);
        consumer.subscribe(&[&topic]).unwrap();
        next(&consumer)
    };
    assert_eq!(attempt(), Err(RDKafkaErrorCode::GroupAuthorizationFailed));
    server.allow(Resource::Group(&group), Operation::Read).await.unwrap();
    assert_eq!(attempt(), Err(RDKafkaErrorCode::TopicAuthorizationFailed));
    server.allow(Resource::Topic(&topic), Operation::Read).await.unwrap();
    assert_eq!(attempt().unwrap(), "value");
    server.deny(Resource::Topic(&topic), Operation::Read).await.unwrap();
    assert_eq!(attempt(), Err(RDKafkaErrorCode::TopicAuthorizationFailed));
    assert!(!format!("{server:?}").contains("password"));
}

#[tokio::test]
async fn settings_that_kafka_refuses_come_back_with_its_words() {
    let error = Kafka::builder().config("num.network.threads", "none").start().await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("ended at once") && text.contains("num.network.threads"), "{text}");
}
