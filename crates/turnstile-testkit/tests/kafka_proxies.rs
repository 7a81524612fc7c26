//! Faults of the network between a client and a broker that others use at the same time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use turnstile_testkit::kafka;
use turnstile_testkit::proxy::Direction;
use turnstile_testkit::unique;

const WITHIN: Duration = Duration::from_secs(30);
const BRIEFLY: Duration = Duration::from_millis(300);

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "100");
    config
}

fn send(producer: &BaseProducer, topic: &str) {
    producer.send(BaseRecord::<str, str>::to(topic).payload("value")).unwrap();
}

#[tokio::test]
async fn a_cut_is_met_and_the_client_comes_back_by_the_proxy() {
    let kafka = kafka::shared().await.unwrap();
    let proxy = kafka.proxy().await.unwrap();
    let topic = unique("orders");
    kafka.topic(&topic, 1).await.unwrap();
    let producer: BaseProducer = client(&proxy.brokers()).create().unwrap();
    send(&producer, &topic);
    producer.flush(WITHIN).unwrap();
    let before = proxy.stats();
    // What it knows of the broker came from the broker; it is the proxy's address all the same.
    assert!(before.open > 0, "{before:?}");
    proxy.cut();
    proxy.until(move |stats| stats.cut >= before.open).await.unwrap();
    send(&producer, &topic);
    producer.flush(WITHIN).unwrap();
    assert!(proxy.stats().connections > before.connections);
    assert_eq!(kafka.end_offsets(&topic).await.unwrap(), [2]);
}

#[tokio::test]
async fn a_half_open_path_hangs_its_own_clients_only() {
    let kafka = kafka::shared().await.unwrap();
    let (proxy, other) = (kafka.proxy().await.unwrap(), kafka.proxy().await.unwrap());
    let through: BaseConsumer = client(&proxy.brokers()).create().unwrap();
    let beside: BaseConsumer = client(&other.brokers()).create().unwrap();
    through.fetch_metadata(None, WITHIN).unwrap();
    proxy.half_open();
    through.fetch_metadata(None, BRIEFLY).unwrap_err();
    proxy.until(|stats| stats.swallowed_to_server > 0).await.unwrap();
    beside.fetch_metadata(None, WITHIN).unwrap();
    assert_eq!(other.stats().swallowed_to_server, 0);
}

#[tokio::test]
async fn what_was_held_arrives_late() {
    let kafka = kafka::shared().await.unwrap();
    let proxy = kafka.proxy().await.unwrap();
    let topic = unique("orders");
    kafka.topic(&topic, 1).await.unwrap();
    let producer: BaseProducer = client(&proxy.brokers()).create().unwrap();
    send(&producer, &topic);
    producer.flush(WITHIN).unwrap();
    proxy.hold(Direction::ToServer);
    send(&producer, &topic);
    producer.flush(BRIEFLY).unwrap_err();
    assert_eq!(kafka.end_offsets(&topic).await.unwrap(), [1]);
    proxy.pass();
    producer.flush(WITHIN).unwrap();
    assert_eq!(kafka.end_offsets(&topic).await.unwrap(), [2]);
}

#[tokio::test]
async fn a_proxy_that_was_dropped_can_be_had_again_without_its_faults() {
    let kafka = kafka::Kafka::start().await.unwrap();
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(kafka.proxy().await.unwrap());
    }
    let error = kafka.proxy().await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    let first = all.swap_remove(0);
    let brokers = first.brokers();
    first.half_open();
    drop(first);
    let again = kafka.proxy().await.unwrap();
    assert_eq!(again.brokers(), brokers);
    let through: BaseConsumer = client(&brokers).create().unwrap();
    through.fetch_metadata(None, WITHIN).unwrap();
}
