//! Signs of life of all waiters of a process, in one call at a time: a script keeps their places, tells who was granted
//! without having heard of it, and hands on what is free. Messages make waiters fast; this makes them certain.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use turnstile_core::Owner;

use crate::{Client, Error, Inbox, Key, Name, Script};

/// The most waiters in one call: some milliseconds of the server's time.
const BATCH: usize = 500;
/// The least between two calls for something that is about to end.
const LEAST: Duration = Duration::from_millis(50);

/// What is waited for: a name, with what the script has to know of it.
pub trait Awaited: Clone + Send + Sync + 'static {
    /// The name.
    fn name(&self) -> &Name;

    /// The keys that the script takes for it: as many for each.
    fn keys(&self) -> impl ExactSizeIterator<Item = Key<'_>>;

    /// An argument that the script takes for it.
    fn argument(&self) -> &str;
}

/// The waiters of one process, and those who watch: in one call for all of them, a script is told that they are alive.
///
/// The script's keys are those of each name, in order. Its arguments are the ms between signs of life; then for each name
/// its argument, how many owners, and the owners, each in 32 hexadecimal digits. Its reply is, for each name, the ms until
/// what is waited for ends unless it is renewed, or less than 0 where that is unknown; then for each owner how many stand
/// before it, or -1 if it has to ask: it was granted, or has no place any more.
///
/// Who has to ask is [told](Inbox::tell). It is so for all when no sign of life could be sent for three times.
#[derive(Debug)]
pub struct Heartbeats<R>(Arc<Inner<R>>);

struct Inner<R> {
    client: Client,
    inbox: Inbox,
    every: Duration,
    script: &'static Script,
    state: Mutex<State<R>>,
    sooner: Notify,
}

struct State<R> {
    names: HashMap<Name, Entry<R>>,
    /// When to look next.
    next: Option<Instant>,
    task: Option<AbortHandle>,
}

struct Entry<R> {
    resource: R,
    waiters: HashMap<Owner, Place>,
    watchers: usize,
    /// When it ends unless it is renewed, where that is before the next sign of life.
    ends: Option<Instant>,
}

struct Place {
    since: Instant,
    ahead: u64,
}

/// What one call is about: waiters of one name.
struct Part<R> {
    resource: R,
    owners: Vec<Owner>,
}

impl<R: Awaited> Heartbeats<R> {
    /// By `script`, each `every`; who is told hears it from `inbox`. It sends nothing yet.
    #[must_use]
    pub fn new(client: Client, inbox: Inbox, every: Duration, script: &'static Script) -> Self {
        let state = Mutex::new(State { names: HashMap::new(), next: None, task: None });
        Self(Arc::new(Inner { client, inbox, every, script, state, sooner: Notify::new() }))
    }

    /// How often.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.0.every
    }

    /// `owner` stands in the queue, behind so many; what it waits for ends within `ends` unless it is renewed.
    pub fn enter(&self, resource: &R, owner: Owner, ahead: u64, ends: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        let entry = state.entry(resource);
        entry.waiters.entry(owner).or_insert(Place { since: now, ahead }).ahead = ahead;
        entry.ends = ends.filter(|ends| *ends < self.0.every).map(|ends| now + ends);
        let due = entry.ends.map_or(now + self.0.every, |ends| ends + Duration::from_millis(1));
        self.due(&mut state, due);
    }

    /// `owner` waits no longer.
    pub fn leave(&self, resource: &R, owner: Owner) {
        self.0.state.lock().change(resource, |entry| _ = entry.waiters.remove(&owner));
    }

    /// Somebody watches: that it ends by itself is found too.
    pub fn watch(&self, resource: &R) {
        let mut state = self.0.state.lock();
        state.entry(resource).watchers += 1;
        self.due(&mut state, Instant::now() + self.0.every);
    }

    /// Somebody watches no longer.
    pub fn unwatch(&self, resource: &R) {
        self.0.state.lock().change(resource, |entry| entry.watchers -= 1);
    }

    /// How many stood before `owner` when that was last told.
    #[must_use]
    pub fn ahead(&self, resource: &R, owner: Owner) -> Option<u64> {
        self.0.state.lock().names.get(resource.name())?.waiters.get(&owner).map(|place| place.ahead)
    }

    /// Until `owner` is told something, for at most that long, its signs of life going on.
    ///
    /// # Cancelling
    /// Nothing is lost: what it was told stays for the next call, and its place until it [leaves](Self::leave).
    pub async fn wait(&self, owner: Owner, at_most: Duration) {
        let told = async {
            // The task may have ended with another runtime.
            self.start();
            while !self.0.inbox.told(owner, self.0.every).await {
                self.start();
            }
        };
        let _ = tokio::time::timeout(at_most, told).await;
    }

    /// Starts the task where there is none and it is wanted.
    pub fn start(&self) {
        let mut state = self.0.state.lock();
        if !state.names.is_empty() {
            self.start_if_none(&mut state);
        }
    }

    fn due(&self, state: &mut State<R>, due: Instant) {
        if state.next.is_none_or(|next| due < next) {
            state.next = Some(due);
            self.0.sooner.notify_one();
        }
        self.start_if_none(state);
    }

    fn start_if_none(&self, state: &mut State<R>) {
        if state.task.as_ref().is_none_or(AbortHandle::is_finished) {
            state.task = Some(tokio::spawn(run(self.0.clone())).abort_handle());
        }
    }
}

