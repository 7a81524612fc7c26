//! What the brokers know of a group.

use std::collections::{BTreeMap, BTreeSet};

use kafka_offsets::metadata;
use rdkafka::consumer::Consumer;
use rdkafka::groups::{GroupInfo, GroupMemberInfo};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::{Answer, Member, Partition, protocol};
use crate::brokers::Client;
use crate::exit::Failure;
use crate::lock::printable;

/// What brokers call a group of which they do not know anything.
const UNKNOWN: [&str; 2] = ["", "Dead"];

/// Asks.
pub fn of(client: &Client, metadata: &Metadata, group: &str) -> Result<Answer, Failure> {
    let mut answer = Answer { schema: 1, group: group.to_owned(), ..Answer::default() };
    let what = "the groups cannot be listed by the brokers";
    let list = client.ask(what, |consumer, limit| consumer.fetch_group_list(Some(group), limit))?;
    let listed = list.groups().iter().find(|listed| listed.name() == group);
    let mut topics = BTreeSet::new();
    match listed {
        Some(info) if !UNKNOWN.contains(&info.state()) => {
            answer.state = Some(printable(info.state()));
            answer.assignor = Some(printable(info.protocol())).filter(|name| !name.is_empty());
            answer.members = Some(members(info, &mut topics, &mut answer.notes));
        }
        Some(_) => answer.notes.push(
            "its members cannot be told: the brokers list the group and do not describe it to this client, as with groups \
             of the new protocol (KIP-848, group.protocol=consumer)"
                .to_owned(),
        ),
        None => answer.members = Some(Vec::new()),
    }

    let mut owners = BTreeMap::new();
    for member in answer.members.iter().flatten() {
        for partition in &member.partitions {
            owners.insert(partition.clone(), member.id.clone());
        }
    }
    let mut all = TopicPartitionList::new();
    for topic in metadata.topics() {
        for partition in topic.partitions() {
            all.add_partition(topic.name(), partition.id());
        }
    }
    let known: BTreeSet<_> = metadata.topics().iter().map(|topic| topic.name()).collect();
    for topic in topics.iter().filter(|topic| !known.contains(topic.as_str())) {
        answer.notes.push(format!("its topic {} does not exist, or is hidden from this client", printable(topic)));
    }
    if all.count() > 0 {
        answer.partitions = partitions(client, all, &topics, &owners)?;
    }
    answer.exists = listed.is_some() || !answer.partitions.is_empty();
    if !answer.exists {
        answer.members = None;
        answer.partitions.clear();
    }
    answer.lag = answer.partitions.iter().filter_map(|partition| partition.lag).sum();
    answer.done_beyond = answer.partitions.iter().filter_map(|partition| partition.done_beyond).sum();
    Ok(answer)
}

fn members(info: &GroupInfo, topics: &mut BTreeSet<String>, notes: &mut Vec<String>) -> Vec<Member> {
    let mut unreadable = 0;
    let mut member = |member: &GroupMemberInfo| {
        topics.extend(member.metadata().and_then(protocol::topics).unwrap_or_default());
        let partitions = protocol::partitions(member.assignment().unwrap_or_default()).unwrap_or_else(|| {
            unreadable += 1;
            Vec::new()
        });
        topics.extend(partitions.iter().map(|(topic, _)| topic.clone()));
        Member {
            id: printable(member.id()),
            client_id: printable(member.client_id()),
            host: printable(member.client_host().trim_start_matches('/')),
            instance_id: protocol::instance(member.id(), member.client_id()).map(printable),
            idle: partitions.is_empty(),
            partitions: partitions.iter().map(|(topic, number)| format!("{}/{number}", printable(topic))).collect(),
        }
    };
    let mut members: Vec<_> = info.members().iter().map(&mut member).collect();
    members.sort_by(|a, b| (a.idle, &a.partitions, &a.id).cmp(&(b.idle, &b.partitions, &b.id)));
    if unreadable > 0 {
        notes.push(format!(
            "the assignments of {unreadable} members are not those of Kafka consumers: {:?} is another kind of group",
            info.protocol_type()
        ));
    }
    members
}

/// Those of the topics that the group uses: where it has committed, or that its members want.
fn partitions(
    client: &Client,
    all: TopicPartitionList,
    wanted: &BTreeSet<String>,
    owners: &BTreeMap<String, String>,
) -> Result<Vec<Partition>, Failure> {
    let what = "the group's offsets cannot be read from the brokers";
    let committed = client.ask(what, |consumer, limit| consumer.committed_offsets(all.clone(), limit))?;
    let offset = |one: &TopicPartitionListElem<'_>| match one.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    let elements = committed.elements();
    let has_commit = elements.iter().filter(|one| offset(one).is_some());
    let used: BTreeSet<_> = has_commit.map(|one| one.topic()).chain(wanted.iter().map(String::as_str)).collect();

    let mut ends = TopicPartitionList::new();
    for one in elements.iter().filter(|one| used.contains(one.topic())) {
        // As a time, it means the end.
        let added = ends.add_partition_offset(one.topic(), one.partition(), Offset::End);
        added.map_err(|error| client.failure(what, &error))?;
    }
    if ends.count() == 0 {
        return Ok(Vec::new());
    }
    let what = "the ends of the partitions cannot be read from the brokers";
    let ends = client.ask(what, |consumer, limit| consumer.offsets_for_times(ends.clone(), limit))?;

    let mut partitions = Vec::new();
    for one in elements.iter().filter(|one| used.contains(one.topic())) {
        let mut partition = Partition {
            topic: printable(one.topic()),
            partition: one.partition(),
            member: None,
            committed: offset(one),
            end: None,
            lag: None,
            done_beyond: None,
            note: None,
        };
        partition.member = owners.get(&partition.name()).cloned();
        match ends.find_partition(one.topic(), one.partition()).map(|end| end.error().map(|()| offset(&end))) {
            Some(Ok(end)) => partition.end = end,
            Some(Err(error)) => partition.note = Some(format!("its end cannot be read: {error}")),
            None => {}
        }
        if let (Some(committed), Some(end)) = (partition.committed, partition.end) {
            partition.lag = Some((end - committed).max(0));
            if committed > end {
                partition.note = Some("what is committed lies beyond the end: the topic was made anew or cut".into());
            }
        }
        if let Err(error) = one.error() {
            partition.note = Some(format!("what is committed cannot be read: {error}"));
        }
        if let Some(committed) = partition.committed {
            match metadata::decode(committed, one.metadata()) {
                Ok(mut done) => {
                    done.truncate(partition.end.unwrap_or(i64::MAX));
                    partition.done_beyond = Some(done.len());
                }
                Err(why) => partition.note = Some(why.to_string()),
            }
        }
        partitions.push(partition);
    }
    partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(partitions)
}
