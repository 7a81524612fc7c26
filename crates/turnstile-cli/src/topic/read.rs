//! What is in a topic, as records.

use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime};

use kafka_partitions::{Cluster, TopicError};
use kafka_txn::{Isolation, ReadRecord, Reader};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use serde::Serialize;

use super::ReadArgs;
use crate::exit::{self, Failure};
use crate::lock::printable;

/// How long the brokers may be silent.
const LIMIT: Duration = Duration::from_secs(10);

/// What `--json` prints of a record. Fields may be added; `schema` rises when one changes its meaning.
#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    partition: i32,
    offset: i64,
    time: Option<String>,
    key: Option<Bytes<'a>>,
    /// None for a tombstone.
    value: Option<Bytes<'a>>,
    headers: Vec<Header<'a>>,
}

#[derive(Serialize)]
struct Header<'a> {
    name: &'a str,
    value: Option<Bytes<'a>>,
}

/// Text, or what is none in hexadecimal digits.
#[derive(Serialize)]
#[serde(untagged)]
enum Bytes<'a> {
    Text(&'a str),
    Other { hex: String },
}

impl<'a> From<&'a Vec<u8>> for Bytes<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        let hex = |_| Self::Other { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        str::from_utf8(bytes).map_or_else(hex, Self::Text)
    }
}

pub async fn run(cluster: &Cluster, config: ClientConfig, args: &ReadArgs, json: bool) -> Result<u8, Failure> {
    // It says better what is wrong than reading does.
    cluster.topic(&args.topic).await?;
    let (topic, newest, limit) = (args.topic.clone(), args.newest, args.limit.unwrap_or(usize::MAX));
    let isolation = if args.committed { Isolation::Committed } else { Isolation::Everything };
    let read = move || {
        let reader = match newest {
            Some(offsets) => Reader::newest(config, &topic, isolation, LIMIT, offsets),
            None => Reader::open(config, &topic, isolation, LIMIT),
        };
        let failed = |error| failure(&topic, error);
        let mut out = BufWriter::new(io::stdout());
        for record in reader.map_err(failed)?.take(limit) {
            // What was read until then is told, too.
            let record = record.map_err(failed)?;
            let line = if json { object(&record) } else { words(&record) };
            // A reader that went away (`| head -1`) is no failure.
            if writeln!(out, "{line}").is_err() {
                break;
            }
        }
        let _ = out.flush();
        Ok(0)
    };
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?
}

fn failure(topic: &str, source: KafkaError) -> Failure {
    let (what, source) = (format!("{topic} cannot be read"), Box::new(source));
    match source.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed) => TopicError::Denied { what, allow: "READ on the topic" },
        Some(Code::BrokerTransportFailure | Code::OperationTimedOut | Code::AllBrokersDown | Code::Resolve) => {
            TopicError::Unreachable { what, source }
        }
        _ => TopicError::Client { what, source },
    }
    .into()
}

fn time(record: &ReadRecord) -> Option<String> {
    let since = Duration::from_millis(record.timestamp?.try_into().ok()?);
    // Beyond the year 9999 it has no text.
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .filter(|_| since.as_secs() < 253_402_300_800)
        .map(|time| humantime::format_rfc3339_millis(time).to_string())
}

fn object(record: &ReadRecord) -> String {
    let ReadRecord { partition, offset, key, value, headers, .. } = record;
    let headers = headers.iter().map(|(name, value)| Header { name, value: value.as_ref().map(Bytes::from) }).collect();
    let (key, value) = (key.as_ref().map(Bytes::from), value.as_ref().map(Bytes::from));
    let answer = Answer { schema: 1, partition: *partition, offset: *offset, time: time(record), key, value, headers };
    serde_json::to_string(&answer).unwrap_or_default()
}

fn words(record: &ReadRecord) -> String {
    let text = |part: &Option<Vec<u8>>| match part {
        Some(bytes) => printable(&String::from_utf8_lossy(bytes)),
        None => "-".to_owned(),
    };
    let ReadRecord { partition, offset, key, value, headers, .. } = record;
    let time = time(record).unwrap_or_else(|| "-".to_owned());
    let mut line = format!("{partition}/{offset}  {time}  {}  {}", text(key), text(value));
    for (name, value) in headers {
        line += &format!("  {}={}", printable(name), text(value));
    }
    line
}
