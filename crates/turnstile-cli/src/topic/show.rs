//! What there is of a topic.

use std::fmt::Write;
use std::time::Duration;

use kafka_partitions::{Cluster, HotKey, Layouts, Skew, Topic, TopicError};
use serde::Serialize;

use super::{ShowArgs, print};
use crate::exit::Failure;
use crate::lock::printable;

/// How long reading for `--skew` may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What `--json` prints. Fields may be added; `schema` rises when one changes its meaning.
#[derive(Serialize)]
struct Answer {
    schema: u32,
    #[serde(flatten)]
    topic: Topic,
    /// Where its records go, by epoch; empty for a topic that nobody changes in order, null where that may not be seen.
    layouts: Option<Layouts>,
    key: Option<KeyAnswer>,
    skew: Option<Skew>,
}

#[derive(Serialize)]
struct KeyAnswer {
    key: String,
    partitioner: String,
    topic: String,
    /// None where it may go to any.
    partition: Option<i32>,
}

pub async fn run(cluster: &Cluster, args: &ShowArgs, json: bool) -> Result<u8, Failure> {
    let topic = cluster.topic(&args.topic).await?;
    let layouts = match cluster.layouts(&args.topic).await {
        Err(TopicError::Denied { .. }) => None,
        layouts => Some(layouts?),
    };
    let key = args.key.as_ref().map(|key| {
        // Its writers go by the layout, if it has one.
        let (name, partitioner, count) = match layouts.as_ref().and_then(Layouts::current) {
            Some(layout) => (&layout.topic, layout.partitioner, layout.partitions),
            None => (&topic.name, args.partitioner, topic.count()),
        };
        KeyAnswer {
            key: key.clone(),
            partitioner: partitioner.to_string(),
            topic: name.clone(),
            partition: partitioner.partition(Some(key.as_bytes()), count),
        }
    });
    let skew = match args.skew {
        Some(sample) => Some(cluster.skew(&args.topic, sample, LIMIT).await?),
        None => None,
    };
    let answer = Answer { schema: 1, topic, layouts, key, skew };
    print(json, &answer, || words(&answer));
    Ok(0)
}

fn words(answer: &Answer) -> String {
    let topic = &answer.topic;
    let mut text = format!("{}: {} partitions", printable(&topic.name), topic.count());
    let (replicas, in_sync) =
        topic.partitions.iter().fold((0, 0), |(all, in_sync), one| (all + one.replicas.len(), in_sync + one.in_sync));
    let _ = writeln!(text, ", {in_sync} of {replicas} replicas up to date");
    for one in topic.partitions.iter().filter(|one| one.leader.is_none()) {
        let _ = writeln!(text, "partition {} has no leader: nobody can read or write it", one.partition);
    }
    let layouts = answer.layouts.as_ref();
    if layouts.is_none() {
        text.push_str("if it has layouts, they are hidden from this client: allow it READ on the topic of that name and .layouts\n");
    }
    if let Some(layout) = layouts.and_then(Layouts::current) {
        let _ = writeln!(
            text,
            "layout {}: {} partitions of {}, by {}; {} writers",
            layout.epoch,
            layout.partitions,
            printable(&layout.topic),
            layout.partitioner,
            layouts.map_or(0, |layouts| layouts.writers.len())
        );
    }
    if let Some(pending) = layouts.and_then(Layouts::pending) {
        let _ = writeln!(
            text,
            "a change is under way, to {} partitions of {}: ask for it again to bring it to its end, or withdraw it",
            pending.partitions,
            printable(&pending.topic)
        );
    }
    if let Some(KeyAnswer { key, partitioner, topic, partition }) = &answer.key {
        let to = partition.map_or_else(
            || "any partition".to_owned(),
            |partition| format!("partition {partition} of {}", printable(topic)),
        );
        let _ = writeln!(text, "\nthe key {:?} goes to {to} ({partitioner})", printable(key));
    }
    if let Some(skew) = &answer.skew {
        let _ = writeln!(
            text,
            "\n{} records read, {} bytes, {} without a key; the fullest partition has {:.2} times the mean\n",
            skew.records,
            skew.bytes,
            skew.without_key,
            skew.imbalance()
        );
        let _ = writeln!(text, "{:>9}   {:>12}   {:>10}   {:>12}", "partition", "kept", "read", "bytes");
        for share in &skew.partitions {
            let _ = writeln!(
                text,
                "{:>9}   {:>12}   {:>10}   {:>12}",
                share.partition, share.kept, share.records, share.bytes
            );
        }
        if !skew.keys.is_empty() {
            let _ = writeln!(text, "\n{:>10}   {:>7}   hottest keys", "records", "share");
        }
        for key in skew.keys.iter().take(10) {
            let share = 100.0 * key.records as f64 / skew.records.max(1) as f64;
            let error = if key.error > 0 { format!(" (up to {} less)", key.error) } else { String::new() };
            let _ = writeln!(text, "{:>10}   {share:>6.2}%   {}{error}", key.records, name(key));
        }
    }
    text
}

fn name(key: &HotKey) -> String {
    let text = printable(&String::from_utf8_lossy(&key.key));
    if key.length > key.key.len() { format!("{text}… ({} bytes)", key.length) } else { text }
}
