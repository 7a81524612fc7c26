//! What the tests share: nodes of their own, processes that are none, and who is inside.

#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis_lua::redis::{FromRedisValue, cmd};
use redis_redlock::{Client, Lease, LeaseOptions, Lock, Redlock, RedlockBuilder, RedlockLock};
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnstile_testkit::redis::{Redis, RedisProxy, Server};
pub use turnstile_testkit::until;

/// Long enough that nothing ends by itself while a test runs, even on a slow machine.
pub const LONG: Duration = Duration::from_secs(600);

/// What nobody waits for; a test that does has failed.
pub const SAFETY_NET: Duration = Duration::from_secs(30);

pub fn name(prefix: &str) -> String {
    turnstile_testkit::unique(&prefix.replace(" ", "-"))
}

pub fn ttl(millis: u64) -> LeaseOptions {
    LeaseOptions::new(Duration::from_millis(millis)).unwrap()
}

pub fn long() -> LeaseOptions {
    LeaseOptions::new(LONG).unwrap()
}

/// Servers of this test alone.
pub struct Nodes(pub Vec<Server>);

impl Nodes {
    pub async fn start(count: usize) -> Self {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Redis::start().await.unwrap());
        }
        Self(servers)
    }

    pub async fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for server in &self.0 {
            clients.push(client(server.url()));
        }
        clients
    }

    /// Locks with connections and a local queue of their own, as another process would have.
    pub async fn process(&self) -> Redlock {
        self.builder().await.build().unwrap()
    }

    /// One that waits for its nodes, however slow the machine is: for tries, which ask once.
    pub async fn patient(&self) -> Redlock {
        self.builder().await.node_timeout(SAFETY_NET).build().unwrap()
    }

    pub async fn builder(&self) -> RedlockBuilder {
        Redlock::builder(self.clients().await)
    }

    /// A process that reaches each node through a proxy.
    pub async fn behind_proxies(&self) -> (Redlock, Vec<RedisProxy>) {
        let (mut clients, mut proxies) = (Vec::new(), Vec::new());
        for server in &self.0 {
            let proxy = server.proxy().await.unwrap();
            clients.push(client(proxy.url()));
            proxies.push(proxy);
        }
        (Redlock::builder(clients).build().unwrap(), proxies)
    }

    /// Asks one node, past all proxies.
    pub async fn ask<T: FromRedisValue>(&self, at: usize, command: &str) -> T {
        ask(&self.0[at].url(), command).await
    }

    /// On how many of these nodes the key of the lock stands.
    pub async fn keys(&self, name: &str, nodes: impl IntoIterator<Item = usize>) -> usize {
        let mut keys = 0;
        for at in nodes {
            keys += self.ask::<usize>(at, &format!("EXISTS {{{name}}}")).await;
        }
        keys
    }

    pub async fn until_no_key(&self, name: &str) {
        until("no key is left", async || self.keys(name, 0..self.0.len()).await == 0).await;
    }
}

/// Until all nodes have answered, and what came late is undone.
pub async fn settled(processes: &[&Redlock]) {
    for process in processes {
        process.manager().backend().settle().await;
    }
}

pub fn client(url: String) -> Client {
    Client::new(url).unwrap()
}

pub async fn ask<T: FromRedisValue>(url: &str, command: &str) -> T {
    let mut words = command.split(' ');
    let mut cmd = cmd(words.next().unwrap());
    words.for_each(|word| {
        cmd.arg(word);
    });
    let client = Client::connect(url).await.unwrap();
    client.run(&cmd).await.unwrap_or_else(|error| panic!("{command}: {error}"))
}

pub async fn try_it(lock: &RedlockLock) -> Option<Lease> {
    lock.try_acquire().await.unwrap()
}

pub async fn get(lock: &RedlockLock) -> Lease {
    timeout(SAFETY_NET, lock.acquire()).await.unwrap().unwrap()
}

/// Notes who is inside, whether two ever are, and with which tokens they were there.
#[derive(Default)]
pub struct Inside {
    count: AtomicU32,
    overlaps: AtomicU32,
    pub tokens: Mutex<Vec<u64>>,
    enough: AtomicBool,
}

impl Inside {
    /// Contenders of several processes, who go in and out until they are told to end.
    pub fn contend(self: &Arc<Self>, locks: Vec<RedlockLock>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for lock in locks {
            let inside = self.clone();
            tasks.spawn(async move {
                while !inside.enough.load(Ordering::SeqCst) {
                    // Whoever gets none because of a fault tries again.
                    let Ok(lease) = lock.acquire_timeout(Duration::from_secs(5)).await else { continue };
                    inside.visit(&lease).await;
                    let _ = lease.release().await;
                }
            });
        }
        tasks
    }

    pub async fn visit(&self, lease: &Lease) {
        if lease.check().is_err() {
            return;
        }
        let others = self.count.fetch_add(1, Ordering::SeqCst);
        self.tokens.lock().push(lease.fencing_token().get());
        self.overlaps.fetch_add(others, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn visits(&self) -> usize {
        self.tokens.lock().len()
    }

    /// Waits for so many further visits.
    pub async fn until_visited(&self, times: usize) {
        let goal = self.visits() + times;
        until("the lock goes round", async || self.visits() >= goal).await;
    }

    /// Ends the contention; never were two inside, and the tokens rose from one to the next.
    pub async fn ends_well(&self, tasks: JoinSet<()>) {
        self.enough.store(true, Ordering::SeqCst);
        timeout(SAFETY_NET, tasks.join_all()).await.unwrap();
        assert_eq!(self.overlaps.load(Ordering::SeqCst), 0, "two were inside at once");
        let tokens = self.tokens.lock();
        let falls = tokens.windows(2).find(|two| two[0] >= two[1]);
        assert!(falls.is_none(), "tokens fell: {falls:?}");
    }
}
