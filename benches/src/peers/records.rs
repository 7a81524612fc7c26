//! Reads a topic whose records have keys: kafka-group, kafka-mt-consumer, and a poll loop by hand. The handler's work is the same in all
//! programs, and so is the look at the order of each key's records, which is done in the handler.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use kafka_group::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use kafka_group::rdkafka::{ClientConfig, Message};
use kafka_group::{Attempt, GroupBuilder, Handler, Member, Outcome, Record, Shutdown, Start, StartAt};
use kafka_mt_consumer::ParallelBuilder;
use serde::Deserialize;
use tokio::sync::Notify;
use turnstile_testkit::unique;

use super::serve::{now, work};

/// How many keys there are. A key is the four bytes of its number.
pub const KEYS: u32 = 1_000;

/// Reading a topic from its start, in a group of its own.
#[derive(Debug, Clone)]
pub struct Order {
    /// What reads it.
    pub kind: String,
    /// The topic.
    pub topic: String,
    /// How many records it has.
    pub records: u64,
    /// How long the handler works on each.
    pub work: Duration,
    /// How many handlers may be at work at once, where that can be chosen.
    pub concurrency: u32,
    /// From the first record: it ends then, at its end or not.
    pub limit: Duration,
}

impl Order {
    /// As a program reads it.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { kind, topic, records, work, concurrency, limit } = self;
        format!("{kind} {topic} {records} {} {concurrency} {}", work.as_micros(), limit.as_millis())
    }

    fn read(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[kind, topic, records, work, concurrency, limit] = words.as_slice() else {
            bail!("an order has six words");
        };
        Ok(Self {
            kind: kind.to_owned(),
            topic: topic.to_owned(),
            records: records.parse()?,
            work: Duration::from_micros(work.parse()?),
            concurrency: concurrency.parse()?,
            limit: Duration::from_millis(limit.parse()?),
        })
    }
}

/// What came of it; times are in ns of the monotonic clock.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Reply {
    /// When the first was in the handler.
    pub first: u64,
    /// When the last was done.
    pub last: u64,
    /// How many were.
    pub handled: u64,
    /// How many came after a later one of their key, or while another of it was in hand.
    pub disorder: u64,
}

impl Reply {
    /// Records a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.handled as f64 / Duration::from_nanos(self.last.saturating_sub(self.first).max(1)).as_secs_f64()
    }
}

/// What the handlers of a round have seen.
struct Seen {
    order: Order,
    /// Of each key, the offset that was done last; and while one is in hand, less than any.
    keys: Vec<AtomicI64>,
    first: AtomicU64,
    last: AtomicU64,
    handled: AtomicU64,
    disorder: AtomicU64,
    end: Notify,
}

const IN_HAND: i64 = i64::MIN;

impl Seen {
    fn new(order: Order) -> Self {
        let zero = || AtomicU64::new(0);
        let keys = (0..KEYS).map(|_| AtomicI64::new(-1)).collect();
        Self { order, keys, first: zero(), last: zero(), handled: zero(), disorder: zero(), end: Notify::new() }
    }

    fn key(&self, key: Option<&[u8]>) -> Option<&AtomicI64> {
        self.keys.get(u32::from_be_bytes(key?.try_into().ok()?) as usize)
    }

