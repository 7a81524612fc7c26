//! Waiters of one process: one asks for all, and a lease goes from one to the next in memory.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis_lock::{Client, LeaseOptions, Lock, RedisLock, RedisLocks};
use support::{SAFETY_NET, long, name, until_wanted};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnstile_core::{Backoff, Owner};
use turnstile_testkit::redis::Redis;

/// All commands that a server carries out, as they come.
struct Monitor(Lines<BufReader<TcpStream>>);

impl Monitor {
    async fn start(server: &Redis) -> Self {
        let mut stream = TcpStream::connect((server.host(), server.port())).await.unwrap();
        stream.write_all(b"MONITOR\r\n").await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("+OK"));
        Self(lines)
    }

    /// The owner in the next script call on `name` that has one.
    async fn owner(&mut self, name: &str) -> String {
        loop {
            let line = timeout(SAFETY_NET, self.0.next_line()).await.unwrap().unwrap().unwrap();
            let words: Vec<_> = line.split('"').collect();
            let is_owner = |word: &&&str| word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
            if words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("evalsha"))
                && line.contains(name)
                && let Some(owner) = words.iter().find(is_owner)
            {
                return (*owner).to_owned();
            }
        }
    }
}

type Grants = Arc<Mutex<Vec<(Owner, u64)>>>;

/// So many tasks of one process, each of which takes the lock once and notes its grant.
fn contend(lock: &RedisLock, tasks: usize, grants: &Grants) -> JoinSet<()> {
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        let (lock, grants) = (lock.clone(), grants.clone());
        set.spawn(async move {
            let lease = lock.acquire().await.unwrap();
            grants.lock().unwrap().push((lease.owner(), lease.fencing_token().get()));
            tokio::task::yield_now().await;
            lease.release().await.unwrap();
        });
    }
    set
}

async fn process(server: &Redis) -> RedisLocks {
    RedisLocks::new(Client::connect(server.url()).await.unwrap())
}

#[tokio::test]
async fn a_hundred_waiters_ask_as_one_and_then_hand_the_lease_on_in_memory() {
    let server = Redis::start().await.unwrap();
    let (name, grants) = (name("hundred"), Grants::default());
    let held = process(&server).await.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let lock = process(&server).await.lock(&name).unwrap().with_options(long().handover(1024, SAFETY_NET));

    let mut monitor = Monitor::start(&server).await;
    let tasks = contend(&lock, 100, &grants);
    let mut asked = BTreeSet::new();
    for _ in 0..20 {
        asked.insert(monitor.owner(&name).await);
    }
    assert_eq!(asked.len(), 1, "only the head of the queue asks: {asked:?}");

    held.release().await.unwrap();
    timeout(SAFETY_NET, tasks.join_all()).await.unwrap();
    let grants = grants.lock().unwrap();
    let owners: BTreeSet<_> = grants.iter().map(|(owner, _)| owner.to_string()).collect();
    assert_eq!((grants.len(), owners), (100, asked), "one grant of the server served all");
    assert!(grants.is_sorted_by(|a, b| a.1 < b.1), "each with a token of its own, in turn");
}

#[tokio::test]
async fn hand_overs_are_bounded_so_that_another_process_gets_its_turn() {
    let server = support::shared().await;
    let (name, grants, theirs) = (name("bounded"), Grants::default(), Grants::default());
    let options = |handovers| -> LeaseOptions {
        long().handover(handovers, SAFETY_NET).retry(Backoff::new(Duration::from_millis(1), Duration::from_millis(4)))
    };
    let held = process(&server).await.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let ours = process(&server).await.lock(&name).unwrap().with_options(options(3));
    let other = process(&server).await.lock(&name).unwrap().with_options(options(0));
    let tasks = contend(&ours, 60, &grants);
    let others = contend(&other, 1, &theirs);
    until_wanted(&Client::connect(server.url()).await.unwrap(), &name).await;
    held.release().await.unwrap();
    timeout(SAFETY_NET, tasks.join_all()).await.unwrap();
    timeout(SAFETY_NET, others.join_all()).await.unwrap();

    let mut in_a_row: HashMap<_, u32> = HashMap::new();
    for (owner, _) in &*grants.lock().unwrap() {
        *in_a_row.entry(*owner).or_default() += 1;
    }
    assert!(in_a_row.values().all(|&times| times <= 4), "one grant and three hand-overs: {in_a_row:?}");
}
