//! Asks a Redis for locks, semaphores and queues: those that are named, or all that are found.

use futures_util::stream::{self, StreamExt};
use redis_lock::Client;
use redis_lua::redis::cmd;
use redis_streams::{DEFAULT_GROUP, Name, Queue};
use tokio::runtime::Runtime;

use super::model::{Held, Part, Source};
use super::names::{AT_A_TIME, Names};
use crate::exit::{self, Failure};
use crate::queue::Sizes;
use crate::server::Server;
use crate::who;

/// A Redis, and what is known of it from frame to frame.
pub struct Redis {
    server: Server,
    client: Option<Client>,
    runtime: Runtime,
    names: Names,
    /// How many keys to look at for names; none where names were given.
    scan: Option<u64>,
}

#[derive(Default)]
struct Found {
    locks: Vec<Held>,
    semaphores: Vec<Held>,
    queues: Vec<Sizes>,
}

impl Redis {
    pub fn new(
        server: Server,
        locks: Vec<String>,
        semaphores: Vec<String>,
        queues: Vec<String>,
        scan: u64,
    ) -> Result<Self, Failure> {
        let any = !(locks.is_empty() && semaphores.is_empty() && queues.is_empty());
        let mut names = Names::default();
        for (given, names) in
            [(locks, &mut names.locks), (semaphores, &mut names.semaphores), (queues, &mut names.queues)]
        {
            for name in given {
                Name::new(&name).map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
                names.insert(name);
            }
        }
        Ok(Self { server, client: None, runtime: crate::lock::runtime()?, names, scan: (!any).then_some(scan) })
    }

    /// Asks, within what the client allows each question.
    pub fn ask(&mut self) -> Part {
        let mut source = Source { address: self.server.address(), ..Source::default() };
        let Self { server, client, runtime, names, scan } = self;
        let found = runtime.block_on(async {
            let client = match client {
                Some(client) => client,
                none => none.insert(server.client().await?),
            };
            look(client, names, *scan, &mut source.notes).await
        });
        let Found { locks, semaphores, queues } = found.unwrap_or_else(|failure| {
            source.failed(&failure);
            Found::default()
        });
        Part::Redis { source, locks, semaphores, queues }
    }
}

async fn look(
    client: &Client,
    names: &mut Names,
    scan: Option<u64>,
    notes: &mut Vec<String>,
) -> Result<Found, Failure> {
    if let Some(keys) = scan {
        notes.extend(names.look(client, keys).await.map_err(redis_lock::BackendError::from)?);
    }
    let mut found = Found::default();

    let asked = names.locks.union(&names.semaphores).cloned().collect::<Vec<_>>();
    let mut answers = stream::iter(asked)
        .map(|name| async move {
            let answer = held(client, &name).await;
            (name, answer)
        })
        .buffered(AT_A_TIME);
    while let Some((name, answer)) = answers.next().await {
        let held = match answer {
            Ok(held) => held,
            Err(failure) if failure.code == exit::UNAVAILABLE || failure.code == exit::DENIED => return Err(failure),
            // Of what was found, it is another's.
            Err(_) if scan.is_some() => {
                names.locks.remove(&name);
                names.semaphores.remove(&name);
                continue;
            }
            Err(failure) => {
                notes.push(crate::lock::printable(&format!("{name}: {failure}")));
                continue;
            }
        };
        let who = &held.who;
        let is_semaphore = who.limit.is_some() || (scan.is_none() && names.semaphores.contains(&name));
        let is_ours =
            is_semaphore || who.holders.iter().any(|holder| !holder.owner.is_empty()) || !who.queue.is_empty();
        if scan.is_some() && !is_ours {
            names.locks.remove(&name);
            names.semaphores.remove(&name);
        } else if is_semaphore {
            found.semaphores.push(held);
        } else {
            found.locks.push(held);
        }
    }

    let asked: Vec<_> = names.queues.iter().cloned().collect();
    let mut answers = stream::iter(asked)
        .map(|name| async move {
            let answer = sizes(client, &name).await;
            (name, answer)
        })
        .buffered(AT_A_TIME);
    while let Some((name, answer)) = answers.next().await {
        match answer {
            Ok(sizes) => {
                let is_there = |sizes: &Sizes| sizes.bytes > 0 || sizes.delayed > 0 || sizes.dead > 0;
                if scan.is_some() && !sizes.iter().any(is_there) {
                    names.queues.remove(&name);
                } else {
                    found.queues.extend(sizes);
                }
            }
            Err(failure) if failure.code == exit::UNAVAILABLE || failure.code == exit::DENIED => return Err(failure),
            Err(_) if scan.is_some() => {
                names.queues.remove(&name);
            }
            Err(failure) => notes.push(crate::lock::printable(&format!("{name}: {failure}"))),
        }
    }
    Ok(found)
}

async fn held(client: &Client, name: &str) -> Result<Held, Failure> {
    let answer = who::ask(client.clone(), name).await?;
    let contended = answer.held && answer.limit.is_none() && answer.queue.is_empty() && {
        let name = Name::new(name).map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
        // The mark of who waits for a plain lock. A fair one has a hash there.
        let mark: Result<Option<String>, _> = client.run(cmd("GET").arg(name.key("waiting"))).await;
        mark.is_ok_and(|mark| mark.is_some())
    };
    Ok(Held::new(answer, contended))
}

/// Of each group of the queue.
async fn sizes(client: &Client, name: &str) -> Result<Vec<Sizes>, Failure> {
    let queue = Queue::new(client.clone(), name).map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
    let mut groups = queue.groups().await.map_err(redis_lock::BackendError::from)?;
    if groups.is_empty() {
        groups.push(DEFAULT_GROUP.to_owned());
    }
    let mut all = Vec::new();
    for group in groups {
        all.push(Sizes::new(name, &group, &queue.stats_of(&group).await?));
    }
    Ok(all)
}
