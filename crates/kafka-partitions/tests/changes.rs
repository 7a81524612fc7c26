//! Writers, changes, and what becomes of them where something is wrong.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kafka_partitions::{
    Change, ChangeError, Cluster, Limits, Partitioner, State, Step, TopicError, WriteError, WriterOptions,
};
use turnstile_testkit::kafka::{Kafka, Operation, Resource, shared};
use turnstile_testkit::unique;

async fn topic(kafka: &Kafka, partitions: i32) -> (Cluster, String) {
    let name = unique("topic");
    kafka.topic(&name, partitions).await.unwrap();
    (Cluster::new(kafka.brokers()), name)
}

#[tokio::test]
async fn records_go_where_the_layout_says_and_two_at_once_make_one_layout() {
    let (kafka, name) = topic(&shared().await.unwrap(), 3).await;
    let options = |writer| WriterOptions::new(&kafka, &name, writer).partitioner(Partitioner::ConsistentRandom);
    let (one, two) = tokio::join!(options("one").connect(), options("two").connect());
    let (one, two) = (one.unwrap(), two.unwrap());
    let sent = join_all((0..100).map(|at| {
        let (key, writer) = (format!("key-{at}"), if at % 2 == 0 { &one } else { &two });
        async move { (key.clone(), writer.send(Some(key.as_bytes()), Some(b"v")).await.unwrap()) }
    }))
    .await;
    for (key, written) in sent {
        let expected = Partitioner::ConsistentRandom.partition(Some(key.as_bytes()), 3);
        assert_eq!((Some(written.partition), written.epoch, &*written.topic), (expected, 1, name.as_str()));
    }
    let layouts = kafka.layouts(&name).await.unwrap();
    assert_eq!((layouts.all.len(), layouts.writers.len()), (1, 2));
    one.close().await.unwrap();
    two.close().await.unwrap();
    assert_eq!(kafka.layouts(&name).await.unwrap().writers.len(), 0);
}

#[tokio::test]
async fn missing_empty_reserved_and_huge_keys_do_as_they_should_and_the_writer_goes_on() {
    let (kafka, name) = topic(&shared().await.unwrap(), 4).await;
    let writer = WriterOptions::new(&kafka, &name, "w").connect().await.unwrap();
    let huge = vec![b'k'; 1 << 20];
    let (none, empty, tombstone, too_large, after) = tokio::join!(
        writer.send(None, Some(b"v")),
        writer.send(Some(b""), Some(b"v")),
        writer.send(Some(b"k"), None),
        writer.send(Some(&huge), Some(b"v")),
        writer.send(Some(b"k"), Some(b"v")),
    );
    assert!(none.unwrap().partition < 4);
    assert_eq!(Some(empty.unwrap().partition), Partitioner::default().partition(Some(b""), 4));
    assert!(tombstone.unwrap().offset < after.unwrap().offset, "records of a key keep their order");
    assert!(matches!(too_large, Err(WriteError::Refused(_))), "{too_large:?}");
    let fits = writer.send(Some(&huge[..900_000]), None).await.unwrap();
    assert_eq!(Some(fits.partition), Partitioner::default().partition(Some(&huge[..900_000]), 4));
    let reserved = writer.send(Some(b"\0turnstile.barrier/x/2"), None).await;
    assert!(matches!(reserved, Err(WriteError::Reserved)));
    let error = WriterOptions::new(&kafka, &name, "no name").connect().await.unwrap_err();
    assert!(matches!(error, WriteError::Name(_)), "{error}");
}

