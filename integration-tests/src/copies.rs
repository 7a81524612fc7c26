//! One topic copied to another through f, by processes that are killed and stopped; and whether what is there afterwards is
//! f of the input, each once and in order.
//!
//! A copier is told what to do in JSON: `copier ROLE`. It says on standard output what happens to it, and ends in an orderly
//! way when it reads `end`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use kafka_txn::{Isolation, Reader};
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};
use turnstile_testkit::child::Child;
use turnstile_testkit::kafka::Kafka;

use crate::{kafka::Protocol, name, until};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one copier does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyRole {
    /// The brokers.
    pub brokers: String,
    /// The group.
    pub group: String,
    /// What it reads.
    pub from: String,
    /// Where f of it goes.
    pub to: String,
    /// The topic for dead letters.
    pub dead_letters: String,
    /// Which copier it is.
    pub kind: CopyKind,
    /// Which protocol it speaks.
    pub protocol: Protocol,
    /// How long a record takes.
    pub work: Duration,
    /// How often it commits.
    pub every: Duration,
    /// How many records a transaction has at most.
    pub records: usize,
    /// When its session ends without heartbeats.
    pub session: Duration,
    /// What becomes of it at which step, and at which time that it comes there.
    pub fate: Option<(Fate, At, u32)>,
    /// Its static membership.
    pub instance: Option<String>,
    /// Further options of librdkafka.
    pub options: Vec<(String, String)>,
}

/// What becomes of a copier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is killed.
    Kill,
    /// It is stopped until somebody lets it go on.
    Stop,
    /// It says `waits` and waits until it reads `go`.
    Wait,
}

/// The steps of a transaction; those of kafka-txn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum At {
    /// Before it is begun.
    Begin,
    /// Before it is produced.
    Produce,
    /// Before the offsets are sent.
    SendOffsets,
    /// Before it is committed.
    Commit,
    /// Before that is noted.
    Committed,
}

impl At {
    /// All steps.
    pub const ALL: [Self; 5] = [Self::Begin, Self::Produce, Self::SendOffsets, Self::Commit, Self::Committed];
}

/// Which copier it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyKind {
    /// kafka-txn's, in partition order.
    Ours,
    /// kafka-txn's, in parallel by key.
    Parallel,
    /// The same in parallel without any order.
    Unordered,
    /// One made by hand whose outputs are produced without a transaction, and then the offsets committed.
    Plain,
    /// One made by hand with a transaction for the outputs, and the offsets committed after it.
    Apart,
    /// One made by hand that takes a commit without an answer for none, and does the batch again.
    PresumesAborted,
    /// The same, but it takes it for done, and goes on.
    PresumesCommitted,
}

/// f: what becomes of a record with this number.
#[must_use]
pub fn f(number: u64) -> Vec<String> {
    let copies = if number.is_multiple_of(7) { 0 } else { 1 + usize::from(number.is_multiple_of(5)) };
    (0..copies).map(|copy| format!("{number} {copy}")).collect()
}

/// An input, an output and those who copy.
pub struct Copies {
    kafka: Kafka,
    program: &'static str,
    /// What every copier does unless told otherwise.
    pub role: CopyRole,
    produced: u64,
    keys: u64,
}

