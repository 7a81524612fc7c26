//! Asks a Kafka for its consumer groups: those that are named, or all that are listed.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use rdkafka::consumer::Consumer;

use super::model::{Group, Part, Source};
use crate::brokers::{Brokers, Client};
use crate::exit::Failure;
use crate::group::{Answer, Partition, ask};
use crate::lock::printable;

/// So many groups are shown: each takes a client of its own, with its connections.
const MOST: usize = 32;
/// So many offsets that block others are told of a group.
const BLOCKED: usize = 3;
/// The group in whose name groups are listed. Nobody joins it.
const LISTER: &str = "turnstile-top";

/// A Kafka, and what is known of it from frame to frame.
pub struct Kafka {
    brokers: Brokers,
    wanted: Vec<String>,
    lister: Option<Client>,
    clients: BTreeMap<String, Client>,
    blocks: Blocks,
}

impl Kafka {
    pub fn new(brokers: Brokers, wanted: Vec<String>) -> Self {
        Self { brokers, wanted, lister: None, clients: BTreeMap::new(), blocks: Blocks::default() }
    }

    /// Asks, for some ten seconds at the most if the brokers do not answer.
    pub fn ask(&mut self) -> Part {
        let mut source = Source { address: Some("?".to_owned()), ..Source::default() };
        let groups = self.groups(&mut source).unwrap_or_else(|failure| {
            source.failed(&failure);
            self.lister = None;
            self.clients.clear();
            Vec::new()
        });
        Part::Kafka { source, groups }
    }

    fn groups(&mut self, source: &mut Source) -> Result<Vec<Group>, Failure> {
        let lister = match &mut self.lister {
            Some(lister) => lister,
            none => none.insert(self.brokers.connect(LISTER)?.0),
        };
        source.address = Some(printable(&lister.addresses));
        let mut names = self.wanted.clone();
        if names.is_empty() {
            let what = "the groups cannot be listed by the brokers";
            let list = lister.ask(what, |consumer, limit| consumer.fetch_group_list(None, limit))?;
            names = list.groups().iter().map(|group| group.name().to_owned()).filter(|name| !name.is_empty()).collect();
        }
        names.sort();
        names.dedup();
        if names.len() > MOST {
            source.notes.push(format!("the first {MOST} of {} groups: give those that matter by --group", names.len()));
            names.truncate(MOST);
        }
        self.clients.retain(|name, _| names.contains(name));
        let metadata = lister.metadata()?;
        let mut groups = Vec::new();
        let mut failed = None;
        for name in names {
            let answer = match self.clients.get(&name) {
                Some(client) => ask::of(client, &metadata, &name),
                None => self.brokers.connect(&name).and_then(|(client, metadata)| {
                    let answer = ask::of(&client, &metadata, &name);
                    self.clients.insert(name.clone(), client);
                    answer
                }),
            };
            match answer {
                // Listed, and gone when it was asked for.
                Ok(answer) if !answer.exists && self.wanted.is_empty() => {}
                Ok(answer) => groups.push(Group { verdicts: self.blocks.judge(&answer, Instant::now()), answer }),
                Err(failure) => {
                    self.clients.remove(&name);
                    source.notes.push(printable(&format!("{name}: {failure}")));
                    failed = Some(failure);
                }
            }
        }
        match failed {
            Some(failure) if groups.is_empty() => Err(failure),
            _ => Ok(groups),
        }
    }
}

/// Since when each partition's committed offset has stood where it stands, with others done beyond it.
#[derive(Default)]
struct Blocks(HashMap<(String, String), (i64, Instant)>);

impl Blocks {
    /// What somebody should look at first.
    fn judge(&mut self, answer: &Answer, now: Instant) -> Vec<String> {
        let mut verdicts = Vec::new();
        if !answer.exists {
            return vec!["there is no such group".to_owned()];
        }
        let members = answer.members.as_deref();
        if members.is_some_and(<[_]>::is_empty) && answer.lag > 0 {
            verdicts.push(format!("no consumer: {} wait", answer.lag));
        }
        if answer.state.as_deref().is_some_and(|state| state.ends_with("Rebalance")) {
            verdicts.push("it rebalances".to_owned());
        }
        let orphans = answer.partitions.iter().filter(|one| one.member.is_none() && one.lag != Some(0)).count();
        if members.is_some_and(|members| !members.is_empty()) && orphans > 0 {
            verdicts.push(format!("{orphans} of its partitions have no member"));
        }
        let mut blocked: Vec<_> = answer.partitions.iter().filter_map(|one| self.blocked(answer, one, now)).collect();
        blocked.sort_by_key(|(done, _)| std::cmp::Reverse(*done));
        verdicts.extend(blocked.into_iter().take(BLOCKED).map(|(_, text)| text));
        let notes = answer.partitions.iter().filter_map(|one| Some(format!("{}: {}", one.name(), one.note.as_ref()?)));
        verdicts.extend(notes.chain(answer.notes.iter().cloned()));
        verdicts
    }

    fn blocked(&mut self, answer: &Answer, one: &Partition, now: Instant) -> Option<(u64, String)> {
        let key = (answer.group.clone(), one.name());
        let (Some(committed), Some(done @ 1..)) = (one.committed, one.done_beyond) else {
            self.0.remove(&key);
            return None;
        };
        let since = self.0.entry(key).and_modify(|known| {
            if known.0 != committed {
                *known = (committed, now)
            }
        });
        let age = now.saturating_duration_since(since.or_insert((committed, now)).1).as_secs();
        let age = if age > 0 { format!(", for {age}s") } else { String::new() };
        Some((done, format!("{}: offset {committed} blocks {done}{age}", one.name())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_offset_that_blocks_others_is_told_with_the_time_that_it_has_stood() {
        let partition = |committed| Partition {
            topic: "t".to_owned(),
            partition: 0,
            member: None,
            committed: Some(committed),
            end: Some(9000),
            lag: Some(9000 - committed),
            done_beyond: Some(4301),
            note: None,
        };
        let answer = |committed| Answer {
            group: "g".to_owned(),
            exists: true,
            members: Some(Vec::new()),
            partitions: vec![partition(committed)],
            lag: 9000 - committed,
            ..Answer::default()
        };
        let (mut blocks, start) = (Blocks::default(), Instant::now());
        let mut at = |committed, seconds| blocks.judge(&answer(committed), start + Duration::from_secs(seconds));
        assert_eq!(at(812, 0), ["no consumer: 8188 wait", "t/0: offset 812 blocks 4301"]);
        assert_eq!(at(812, 42)[1], "t/0: offset 812 blocks 4301, for 42s");
        assert_eq!(at(900, 50)[1], "t/0: offset 900 blocks 4301");
    }
}
