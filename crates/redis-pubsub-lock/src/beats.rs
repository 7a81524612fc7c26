//! Signs of life of all waiters of this process, in one script a second: it keeps their places, tells who was granted without
//! having heard of it, and hands on a lock that is free. Messages make waiters fast; this makes them certain.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis_lua::{Client, Error, Inbox, Key, Name, Script};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use turnstile_core::Owner;

use crate::backend::{duration, millis, script};
use crate::resource::FairResource;

static BEAT: Script = script!("beat", "#!lua flags=allow-oom\n", "turn", "queue", "beat");

/// The most waiters in one call: some milliseconds of the server's time.
const BATCH: usize = 500;
/// The least between two calls for a lock that is about to end.
const LEAST: Duration = Duration::from_millis(50);

/// The waiters of one process, and those who watch.
#[derive(Debug)]
pub(crate) struct Beats(Arc<Inner>);

struct Inner {
    client: Client,
    inbox: Inbox,
    every: Duration,
    state: Mutex<State>,
    sooner: Notify,
}

#[derive(Default)]
struct State {
    names: HashMap<Name, Entry>,
    /// When to look next.
    next: Option<Instant>,
    task: Option<AbortHandle>,
}

struct Entry {
    resource: FairResource,
    waiters: HashMap<Owner, Place>,
    watchers: usize,
    /// When the lock ends unless it is renewed, where that is before the next sign of life.
    ends: Option<Instant>,
}

struct Place {
    since: Instant,
    ahead: u64,
}

/// What one call is about: waiters of one name.
struct Part {
    resource: FairResource,
    owners: Vec<Owner>,
}

impl Beats {
    pub(crate) fn new(client: Client, inbox: Inbox, every: Duration) -> Self {
        Self(Arc::new(Inner { client, inbox, every, state: Mutex::default(), sooner: Notify::new() }))
    }

    pub(crate) fn every(&self) -> Duration {
        self.0.every
    }

    /// `owner` stands in the queue, behind so many; the lock ends within `ends` unless it is renewed.
    pub(crate) fn enter(&self, resource: &FairResource, owner: Owner, ahead: u64, ends: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        let entry = state.entry(resource);
        entry.waiters.entry(owner).or_insert(Place { since: now, ahead }).ahead = ahead;
        entry.ends = ends.filter(|ends| *ends < self.0.every).map(|ends| now + ends);
        let due = entry.ends.map_or(now + self.0.every, |ends| ends + Duration::from_millis(1));
        self.due(&mut state, due);
    }

    /// `owner` waits no longer.
    pub(crate) fn leave(&self, resource: &FairResource, owner: Owner) {
        self.0.state.lock().change(resource, |entry| _ = entry.waiters.remove(&owner));
    }

    /// Somebody watches the lock: that it ends by itself is found too.
    pub(crate) fn watch(&self, resource: &FairResource) {
        let mut state = self.0.state.lock();
        state.entry(resource).watchers += 1;
        self.due(&mut state, Instant::now() + self.0.every);
    }

    pub(crate) fn unwatch(&self, resource: &FairResource) {
        self.0.state.lock().change(resource, |entry| entry.watchers -= 1);
    }

    /// How many stood before `owner` when that was last told.
    pub(crate) fn ahead(&self, resource: &FairResource, owner: Owner) -> Option<u64> {
        self.0.state.lock().names.get(resource.lock_name())?.waiters.get(&owner).map(|place| place.ahead)
    }

    /// Starts the task where there is none and it is wanted.
    pub(crate) fn start(&self) {
        let mut state = self.0.state.lock();
        if !state.names.is_empty() {
            self.start_if_none(&mut state);
        }
    }

    fn due(&self, state: &mut State, due: Instant) {
        if state.next.is_none_or(|next| due < next) {
            state.next = Some(due);
            self.0.sooner.notify_one();
        }
        self.start_if_none(state);
    }

    fn start_if_none(&self, state: &mut State) {
        if state.task.as_ref().is_none_or(AbortHandle::is_finished) {
            state.task = Some(tokio::spawn(run(self.0.clone())).abort_handle());
        }
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        if let Some(task) = self.0.state.lock().task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("every", &self.every).finish_non_exhaustive()
    }
}

impl State {
    fn entry(&mut self, resource: &FairResource) -> &mut Entry {
        self.names.entry(resource.lock_name().clone()).or_insert_with(|| Entry {
            resource: resource.clone(),
            waiters: HashMap::new(),
            watchers: 0,
            ends: None,
        })
    }

    fn change(&mut self, resource: &FairResource, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.names.get_mut(resource.lock_name()) {
            change(entry);
            if entry.waiters.is_empty() && entry.watchers == 0 {
                self.names.remove(resource.lock_name());
            }
        }
    }

    /// What to send now: waiters whose last word is some time ago, and locks that have ended.
    fn parts(&self, now: Instant, every: Duration) -> Vec<Part> {
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

async fn run(inner: Arc<Inner>) {
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
fn batches(parts: Vec<Part>, cluster: bool) -> Vec<Vec<Part>> {
    let mut slots: BTreeMap<u16, Vec<Part>> = BTreeMap::new();
    for part in parts {
        slots.entry(if cluster { part.resource.lock_name().slot() } else { 0 }).or_default().push(part);
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

async fn beat(inner: &Inner, parts: Vec<Part>) -> Result<(), Error> {
    let keys: Vec<Key<'_>> = parts.iter().flat_map(|part| part.resource.keys()).collect();
    let mut call = BEAT.keys_of_any_tag(keys).arg(millis(inner.every));
    for part in &parts {
        call = call.arg(part.resource.events()).arg(part.owners.len());
        for owner in &part.owners {
            call = call.arg(owner.to_hex().as_ref());
        }
    }
    let mut reply = call.run::<Vec<i64>>(&inner.client).await?.into_iter();
    let now = Instant::now();
    let mut state = inner.state.lock();
    for part in parts {
        let ends = reply.next().and_then(duration).filter(|ends| *ends < inner.every).map(|ends| now + ends.max(LEAST));
        if let (Some(ends), Some(next)) = (ends, state.next) {
            state.next = Some(next.min(ends + Duration::from_millis(1)));
        }
        let mut entry = state.names.get_mut(part.resource.lock_name());
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