#[tokio::test]
async fn numbers_that_cannot_be_unknown_topics_and_too_much_are_refused_each_with_what_to_do() {
    let shared = shared().await.unwrap();
    let (kafka, name) = topic(&shared, 2).await;
    for (partitions, part) in [(0, "at least one"), (-7, "at least one"), (1, "take partitions away"), (2, "as many")] {
        let error = kafka.plan(Change::grow(&name, partitions)).await.unwrap_err();
        assert!(matches!(error, ChangeError::Count { .. }) && error.to_string().contains(part), "{error}");
    }
    for unknown in ["no-such-topic", "", "no topic"] {
        let error = kafka.plan(Change::grow(unknown, 4)).await.unwrap_err();
        assert!(matches!(error, ChangeError::Topic(TopicError::UnknownTopic(_))), "{error}");
        let error = WriterOptions::new(&kafka, unknown, "w").connect().await.unwrap_err();
        assert!(matches!(error, WriteError::Topic(TopicError::UnknownTopic(_))), "{error}");
    }
    let limits = Limits::new(1, 200_000);
    let error = kafka.plan(Change::grow(&name, 4).limits(limits)).await.unwrap_err();
    assert!(matches!(error, ChangeError::Overload(_)) && error.to_string().contains("force"), "{error}");
    let forced = kafka.plan(Change::grow(&name, 4).limits(limits).force(true)).await.unwrap();
    assert!(forced.bearing.is_none());
    let error = kafka.plan(Change::into_topic(&name, &name, 1)).await.unwrap_err();
    assert!(matches!(error, ChangeError::Count { .. }), "{error}");
    assert_eq!(kafka.layouts(&name).await.unwrap().all.len(), 0, "plans change nothing");
    assert!(matches!(kafka.clone().option("no.such", "x").topic(&name).await, Err(TopicError::Option { .. })));
}

#[tokio::test]
async fn without_the_rights_it_says_which_to_give() {
    let kafka = Kafka::builder().restricted().start().await.unwrap();
    let (cluster, name) = topic(&kafka, 2).await;
    let error = cluster.plan(Change::grow(&name, 4)).await.unwrap_err();
    assert!(matches!(error, ChangeError::Topic(TopicError::Denied { .. })), "{error}");
    kafka.allow(Resource::Topic(&name), Operation::Read).await.unwrap();
    kafka.allow(Resource::Topic(&format!("{name}.layouts")), Operation::All).await.unwrap();
    let plan = cluster.plan(Change::grow(&name, 4)).await.unwrap();
    let error = cluster.carry_out(plan.clone(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("transactional ids"), "{error}");
    let id = format!("turnstile.{name}.layouts");
    kafka.allow(Resource::TransactionalId(&id), Operation::All).await.unwrap();
    let error = cluster.carry_out(plan.clone(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("ALTER"), "{error}");
    assert_eq!(cluster.layouts(&name).await.unwrap().pending().unwrap().state, State::Planned);
    // What was begun is taken up, once it may be.
    kafka.allow(Resource::Topic(&name), Operation::All).await.unwrap();
    let plan = cluster.plan(Change::grow(&name, 4)).await.unwrap();
    assert!(plan.resumes);
    assert_eq!(cluster.carry_out(plan, |_| ()).await.unwrap().epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_lost_in_the_middle_ends_the_change_and_later_it_is_taken_up() {
    let mut kafka = Kafka::start().await.unwrap();
    let (cluster, name) = topic(&kafka, 2).await;
    let writer = Arc::new(WriterOptions::new(&cluster, &name, "w").connect().await.unwrap());
    writer.send(Some(b"k"), Some(b"0")).await.unwrap();
    let plan = cluster.plan(Change::grow(&name, 4)).await.unwrap();
    let (reached, is_reached) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let mut reached = Some(reached);
    let change = tokio::spawn({
        let cluster = cluster.clone();
        async move {
            let on_step = move |step| {
                if step == Step::Closed {
                    let _ = reached.take().map(|reached| reached.send(()));
                    let _ = may_go_on.recv();
                }
            };
            cluster.carry_out(plan, on_step).await
        }
    });
    is_reached.await.unwrap();
    kafka.kill().await.unwrap();
    let waits = tokio::spawn({
        let writer = writer.clone();
        async move { writer.send(Some(b"k"), Some(b"1")).await }
    });
    go_on.send(()).unwrap();
    let error = change.await.unwrap().unwrap_err();
    assert!(matches!(error, ChangeError::Topic(TopicError::Unreachable { .. })), "{error}");
    kafka.restart().await.unwrap();
    let plan = cluster.plan(Change::grow(&name, 4)).await.unwrap();
    assert!(plan.resumes);
    cluster.carry_out(plan, |_| ()).await.unwrap();
    assert_eq!(waits.await.unwrap().unwrap().epoch, 2, "what waited is written");
    assert!(tokio::time::timeout(Duration::from_secs(30), writer.send(Some(b"k"), None)).await.unwrap().is_ok());
}
