//! Records at the edges: empty, null, large, with headers of every kind.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use kafka_group::rdkafka::ClientConfig;
use kafka_group::rdkafka::message::{Header, OwnedHeaders};
use kafka_group::rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use kafka_group::{Amount, Attempt, Handler, Outcome, Record, StallReason, Trouble};
use turnstile_testkit::unique;

use crate::support::{Log, Running, member_of, numbered, topic, until};
use crate::{end, raw, says};

type Part = Option<Vec<u8>>;
type Seen = (Part, Part, Vec<(String, Part)>);

/// Keeps what it sees.
#[derive(Clone, Default)]
struct Keeping(Arc<Mutex<Vec<Seen>>>);

#[async_trait]
impl Handler<Record> for Keeping {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        assert_eq!(record.value_bytes().as_deref(), record.value());
        let headers = record.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        let part = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
        self.0.lock().expect("not poisoned").push((part(record.key()), part(record.value()), headers.collect()));
        Outcome::Done
    }
}

/// Produces them to partition 0, in this order.
fn produce(brokers: &str, topic: &str, records: &[Seen]) -> Result<()> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("enable.idempotence", "true").create()?;
    for (key, value, headers) in records {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(0);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        if !headers.is_empty() {
            let add =
                |all: OwnedHeaders, (key, value): &(String, Part)| all.insert(Header { key, value: value.as_ref() });
            record = record.headers(headers.iter().fold(OwnedHeaders::new(), add));
        }
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(Duration::from_secs(30))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_not_empty_and_headers_come_as_they_were_sent() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    let part = |part: &str| Some(part.as_bytes().to_vec());
    let parts = [None, part(""), part("x"), Some(vec![0, 0xff, 0x80])];
    let mut records = Vec::new();
    for key in &parts {
        for value in &parts {
            records.push((key.clone(), value.clone(), Vec::new()));
            let headers =
                [("", part("")), ("twice", None), ("twice", part("2")), ("ž", Some(vec![0xff])), ("e", part(""))];
            let headers = headers.map(|(name, value)| (name.to_owned(), value));
            records.push((key.clone(), value.clone(), headers.to_vec()));
        }
    }
    produce(&kafka.brokers(), &topic, &records)?;
    let keeping = Keeping::default();
    let running = Running::start(member_of(&kafka.brokers(), &group, &topic).handler(keeping.clone())?);
    until("all are handled", || keeping.0.lock().unwrap().len() == records.len()).await;
    end(running).await?;
    assert_eq!(*keeping.0.lock().unwrap(), records);

    let bare = Keeping::default();
    let member = member_of(&kafka.brokers(), &unique("bare"), &topic).without_headers().handler(bare.clone())?;
    let running = Running::start(member);
    until("all are handled again", || bare.0.lock().unwrap().len() == records.len()).await;
    end(running).await?;
    records.iter_mut().for_each(|(_, _, headers)| headers.clear());
    assert_eq!(*bare.0.lock().unwrap(), records);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_whose_name_is_not_utf_8_does_not_hold_what_is_behind_it() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    let brokers = kafka.brokers();
    raw::produce_with_header(&brokers, &topic, b"before", b"name")?;
    raw::produce_with_header(&brokers, &topic, b"odd", &[0xff, 0xfe])?;
    kafka.produce(&topic, Some(0), [("", "behind")]).await?;
    let keeping = Keeping::default();
    let running = Running::start(member_of(&brokers, &group, &topic).handler(keeping.clone())?);
    until("all are handled", || keeping.0.lock().unwrap().len() == 3).await;
    assert_eq!(end(running).await?.done, 3);
    let seen = keeping.0.lock().unwrap();
    let values: Vec<_> = seen.iter().map(|(_, value, _)| value.as_deref().unwrap_or_default()).collect();
    assert_eq!(values, [&b"before"[..], b"odd", b"behind"]);
    assert_eq!(seen[0].2, [("name".to_owned(), Some(b"value".to_vec()))]);
    assert_eq!(seen[1].2.len(), 1, "it is there, under whatever name");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_above_what_is_fetched_at_once_and_above_the_budget_come_one_by_one() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    let million = |number: u8| (None, Some(vec![number; 1_000_000 - 200]), Vec::new());
    let records: Vec<Seen> = (0..10).map(million).collect();
    produce(&kafka.brokers(), &topic, &records)?;
    let keeping = Keeping::default();
    let member = member_of(&kafka.brokers(), &group, &topic)
        .budget(Amount { records: 1, bytes: 1 })
        .option("fetch.message.max.bytes", "1000")
        .option("fetch.max.bytes", "2000")
        .option("message.max.bytes", "1000");
    let mut running = Running::start(member.handler(keeping.clone())?);
    until("all are handled", || keeping.0.lock().unwrap().len() == 10).await;
    running.until(|status| status.partitions.iter().any(|one| one.commit_point == 10 && !one.paused)).await?;
    end(running).await?;
    assert!(*keeping.0.lock().unwrap() == records);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_above_the_client_s_own_limits_come_too() -> Result<()> {
    let (kafka, _, group) = topic(1).await?;
    let topic = unique("large");
    kafka.topic_with(&topic, 1, -1, &[("max.message.bytes", "30000000")]).await?;
    let large = vec![7; 20_000_000];
    kafka.produce(&topic, Some(0), [("large", large.as_slice()), ("small", b"x")]).await?;
    let keeping = Keeping::default();
    let member = member_of(&kafka.brokers(), &group, &topic);
    let running = Running::start(member.handler(keeping.clone())?);
    until("both are handled", || keeping.0.lock().unwrap().len() == 2).await;
    end(running).await?;
    assert!(keeping.0.lock().unwrap()[0].1.as_ref() == Some(&large));
    Ok(())
}

/// Sets aside those with a key.
struct Choosy(Log);

#[async_trait]
impl Handler<Record> for Choosy {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self.0.note(record, attempt);
        if record.key().is_some() { Outcome::DeadLetter(anyhow!("not ours")) } else { Outcome::Done }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_too_large_for_its_topic_holds_its_partition_and_says_so() -> Result<()> {
    let (kafka, topic, group) = topic(2).await?;
    let dead = unique("dead");
    kafka.topic_with(&dead, 1, -1, &[("max.message.bytes", "1000")]).await?;
    kafka.produce(&topic, Some(0), [("large", vec![7; 10_000])]).await?;
    kafka.produce(&topic, Some(0), numbered(1)).await?;
    kafka.produce(&topic, Some(1), numbered(10)).await?;
    let log = Log::default();
    let member = || {
        member_of(&kafka.brokers(), &group, &topic)
            .dead_letters(&dead)
            .stalled_after(Duration::from_millis(500))
            .handler(Choosy(log.clone()))
    };
    let mut running = Running::start(member()?);
    let status = running.until(|status| status.partitions.iter().any(|one| one.stall.is_some())).await?;
    let stalled = status.partitions.iter().find_map(|one| one.stall.as_ref()).map(|stall| &stall.reason);
    let Some(reason @ StallReason::Trouble(Trouble::DeadLetter { offset: 0, .. })) = stalled else {
        panic!("another reason: {stalled:?}")
    };
    says(reason, &["cannot be set aside", "too large"]);
    log.until(11).await?; // the other partition goes on
    let report = end(running).await?;
    assert_eq!((report.dead_letters, report.done), (10, 0));
    let committed = kafka.committed(&group, &topic).await?;
    assert_eq!((committed[0].offset, committed[1].offset), (Some(0), Some(10)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_as_large_as_its_topic_takes_fits_into_dead_letters_that_take_more() -> Result<()> {
    let (kafka, topic, group) = topic(1).await?;
    let dead = unique("dead");
    kafka.topic_with(&dead, 1, -1, &[("max.message.bytes", "2000000")]).await?;
    // As much as the broker takes by default, without room for the headers of a dead letter.
    kafka.produce(&topic, Some(0), [("large", vec![7; 1_048_588 - 100])]).await?;
    let running = Running::start(
        member_of(&kafka.brokers(), &group, &topic).dead_letters(&dead).handler(Choosy(Log::default()))?,
    );
    let mut status = running.status.clone();
    let done = status.wait_for(|status| status.partitions.iter().any(|one| one.commit_point == 1));
    tokio::time::timeout(Duration::from_secs(20), done).await??;
    assert_eq!(end(running).await?.dead_letters, 1);
    Ok(())
}
