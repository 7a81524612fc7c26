//! Who may hold what beside whom: one name, shared names, several names at once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis_lock::{Lease, Lock, LostReason, RedisLock, ReleaseOutcome};
use support::{SAFETY_NET, client, long, name, process, run, ttl, until, until_wanted};
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnstile_core::Backoff;

async fn try_it(lock: &RedisLock) -> Option<Lease> {
    lock.try_acquire().await.unwrap()
}

/// Notes who is inside, by name, and whether two ever are.
#[derive(Default)]
struct Inside {
    count: HashMap<String, AtomicU32>,
    overlap: AtomicBool,
    tokens: Mutex<Vec<u64>>,
}

impl Inside {
    fn of(names: &[String]) -> Arc<Self> {
        Arc::new(Self {
            count: names.iter().map(|name| (name.clone(), AtomicU32::new(0))).collect(),
            ..Self::default()
        })
    }

    async fn visit(&self, names: &[String], lease: &Lease) {
        self.tokens.lock().unwrap().push(lease.fencing_token().get());
        for name in names {
            let others = self.count[name].fetch_add(1, Ordering::SeqCst);
            self.overlap.fetch_or(others > 0, Ordering::SeqCst);
        }
        tokio::task::yield_now().await;
        for name in names {
            self.count[name].fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_two_processes_never_hold_a_mutex_at_once_and_their_tokens_rise() {
    let names = [name("mutex")];
    let inside = Inside::of(&names);
    let mut tasks = JoinSet::new();
    for locks in [process().await, process().await] {
        for _ in 0..4 {
            let (lock, inside, names) =
                (locks.lock(&names[0]).unwrap().with_options(long()), inside.clone(), names.clone());
            tasks.spawn(async move {
                for _ in 0..25 {
                    let lease = lock.acquire().await.unwrap();
                    inside.visit(&names, &lease).await;
                    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
                }
            });
        }
    }
    timeout(SAFETY_NET, tasks.join_all()).await.unwrap();
    assert!(!inside.overlap.load(Ordering::SeqCst));
    let tokens = inside.tokens.lock().unwrap();
    assert_eq!(tokens.len(), 200);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[tokio::test]
async fn only_its_holder_releases_a_mutex() {
    let (ours, theirs, client, name) = (process().await, process().await, client().await, name("compare"));
    let lease = ours.lock(&name).unwrap().acquire().await.unwrap();
    run::<()>(&client, &format!("DEL {{{name}}}")).await;
    let other = theirs.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::TakenOver);
    other.check().unwrap();
    assert_eq!(theirs.who(&name).await.unwrap().len(), 1, "still there");
    assert_eq!(other.release().await.unwrap(), ReleaseOutcome::Released);
}

#[tokio::test]
async fn readers_share_and_exclude_writers_who_exclude_them() {
    let (one, two, name) = (process().await, process().await, name("rw"));
    let (read, write) = (one.read(&name).unwrap().with_options(long()), two.lock(&name).unwrap().with_options(long()));
    let readers =
        [try_it(&read).await.unwrap(), try_it(&read).await.unwrap(), try_it(&two.read(&name).unwrap()).await.unwrap()];
    assert_ne!(readers[0].owner(), readers[1].owner(), "each has a lease of its own");
    assert!(try_it(&write).await.is_none());
    assert!(try_it(&one.lock(&name).unwrap()).await.is_none());
    for reader in readers {
        assert!(try_it(&write).await.is_none());
        reader.release().await.unwrap();
    }
    let writer = try_it(&write).await.unwrap();
    assert!(try_it(&read).await.is_none());
    writer.release().await.unwrap();
    try_it(&read).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_waiting_writer_is_let_in_before_new_readers() {
    let (one, two, client, name) = (process().await, process().await, client().await, name("writer first"));
    let read = one.read(&name).unwrap().with_options(long());
    let patient = long().retry(Backoff::new(Duration::from_millis(300), Duration::from_millis(300)));
    let write = two.lock(&name).unwrap().with_options(patient);
    let reader = try_it(&read).await.unwrap();

    // Control: a writer that does not wait keeps no reader out.
    assert!(try_it(&write).await.is_none());
    try_it(&read).await.unwrap().release().await.unwrap();

    let waiting = tokio::spawn(async move { write.acquire().await.unwrap() });
    until_wanted_by_a_writer(&client, &name).await;
    assert!(try_it(&read).await.is_none(), "a new reader waits behind it");
    reader.check().unwrap();
    reader.release().await.unwrap();
    let writer = timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
    writer.release().await.unwrap();
    try_it(&read).await.expect("the mark of the writer went with it").release().await.unwrap();
}

async fn until_wanted_by_a_writer(client: &redis_lock::Client, name: &str) {
    let mark = redis_lua::redis::cmd("GET").arg(format!("{{{name}}}:waiting")).to_owned();
    until("a writer waits", async || {
        client.run::<Option<String>>(&mark).await.unwrap().is_some_and(|who| who != "reader")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_readers_does_not_starve_a_writer() {
    let (name, done) = (name("stream"), Arc::new(AtomicBool::new(false)));
    let mut readers = JoinSet::new();
    for _ in 0..3 {
        let (read, done) = (process().await.read(&name).unwrap().with_options(long()), done.clone());
        // Each takes its next share before it gives back the one before, as long as it may.
        readers.spawn(async move {
            let mut held = None;
            while !done.load(Ordering::SeqCst) {
                let next = read.acquire_timeout(Duration::from_millis(20)).await.ok();
                held = next;
            }
            drop(held);
        });
    }
    let write = process().await.lock(&name).unwrap().with_options(long());
    for _ in 0..5 {
        timeout(SAFETY_NET, write.acquire()).await.expect("the writer starves").unwrap().release().await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    readers.join_all().await;
}

#[tokio::test]
async fn a_reader_that_crashed_ends_alone() {
    let (crashing, other, writer, name) = (process().await, process().await, process().await, name("crash"));
    let crashed = try_it(&crashing.read(&name).unwrap().with_options(ttl(400).auto_renew(false))).await.unwrap();
    let reader = try_it(&other.read(&name).unwrap().with_options(long())).await.unwrap();
    assert_eq!(other.who(&name).await.unwrap().len(), 2);
    let lost = crashed.lost();
    std::mem::forget(crashed);

    assert_eq!(lost.await, LostReason::Expired);
    until("the server ended it too", async || other.who(&name).await.unwrap().len() == 1).await;
    assert_eq!(other.who(&name).await.unwrap()[0].owner, reader.owner().to_string());
    let write = writer.lock(&name).unwrap();
    assert!(try_it(&write).await.is_none(), "the other reads on");
    reader.release().await.unwrap();
    assert!(try_it(&write).await.is_some());
}

#[tokio::test]
async fn several_names_are_granted_all_or_none() {
    let (one, two) = (process().await, process().await);
    let [a, b, c] = ["a", "b", "c"].map(name);
    let in_the_way = try_it(&one.lock(&b).unwrap()).await.unwrap();
    let all = two.all([&a, &b, &c]).unwrap().with_options(long());
    assert!(try_it(&all).await.is_none());
    for free in [&a, &c] {
        assert!(two.who(free).await.unwrap().is_empty());
        assert!(try_it(&one.lock(free).unwrap()).await.is_some());
    }
    in_the_way.release().await.unwrap();
    one.manager().shutdown().await;

    let lease = try_it(&all).await.unwrap();
    assert_eq!(lease.name().split(", ").count(), 3);
    let three = process().await;
    for name in [&a, &b, &c] {
        assert!(try_it(&three.lock(name).unwrap()).await.is_none(), "it excludes the mutex of each");
        assert!(try_it(&three.read(name).unwrap()).await.is_none(), "and the readers");
        assert!(try_it(&three.all([name]).unwrap()).await.is_none());
        assert_eq!(three.who(name).await.unwrap()[0].token, lease.fencing_token());
    }
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    for name in [&a, &b, &c] {
        let reader = try_it(&three.read(name).unwrap()).await.unwrap();
        assert!(try_it(&all).await.is_none(), "a reader of any keeps it out");
        reader.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_name_given_twice_is_one_and_no_name_is_an_error() {
    let (locks, name) = (process().await, name("twice"));
    let lease = try_it(&locks.all([&name, &name]).unwrap()).await.unwrap();
    assert_eq!(lease.name(), name);
    let none = locks.all::<&str>([]).map(drop).unwrap_err();
    assert_eq!(none, redis_lock::LockError::NoName);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_sets_in_any_order_neither_meet_nor_block_each_other_for_good() {
    let names = ["x", "y", "z"].map(name);
    let inside = Inside::of(&names);
    let mut tasks = JoinSet::new();
    for set in [[0, 1], [1, 0], [1, 2], [2, 0]] {
        let names = set.map(|at| names[at].clone());
        let (lock, inside) = (process().await.all(&names).unwrap().with_options(long()), inside.clone());
        tasks.spawn(async move {
            for _ in 0..15 {
                let lease = lock.acquire().await.unwrap();
                inside.visit(&names, &lease).await;
                lease.release().await.unwrap();
            }
        });
    }
    timeout(SAFETY_NET, tasks.join_all()).await.expect("blocked each other");
    assert!(!inside.overlap.load(Ordering::SeqCst));
}

#[tokio::test]
async fn the_tokens_of_a_name_rise_whatever_the_kind_of_its_grants() {
    let (locks, other) = (process().await, process().await);
    let [a, b] = ["a", "b"].map(name);
    let mut newest = HashMap::from([(&a, 0), (&b, 0)]);
    for round in 0..4 {
        let locks = if round % 2 == 0 { &locks } else { &other };
        let grants: [(RedisLock, &[&String]); 6] = [
            (locks.lock(&a).unwrap(), &[&a]),
            (locks.all([&a, &b]).unwrap(), &[&a, &b]),
            (locks.read(&b).unwrap(), &[&b]),
            (locks.lock(&b).unwrap(), &[&b]),
            (locks.read(&a).unwrap(), &[&a]),
            (locks.all([&b, &a]).unwrap(), &[&a, &b]),
        ];
        for (lock, names) in grants {
            let lease = try_it(&lock).await.unwrap();
            let token = lease.fencing_token().get();
            for name in names {
                assert!(newest.insert(name, token).unwrap() < token, "{newest:?}");
            }
            lease.release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_lease_is_renewed_until_it_is_released_unless_that_is_off() {
    let (locks, client, name) = (process().await, client().await, name("renewed"));
    let short = locks.lock(&name).unwrap().with_options(ttl(300).auto_renew(false)).acquire().await.unwrap();
    assert_eq!(short.lost().await, LostReason::Expired);
    until("it ends on the server", async || !run::<bool>(&client, &format!("EXISTS {{{name}}}")).await).await;
    assert_eq!(short.release().await.unwrap(), ReleaseOutcome::AlreadyExpired);

    let lease = locks.lock(&name).unwrap().with_options(ttl(3_000)).acquire().await.unwrap();
    let (mut rises, mut before) = (0, lease.remaining());
    until("it was renewed past its time to live", async || {
        let now = lease.remaining();
        rises += u32::from(now > before);
        before = now;
        rises > 3
    })
    .await;
    lease.check().unwrap();
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
}

#[tokio::test]
async fn nothing_but_the_fence_is_left_when_all_is_given_back() {
    let (one, two, client, name) = (process().await, process().await, client().await, name("left"));
    let writer = one.lock(&name).unwrap().acquire().await.unwrap();
    let waiting = tokio::spawn({
        let read = two.read(&name).unwrap();
        async move { read.acquire().await.unwrap().release().await.unwrap() }
    });
    until_wanted(&client, &name).await;
    writer.release().await.unwrap();
    timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
    until("the mark of the reader ends", async || {
        run::<Vec<String>>(&client, &format!("KEYS *{name}*")).await.len() == 1
    })
    .await;
    assert_eq!(run::<i64>(&client, &format!("PTTL {{{name}}}:fence")).await, -1);
}
