//! Over independent nodes: never too many, whichever nodes answer; and where the rule of others admits them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis_semaphore::{
    AcquireError, Client, ConfigError, Lease, Lock, Node, QuorumSemaphore, QuorumSemaphores, SemaphoreError, Semaphores,
};
use support::{Redis, SAFETY_NET, Server, long, run, ttl, unique, until};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use turnstile_core::quorum::{Quorum, QuorumOptions};
use turnstile_core::{LeaseManager, ManagedLock};
use turnstile_testkit::redis::RedisProxy;

async fn start(count: usize) -> Vec<Server> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(Redis::start().await.unwrap());
    }
    servers
}

fn clients(servers: &[Server]) -> Vec<Client> {
    servers.iter().map(|server| Client::new(server.url()).unwrap()).collect()
}

fn process(servers: &[Server]) -> QuorumSemaphores {
    QuorumSemaphores::builder(clients(servers)).build().unwrap()
}

/// One that waits for its nodes, however slow the machine is: for tries, which ask once.
fn patient(servers: &[Server]) -> QuorumSemaphores {
    QuorumSemaphores::builder(clients(servers)).node_timeout(SAFETY_NET).build().unwrap()
}

/// One who reaches these nodes only, by the rule of this crate and by a majority.
struct Asker {
    ours: QuorumSemaphore,
    majority: ManagedLock<Quorum<Node>>,
    _proxies: Vec<RedisProxy>,
}

async fn reaching(servers: &[Server], reached: &[usize], name: &str) -> Asker {
    let (mut clients, mut proxies) = (Vec::new(), Vec::new());
    for (at, server) in servers.iter().enumerate() {
        let proxy = server.proxy().await.unwrap();
        if !reached.contains(&at) {
            proxy.refuse();
        }
        clients.push(Client::new(proxy.url()).unwrap());
        proxies.push(proxy);
    }
    let nodes = clients.iter().cloned().map(Node::new);
    let majority = Quorum::new(nodes, QuorumOptions::majority_of(servers.len()).node_timeout(SAFETY_NET)).unwrap();
    let ours = QuorumSemaphores::builder(clients).node_timeout(SAFETY_NET).build().unwrap().by_set(name, 2).unwrap();
    let majority = LeaseManager::new(majority).lock(ours.resource().clone(), long());
    Asker { ours: ours.with_options(long()), majority, _proxies: proxies }
}

#[tokio::test]
async fn a_majority_admits_too_many_and_our_rule_does_not() {
    let servers = start(5).await;
    let name = unique("majority");
    // No node is asked by more than two of them, where three nodes are a majority.
    let mut held: Vec<Lease> = Vec::new();
    let mut askers = Vec::new();
    for reached in [[0, 1, 2], [2, 3, 4], [0, 1, 3]] {
        askers.push(reaching(&servers, &reached, &name).await);
        held.extend(askers.last().unwrap().majority.try_acquire().await.unwrap());
    }
    assert_eq!(held.len(), 3, "three hold two permits");
    for lease in held {
        lease.release().await.unwrap();
    }

    assert_eq!(process(&servers).needed(2), 4);
    for asker in &askers {
        let Err(AcquireError::Backend { source, .. }) = asker.ours.try_acquire().await else { panic!("three of five") };
        assert!(source.to_string().contains("granted"), "it is told which nodes said what: {source}");
    }
    let name = unique("ours");
    let mut held = Vec::new();
    for reached in [[0, 1, 2, 3], [1, 2, 3, 4], [0, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 4]] {
        let asker = reaching(&servers, &reached, &name).await;
        held.extend(asker.ours.try_acquire().await.unwrap().map(|lease| (lease, asker)));
    }
    assert_eq!(held.len(), 2);
}

/// Counts who is inside, outside of Redis.
#[derive(Default)]
struct Inside {
    now: AtomicU32,
    most: AtomicU32,
    visits: AtomicU32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_than_the_limit_are_inside_with_a_node_down_and_nothing_is_left_behind() {
    // By a majority, three of these five, three would get in.
    let mut servers = start(5).await;
    let (name, inside, mut tasks) = (unique("crowd"), Arc::new(Inside::default()), JoinSet::new());
    let processes = [process(&servers), process(&servers), process(&servers)];
    for task in 0..9 {
        let semaphore = processes[task % 3].by_counter(&name, 2).unwrap().with_options(ttl(20_000));
        let (inside, weight) = (inside.clone(), 1 + u32::from(task == 0));
        tasks.spawn(async move {
            while inside.visits.load(Ordering::SeqCst) < 400 {
                // Whoever gets none because of a fault tries again.
                let Ok(lease) = semaphore.weighing(weight).unwrap().acquire_timeout(Duration::from_secs(5)).await
                else {
                    continue;
                };
                let now = inside.now.fetch_add(weight, Ordering::SeqCst) + weight;
                inside.most.fetch_max(now, Ordering::SeqCst);
                inside.visits.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(1)).await; // the work
                inside.now.fetch_sub(weight, Ordering::SeqCst);
                let _ = lease.release().await;
            }
        });
    }
    for (share, at) in [(100, 1), (200, 3)] {
        until("they come and go", async || inside.visits.load(Ordering::SeqCst) >= share).await;
        servers[at].stop().await.unwrap();
        until("they come and go", async || inside.visits.load(Ordering::SeqCst) >= share + 50).await;
        servers[at].cont().await.unwrap();
    }
    timeout(SAFETY_NET, tasks.join_all()).await.unwrap();
    assert_eq!(inside.most.load(Ordering::SeqCst), 2);
    for process in &processes {
        process.shutdown().await;
    }
    for server in &mut servers {
        let node = Semaphores::new(Client::new(server.url()).unwrap());
        until("nothing is held", async || node.state(&name).await.unwrap().holders.is_empty()).await;
    }
}