    /// Before the work.
    fn begins(&self, key: Option<&[u8]>, offset: i64) -> Result<()> {
        if self.first.load(Ordering::Relaxed) == 0 {
            let _ = self.first.compare_exchange(0, now()?, Ordering::Relaxed, Ordering::Relaxed);
        }
        let before = self.key(key).context("a record without a key")?.swap(IN_HAND, Ordering::AcqRel);
        if before == IN_HAND || before >= offset {
            self.disorder.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// After it; whether that is all.
    fn ends(&self, key: Option<&[u8]>, offset: i64) -> Result<bool> {
        self.key(key).context("a record without a key")?.store(offset, Ordering::Release);
        let handled = self.handled.fetch_add(1, Ordering::Relaxed) + 1;
        // Looking at the clock costs something: not for each record.
        if !handled.is_multiple_of(64) && handled < self.order.records && self.order.work.is_zero() {
            return Ok(false);
        }
        let now = now()?;
        self.last.fetch_max(now, Ordering::Relaxed);
        let over = now - self.first.load(Ordering::Relaxed) > self.order.limit.as_nanos() as u64;
        let all = over || handled >= self.order.records;
        if all {
            self.end.notify_one();
        }
        Ok(all)
    }

    fn line(&self) -> String {
        let get = |number: &AtomicU64| number.load(Ordering::SeqCst);
        let (first, last, handled) = (get(&self.first), get(&self.last), get(&self.handled));
        let disorder = get(&self.disorder);
        serde_json::json!({ "first": first, "last": last, "handled": handled, "disorder": disorder }).to_string()
    }
}

/// Reads as it is told until there is no more.
///
/// # Errors
/// When the broker does not answer, or an order is none.
pub async fn serve_ours(brokers: &str) -> Result<()> {
    println!("ready");
    for line in std::io::stdin().lines() {
        let order = Order::read(&line?)?;
        let seen = Arc::new(Seen::new(order));
        match seen.order.kind.as_str() {
            "raw" => {
                let (brokers, seen) = (brokers.to_owned(), seen.clone());
                tokio::task::spawn_blocking(move || by_hand(&brokers, &seen)).await??;
            }
            "kafka-group" => {
                until_the_end(group(brokers, &seen).handler(Empty(seen.clone()))?, &seen).await?;
            }
            "kafka-mt-consumer" => {
                let limit = usize::try_from(seen.order.concurrency)?;
                let member = ParallelBuilder::new(group(brokers, &seen))
                    .concurrency(NonZeroUsize::new(limit).context("a concurrency of zero")?)
                    .handler(Empty(seen.clone()))?;
                until_the_end(member, &seen).await?;
            }
            kind => bail!("nothing is called {kind}"),
        }
        println!("{}", seen.line());
    }
    Ok(())
}

fn group(brokers: &str, seen: &Seen) -> GroupBuilder {
    let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
    GroupBuilder::new(brokers, unique("group"), [&seen.order.topic], start)
}

async fn until_the_end(member: Member, seen: &Seen) -> Result<()> {
    let shutdown = Shutdown::new(Duration::from_secs(10));
    let run = tokio::spawn(member.run(shutdown.clone()));
    seen.end.notified().await;
    shutdown.begin();
    run.await??;
    Ok(())
}

struct Empty(Arc<Seen>);

#[async_trait]
impl Handler<Record> for Empty {
    async fn handle(&self, record: &Record, _: Attempt<'_>) -> Outcome {
        match self.turn(record).await {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Stop(error),
        }
    }
}

impl Empty {
    async fn turn(&self, record: &Record) -> Result<()> {
        self.0.begins(record.key(), record.offset())?;
        work(self.0.order.work).await?;
        self.0.ends(record.key(), record.offset())?;
        Ok(())
    }
}

/// One after the other in the poll loop; a commit each second.
fn by_hand(brokers: &str, seen: &Seen) -> Result<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", unique("raw"))
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("partition.assignment.strategy", "cooperative-sticky");
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[&seen.order.topic])?;
    loop {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message?;
        seen.begins(message.key(), message.offset())?;
        if !seen.order.work.is_zero() {
            std::thread::sleep(seen.order.work);
        }
        consumer.store_offset_from_message(&message)?;
        if seen.ends(message.key(), message.offset())? {
            consumer.commit_consumer_state(CommitMode::Sync)?;
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_a_key_out_of_order_or_at_once_are_seen() {
        let order = Order::read("raw topic 10 1000 1 1000").unwrap();
        let seen = Seen::new(order);
        let (one, other) = ([0, 0, 0, 1], [0, 0, 0, 2]);
        let begins = |key: &[u8; 4], offset| seen.begins(Some(key), offset).unwrap();
        let ends = |key: &[u8; 4], offset| seen.ends(Some(key), offset).unwrap();
        let disorder = || seen.disorder.load(Ordering::SeqCst);
        begins(&one, 5);
        begins(&other, 3);
        ends(&one, 5);
        begins(&one, 6);
        assert_eq!(disorder(), 0);
        begins(&one, 7);
        assert_eq!(disorder(), 1, "two at once");
        ends(&one, 7);
        begins(&one, 6);
        assert_eq!(disorder(), 2, "an older one after a newer one");
    }
}