impl<R> Drop for Heartbeats<R> {
    fn drop(&mut self) {
        if let Some(task) = self.0.state.lock().task.take() {
            task.abort();
        }
    }
}

impl<R> fmt::Debug for Inner<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("every", &self.every).finish_non_exhaustive()
    }
}

impl<R: Awaited> State<R> {
    fn entry(&mut self, resource: &R) -> &mut Entry<R> {
        self.names.entry(resource.name().clone()).or_insert_with(|| Entry {
            resource: resource.clone(),
            waiters: HashMap::new(),
            watchers: 0,
            ends: None,
        })
    }

    fn change(&mut self, resource: &R, change: impl FnOnce(&mut Entry<R>)) {
        if let Some(entry) = self.names.get_mut(resource.name()) {
            change(entry);
            if entry.waiters.is_empty() && entry.watchers == 0 {
                self.names.remove(resource.name());
            }
        }
    }

    /// What to send now: waiters whose last word is some time ago, and what has ended.
    fn parts(&self, now: Instant, every: Duration) -> Vec<Part<R>> {
        let old = |place: &Place| now >= place.since + every / 2;
        let mut parts = Vec::new();
        for entry in self.names.values() {
            let owners: Vec<Owner> =
                entry.waiters.iter().filter(|(_, place)| old(place)).map(|(owner, _)| *owner).collect();
            let ended = entry.ends.is_some_and(|ends| ends <= now);
            if owners.is_empty() && (ended || entry.watchers > 0) {
                parts.push(Part { resource: entry.resource.clone(), owners: Vec::new() });
            }
            for owners in owners.chunks(BATCH) {
                parts.push(Part { resource: entry.resource.clone(), owners: owners.to_vec() });
            }
        }
        parts
    }
}

async fn run<R: Awaited>(inner: Arc<Inner<R>>) {
    let mut reached = Instant::now();
    loop {
        let next = {
            let mut state = inner.state.lock();
            if state.names.is_empty() {
                (state.next, state.task) = (None, None);
                return;
            }
            *state.next.get_or_insert_with(|| Instant::now() + inner.every)
        };
        tokio::select! {
            () = sleep_until(next) => {}
            () = inner.sooner.notified() => continue,
        }
        let now = Instant::now();
        let parts = {
            let mut state = inner.state.lock();
            state.next = Some(now + inner.every);
            state.parts(now, inner.every)
        };
        let sent =
            join_all(batches(parts, inner.client.is_cluster()).into_iter().map(|batch| beat(&inner, batch))).await;
        match sent.into_iter().find_map(Result::err) {
            None => reached = now,
            Some(error) => {
                tracing::debug!(%error, "no sign of life could be sent");
                // They ask, and learn for themselves what is wrong.
                if reached.elapsed() >= inner.every * 3 {
                    let state = inner.state.lock();
                    let owners = state.names.values().flat_map(|entry| entry.waiters.keys());
                    owners.for_each(|owner| inner.inbox.tell(*owner));
                }
            }
        }
    }
}

/// As few calls as it takes: of one slot each on a cluster, and none too long.
fn batches<R: Awaited>(parts: Vec<Part<R>>, cluster: bool) -> Vec<Vec<Part<R>>> {
    let mut slots: BTreeMap<u16, Vec<Part<R>>> = BTreeMap::new();
    for part in parts {
        slots.entry(if cluster { part.resource.name().slot() } else { 0 }).or_default().push(part);
    }
    let mut batches = Vec::new();
    for parts in slots.into_values() {
        let (mut batch, mut size) = (Vec::new(), 0);
        for part in parts {
            let more = part.owners.len() + 1;
            if size + more > BATCH + 1 && !batch.is_empty() {
                batches.push(std::mem::take(&mut batch));
                size = 0;
            }
            size += more;
            batch.push(part);
        }
        batches.push(batch);
    }
    batches
}

async fn beat<R: Awaited>(inner: &Inner<R>, parts: Vec<Part<R>>) -> Result<(), Error> {
    let keys: Vec<Key<'_>> = parts.iter().flat_map(|part| part.resource.keys()).collect();
    let mut call = inner.script.keys_of_any_tag(keys).arg(u64::try_from(inner.every.as_millis()).unwrap_or(u64::MAX));
    for part in &parts {
        call = call.arg(part.resource.argument()).arg(part.owners.len());
        for owner in &part.owners {
            call = call.arg(owner.to_hex().as_ref());
        }
    }
    let mut reply = call.run::<Vec<i64>>(&inner.client).await?.into_iter();
    let now = Instant::now();
    let mut state = inner.state.lock();
    for part in parts {
        let ends = reply
            .next()
            .and_then(|ends| u64::try_from(ends).ok())
            .map(Duration::from_millis)
            .filter(|ends| *ends < inner.every)
            .map(|ends| now + ends.max(LEAST));
        if let (Some(ends), Some(next)) = (ends, state.next) {
            state.next = Some(next.min(ends + Duration::from_millis(1)));
        }
        let mut entry = state.names.get_mut(part.resource.name());
        if let Some(entry) = &mut entry {
            entry.ends = ends;
        }
        for owner in part.owners {
            match (reply.next().unwrap_or(-1), &mut entry) {
                (ahead @ 0.., Some(entry)) => {
                    entry.waiters.get_mut(&owner).into_iter().for_each(|place| place.ahead = ahead.unsigned_abs());
                }
                _ => inner.inbox.tell(owner),
            }
        }
    }
    Ok(())
}