#[tokio::test]
async fn it_goes_on_while_enough_nodes_are_up_and_says_who_is_not() {
    let mut servers = start(5).await;
    let name = unique("down");
    let semaphore = patient(&servers).by_set(&name, 3).unwrap().with_options(ttl(3_000));
    let held = semaphore.acquire_many(2).await.unwrap();
    servers[4].kill().await.unwrap();
    let second = timeout(SAFETY_NET, semaphore.acquire()).await.unwrap().unwrap();
    assert!(second.fencing_token() > held.fencing_token());
    assert!(semaphore.try_acquire().await.unwrap().is_none(), "all three are held");
    second.release().await.unwrap();

    servers[1].kill().await.unwrap();
    timeout(SAFETY_NET, held.lost()).await.expect("its quorum is gone, and it is told");
    let error = semaphore.try_acquire().await.unwrap_err().to_string();
    for server in [1, 4] {
        let url = servers[server].url();
        let address = url.trim_start_matches("redis://").trim_end_matches('/');
        assert!(error.contains(address.split('@').next_back().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn permits_are_kept_by_renewals_on_nodes_with_a_password_each() {
    let servers = start(3).await;
    let mut clients = clients(&servers);
    for (at, client) in clients.iter_mut().enumerate() {
        let _: String = run(client, &format!("CONFIG SET requirepass word-{at}")).await;
        let url = servers[at].url().replace("redis://", &format!("redis://:word-{at}@"));
        *client = Client::new(url).unwrap();
    }
    let name = unique("kept");
    let semaphores = QuorumSemaphores::builder(clients.clone()).build().unwrap();
    let held = semaphores.by_set(&name, 1).unwrap().with_options(ttl(500)).acquire().await.unwrap();
    let node = Semaphores::new(clients[0].clone());
    until("it lasts for three times to live", async || {
        let holders = node.state(&name).await.unwrap().holders;
        holders.first().is_some_and(|holder| holder.held_for > Duration::from_millis(1_500))
    })
    .await;
    held.check().unwrap();
    assert!(process(&servers).by_set(&name, 1).unwrap().try_acquire().await.is_err(), "no password, no vote");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_what_to_do() {
    let servers = start(3).await;
    assert!(matches!(QuorumSemaphores::builder([]).build(), Err(ConfigError::Quorum(_))));
    let mut twice = clients(&servers);
    twice.push(Client::new(servers[0].url()).unwrap());
    assert!(matches!(QuorumSemaphores::builder(twice).build(), Err(ConfigError::SameNode(_))));
    let drift = QuorumSemaphores::builder(clients(&servers)).drift(2.0, Duration::ZERO).build();
    assert!(matches!(drift, Err(ConfigError::Quorum(_))));

    let three = process(&servers);
    three.by_set("x", 1).unwrap();
    let error = three.by_set("x", 2).map(|_| ()).unwrap_err();
    assert!(matches!(error, SemaphoreError::NoSpareNode { limit: 2, nodes: 3 }));
    assert!(error.to_string().contains("at least 4 nodes"), "{error}");
    assert!(matches!(three.by_set("x", 0), Err(SemaphoreError::NoLimit)));
    let allowed = QuorumSemaphores::builder(clients(&servers)).node_timeout(SAFETY_NET).without_spare_node();
    let allowed = allowed.build().unwrap();
    assert_eq!([1, 2, 1000].map(|limit| allowed.needed(limit)), [2, 3, 3]);
    let name = unique("none to spare");
    let semaphore = allowed.by_set(&name, 2).unwrap();
    drop(semaphore.try_acquire().await.unwrap().unwrap());
    let error = semaphore.try_acquire_many(3).await.unwrap_err();
    assert!(matches!(SemaphoreError::of(&error), Some(SemaphoreError::TooHeavy { weight: 3, limit: 2 })));

    let other = allowed.by_set(&name, 1).unwrap().try_acquire().await.unwrap_err().to_string();
    assert!(other.contains("has the limit 2, and this caller says 1"), "{other}");
}

#[tokio::test]
async fn whoever_asks_with_another_limit_by_mistake_leaves_nothing_of_it() {
    let mut servers = start(5).await;
    let name = unique("limits");
    let processes = [patient(&servers), patient(&servers)];
    // A node that was down is the first to hear of a mistake.
    servers[4].kill().await.unwrap();
    let two = processes[0].by_set(&name, 2).unwrap().with_options(ttl(60_000));
    let three = processes[1].by_counter(&name, 3).unwrap().with_options(ttl(60_000));
    let held = two.try_acquire().await.unwrap().unwrap();
    servers[4].restart().await.unwrap();
    until("the mistake is told", async || {
        let error = three.try_acquire().await.unwrap_err().to_string();
        error.contains("semaphore by set")
    })
    .await;
    processes[1].shutdown().await;
    servers[0].kill().await.unwrap();
    let second = timeout(SAFETY_NET, two.acquire()).await.unwrap().unwrap();
    held.release().await.unwrap();
    second.release().await.unwrap();
    // With nobody inside, another limit may be used.
    let three = process(&servers).by_counter(&name, 3).unwrap();
    drop(timeout(SAFETY_NET, three.acquire_many(3)).await.unwrap().unwrap());
}