impl Copies {
    /// Topics of so many partitions. `program` is the copier's, `env!("CARGO_BIN_EXE_copier")`.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub async fn new(program: &'static str, kafka: &Kafka, partitions: i32) -> Result<Self> {
        let from = name("orders");
        let (to, dead_letters) = (format!("{from}-copied"), format!("{from}-dead"));
        kafka.topic(&from, partitions).await?;
        kafka.topic(&to, partitions).await?;
        kafka.topic(&dead_letters, 1).await?;
        let role = CopyRole {
            brokers: kafka.brokers(),
            group: name("copiers"),
            from,
            to,
            dead_letters,
            kind: CopyKind::Ours,
            protocol: Protocol::Cooperative,
            work: Duration::ZERO,
            every: Duration::from_millis(20),
            records: 50,
            session: Duration::from_secs(3),
            fate: None,
            instance: None,
            options: Vec::new(),
        };
        Ok(Self { kafka: kafka.clone(), program, role, produced: 0, keys: 20 })
    }

    /// Produces so many more records, numbered on, by keys in turn.
    ///
    /// # Errors
    /// When one is not acknowledged.
    pub async fn produce(&mut self, count: u64) -> Result<()> {
        let numbers = self.produced..self.produced + count;
        let keys = self.keys;
        let records = numbers.map(|number| (format!("k{}", number % keys), number.to_string()));
        self.kafka.produce(&self.role.from, None, records).await?;
        self.produced += count;
        Ok(())
    }

    /// Starts a copier by the role as `change` has it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn copier(&self, change: impl FnOnce(&mut CopyRole)) -> Result<Child> {
        let mut role = self.role.clone();
        change(&mut role);
        let mut command = Command::new(self.program);
        command.arg(serde_json::to_string(&role)?);
        Child::spawn(command)
    }

    /// Waits until the group has committed all of the input.
    ///
    /// # Panics
    /// When it does not.
    pub async fn until_all_committed(&self) {
        let all = async {
            while !self.all_committed().await.unwrap_or_default() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // A broker that comes back takes its time, and so do sessions.
        assert!(tokio::time::timeout(PATIENCE, all).await.is_ok(), "never: all is committed");
    }

    async fn all_committed(&self) -> Result<bool> {
        let ends = self.kafka.end_offsets(&self.role.from).await?;
        let committed = self.kafka.committed(&self.role.group, &self.role.from).await?;
        Ok(ends.iter().zip(committed).all(|(end, committed)| committed.offset.unwrap_or_default() == *end))
    }

    /// Waits until no transaction that has offsets of the group's is open. Brokers do not tell the offsets before that.
    pub async fn until_decided(&self) {
        until("the transaction is at its end", async || {
            self.kafka.committed(&self.role.group, &self.role.from).await.is_ok()
        })
        .await;
    }

    /// Waits until so many outputs are there, as those see it who read what is committed.
    pub async fn until_copied(&self, count: usize) {
        until("something is copied", async || {
            self.read(Isolation::Committed).await.is_ok_and(|copied| copied.len() >= count)
        })
        .await;
    }

    /// What is in the output: key and value, by partition in order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&self, isolation: Isolation) -> Result<Vec<(i32, String, String)>> {
        read(&self.kafka.brokers(), &self.role.to, isolation).await
    }

    /// Compares what is committed with f of what was produced.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn verdict(&self) -> Result<Copied> {
        let mut copied = Copied::default();
        let mut left = HashMap::new();
        for number in 0..self.produced {
            for value in f(number) {
                left.insert(value, format!("k{}", number % self.keys));
            }
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut last: HashMap<String, u64> = HashMap::new();
        for (_, key, value) in self.read(Isolation::Committed).await? {
            let number: u64 = value.split(' ').next().unwrap_or_default().parse().context("no number")?;
            let times = seen.entry(value.clone()).or_default();
            *times += 1;
            if *times > 1 {
                copied.twice.push(value);
                continue;
            }
            if left.remove(&value).as_ref() != Some(&key) {
                copied.foreign.push(value);
            }
            if last.insert(key, number).is_some_and(|before| before > number) {
                copied.out_of_order.push(number);
            }
        }
        copied.missing = left.into_keys().collect();
        copied.right = seen.len();
        Ok(copied)
    }
}

/// What is in a topic: key and value, by partition in order.
///
/// # Errors
/// When it cannot be read.
pub async fn read(brokers: &str, topic: &str, isolation: Isolation) -> Result<Vec<(i32, String, String)>> {
    let mut connection = ClientConfig::new();
    connection.set("bootstrap.servers", brokers).set("fetch.wait.max.ms", "50");
    let topic = topic.to_owned();
    let records = tokio::task::spawn_blocking(move || {
        Reader::open(connection, &topic, isolation, Duration::from_secs(30))?.collect::<Result<Vec<_>, _>>()
    });
    let text = |part: Option<Vec<u8>>| String::from_utf8_lossy(&part.unwrap_or_default()).into_owned();
    Ok(records.await??.into_iter().map(|one| (one.partition, text(one.key), text(one.value))).collect())
}

/// How the output differs from f of the input.
#[derive(Debug, Default)]
pub struct Copied {
    /// How many outputs are there, each counted once.
    pub right: usize,
    /// Not there.
    pub missing: Vec<String>,
    /// There again.
    pub twice: Vec<String>,
    /// Not f of anything.
    pub foreign: Vec<String>,
    /// Behind one of the same key that came later.
    pub out_of_order: Vec<u64>,
}

impl Copied {
    /// Whether it does not.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.twice.is_empty() && self.foreign.is_empty() && self.out_of_order.is_empty()
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, missing, twice, foreign, out_of_order } = self;
        let few = |of: &[String]| of.iter().take(10).cloned().collect::<Vec<_>>();
        write!(
            f,
            "{right} outputs; missing {} {:?}, twice {} {:?}, foreign {}, out of order {} {:?}",
            missing.len(),
            few(missing),
            twice.len(),
            few(twice),
            foreign.len(),
            out_of_order.len(),
            out_of_order.iter().take(10).collect::<Vec<_>>()
        )
    }
}
