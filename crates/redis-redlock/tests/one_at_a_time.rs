//! One holder at a time, whatever a minority of the nodes does; and where that breaks.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis_redlock::{ErrorKind, LeaseOptions, Lock, LostReason, Quorum, Redlock, ReleaseOutcome};
use support::{Inside, LONG, Nodes, SAFETY_NET, client, get, long, name, settled, try_it, ttl};
use tokio::time::timeout;

/// What a process cannot undo, since it is cut off, keeps others out for that long.
fn short() -> LeaseOptions {
    ttl(3_000)
}

/// Three processes, two tasks each.
async fn contenders(nodes: &Nodes, name: &str) -> Vec<redis_redlock::RedlockLock> {
    let mut locks = Vec::new();
    for _ in 0..3 {
        let lock = nodes.process().await.lock(name).unwrap().with_options(short());
        locks.extend([lock.clone(), lock]);
    }
    locks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_nodes_up() {
    let (nodes, name, inside) = (Nodes::start(3).await, name("up"), Arc::new(Inside::default()));
    let tasks = inside.contend(contenders(&nodes, &name).await);
    inside.until_visited(200).await;
    inside.ends_well(tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_minority_killed_and_back_empty() {
    let (mut nodes, name, inside) = (Nodes::start(5).await, name("killed"), Arc::new(Inside::default()));
    let tasks = inside.contend(contenders(&nodes, &name).await);
    inside.until_visited(30).await;
    nodes.0[0].kill().await.unwrap();
    nodes.0[3].kill().await.unwrap();
    inside.until_visited(50).await;
    nodes.0[0].restart().await.unwrap();
    nodes.0[3].restart().await.unwrap();
    inside.until_visited(50).await;
    inside.ends_well(tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_minority_hung_one_after_the_other() {
    let (nodes, name, inside) = (Nodes::start(3).await, name("hung"), Arc::new(Inside::default()));
    let tasks = inside.contend(contenders(&nodes, &name).await);
    for server in &nodes.0 {
        inside.until_visited(20).await;
        server.stop().await.unwrap();
        inside.until_visited(40).await;
        server.cont().await.unwrap();
    }
    inside.until_visited(20).await;
    inside.ends_well(tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_processes_cut_off_from_different_nodes() {
    let (nodes, name, inside) = (Nodes::start(3).await, name("cut off"), Arc::new(Inside::default()));
    let (mut locks, mut paths) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (process, proxies) = nodes.behind_proxies().await;
        locks.push(process.lock(&name).unwrap().with_options(short()));
        paths.push(proxies);
    }
    let tasks = inside.contend(locks);
    inside.until_visited(20).await;
    for (process, proxies) in paths.iter().enumerate() {
        proxies[process].half_open(); // each reaches two, and no two processes the same two
    }
    inside.until_visited(40).await;
    for (process, proxies) in paths.iter().enumerate() {
        proxies[process].pass();
        proxies[process].cut();
    }
    inside.until_visited(40).await;
    inside.ends_well(tasks).await;
}

#[tokio::test]
async fn tokens_rise_whichever_majority_answers() {
    let (nodes, name) = (Nodes::start(5).await, name("majorities"));
    let (process, proxies) = nodes.behind_proxies().await;
    let lock = process.lock(&name).unwrap().with_options(long());
    let mut last = 0;
    for round in 0..10 {
        let away = [round % 5, (round * 2 + 1) % 5];
        for &at in &away {
            proxies[at].refuse();
            proxies[at].cut();
        }
        // Others raise the counters of some nodes only.
        support::ask::<i64>(&nodes.0[(round * 3) % 5].url(), &format!("INCRBY {{{name}}}:fence 7")).await;
        let lease = get(&lock).await;
        let token = lease.fencing_token().get();
        assert!(token > last, "{token} after {last}");
        last = token;
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
        away.iter().for_each(|&at| proxies[at].pass());
    }
}

#[tokio::test]
async fn a_token_is_written_back_to_a_majority_before_it_is_handed_out() {
    let (nodes, name) = (Nodes::start(3).await, name("written back"));
    nodes.ask::<()>(1, &format!("SET {{{name}}}:fence 41")).await;
    nodes.0[0].stop().await.unwrap();
    let lock = nodes.process().await.lock(&name).unwrap().with_options(long());
    let lease = get(&lock).await;
    assert_eq!(lease.fencing_token().get(), 42);
    assert_eq!(nodes.ask::<u64>(2, &format!("GET {{{name}}}:fence")).await, 42);
    nodes.0[0].cont().await.unwrap();
    drop(lease);
}

/// Two nodes of three forget a grant: the reason for the delayed restart.
async fn two_of_three_restart_empty(delayed: Option<Duration>) -> (Nodes, Redlock, redis_redlock::Lease, String) {
    let (mut nodes, name) = (Nodes::start(3).await, name("restarted"));
    let build = async |nodes: &Nodes| {
        let builder = nodes.builder().await.node_timeout(SAFETY_NET);
        match delayed {
            Some(ttl) => builder.delayed_restart(ttl),
            None => builder,
        }
        .build()
        .unwrap()
    };
    // Not renewed, so that its holder is told by nobody.
    let held = ttl(3_000).auto_renew(false);
    let lock = build(&nodes).await.lock(&name).unwrap().with_options(held);
    // With a delayed restart, nobody gets anything from nodes that have just been started.
    let lease = timeout(SAFETY_NET, async {
        loop {
            match lock.acquire().await {
                Ok(lease) => return lease,
                Err(error) => assert!(delayed.is_some() && error.to_string().contains("was restarted"), "{error}"),
            }
        }
    })
    .await
    .unwrap();
    nodes.0[0].restart().await.unwrap();
    nodes.0[1].restart().await.unwrap();
    let other = build(&nodes).await;
    (nodes, other, lease, name)
}

#[tokio::test]
async fn control_two_nodes_of_three_that_forget_let_a_second_holder_in() {
    let (_nodes, other, lease, name) = two_of_three_restart_empty(None).await;
    let second = try_it(&other.lock(&name).unwrap()).await;
    assert!(second.is_some() && lease.check().is_ok(), "both hold it");
}

#[tokio::test]
async fn a_delayed_restart_keeps_nodes_out_that_may_have_forgotten() {
    let (_nodes, other, lease, name) = two_of_three_restart_empty(Some(Duration::from_secs(3))).await;
    let lock = other.lock(&name).unwrap().with_options(ttl(3_000).max_outage(Duration::ZERO));
    let error = lock.acquire().await.unwrap_err();
    assert!(error.to_string().contains("was restarted"), "{error}");
    assert!(lease.check().is_ok());
    let lock = lock.with_options(ttl(3_000).max_outage(LONG));
    let second = get(&lock).await;
    assert!(lease.check().is_err(), "by the time the nodes vote again, it is over");
    second.release().await.unwrap();

    let longer = lock.with_options(ttl(3_001)).try_acquire().await.unwrap_err();
    assert!(longer.to_string().contains("delayed_restart"), "{longer}");
}

#[tokio::test]
async fn all_nodes_have_it_where_all_are_asked_for() {
    let (nodes, name) = (Nodes::start(3).await, name("all"));
    let all = nodes.builder().await.quorum(Quorum::All).build().unwrap();
    let lock = all.lock(&name).unwrap().with_options(long().max_outage(Duration::ZERO));
    let lease = get(&lock).await;
    assert_eq!(nodes.keys(&name, 0..3).await, 3);
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(nodes.keys(&name, 0..3).await, 0);

    nodes.0[2].stop().await.unwrap();
    let error = lock.acquire().await.unwrap_err();
    assert!(error.to_string().contains("3 of 3 nodes are needed"), "{error}");
    let majority = nodes.process().await;
    get(&majority.lock(&name).unwrap()).await.release().await.unwrap();
    nodes.0[2].cont().await.unwrap();
}

#[tokio::test]
async fn the_holder_is_told_when_a_majority_forgets() {
    let (mut nodes, name) = (Nodes::start(3).await, name("forgets"));
    let lock = nodes.process().await.lock(&name).unwrap().with_options(ttl(3_000));
    let lease = get(&lock).await;
    nodes.0[0].restart().await.unwrap();
    nodes.0[1].restart().await.unwrap();
    assert_eq!(timeout(SAFETY_NET, lease.lost()).await.unwrap(), LostReason::Revoked);
}

#[tokio::test]
async fn the_holder_is_told_at_its_deadline_when_a_majority_is_gone() {
    let (mut nodes, name) = (Nodes::start(3).await, name("gone"));
    let lock = nodes.process().await.lock(&name).unwrap().with_options(ttl(1_000));
    let lease = get(&lock).await;
    nodes.0[0].kill().await.unwrap();
    nodes.0[1].stop().await.unwrap();
    assert_eq!(timeout(SAFETY_NET, lease.lost()).await.unwrap(), LostReason::Expired);
    nodes.0[1].cont().await.unwrap();
}

#[tokio::test]
async fn a_lease_outlasts_a_minority_that_forgets_and_is_not_brought_back_there() {
    let (mut nodes, name) = (Nodes::start(3).await, name("minority"));
    let lock = nodes.process().await.lock(&name).unwrap().with_options(ttl(1_500));
    let lease = get(&lock).await;
    support::until("all nodes have it", async || nodes.keys(&name, 0..3).await == 3).await;
    nodes.0[0].restart().await.unwrap();
    let (mut renewals, mut before) = (0, lease.remaining());
    support::until("it is renewed again and again", async || {
        lease.check().unwrap();
        let now = lease.remaining();
        renewals += u32::from(now > before);
        before = now;
        renewals >= 3
    })
    .await;
    assert_eq!(nodes.keys(&name, [0]).await, 0);
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
}

#[tokio::test]
async fn a_majority_that_is_gone_fails_an_acquire_in_time_and_each_node_is_named() {
    let (mut nodes, name) = (Nodes::start(3).await, name("no majority"));
    let process = nodes.process().await;
    drop(get(&process.lock(&name).unwrap()).await);
    nodes.0[0].kill().await.unwrap();
    nodes.0[1].stop().await.unwrap();
    let lock = process.lock(&name).unwrap().with_options(long().max_outage(Duration::ZERO));
    let begun = Instant::now();
    let error = lock.acquire().await.unwrap_err();
    assert!(begun.elapsed() < SAFETY_NET / 2, "{:?}", begun.elapsed());
    let text = error.to_string();
    for server in &nodes.0 {
        assert!(text.contains(&format!("127.0.0.1:{}: ", server.port())), "{text}");
    }
    assert!(text.contains("2 of 3 nodes are needed") && text.contains("no answer"), "{text}");
    let redis_redlock::AcquireError::Backend { source, .. } = error else { panic!("{text}") };
    assert!(source.kind().is_transient() && source.kind() != ErrorKind::NotReady, "{text}");

    let begun = Instant::now();
    let lock = lock.with_options(long());
    lock.acquire_timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(begun.elapsed() < SAFETY_NET / 2);
    nodes.0[1].cont().await.unwrap();
    get(&lock).await.release().await.unwrap();
}

#[tokio::test]
async fn readers_share_over_a_quorum_and_several_names_are_held_at_once() {
    let (nodes, name) = (Nodes::start(3).await, name("kinds"));
    let (one, two) = (nodes.patient().await, nodes.patient().await);
    let reader = try_it(&one.read(&name).unwrap().with_options(long())).await.unwrap();
    let beside = try_it(&two.read(&name).unwrap().with_options(long())).await.unwrap();
    settled(&[&one, &two]).await;
    assert!(try_it(&two.lock(&name).unwrap()).await.is_none());
    reader.release().await.unwrap();
    beside.release().await.unwrap();
    settled(&[&one, &two]).await;
    let other = format!("{name}-other");
    let both = get(&one.all([&name, &other]).unwrap().with_options(long())).await;
    settled(&[&one]).await;
    assert!(try_it(&two.lock(&other).unwrap()).await.is_none());
    assert!(try_it(&two.read(&name).unwrap()).await.is_none());
    let holders = two.who(&name).await.unwrap();
    assert_eq!((holders.len(), holders[0].nodes, holders[0].holds), (1, 3, true));
    assert!(both.owner().to_string().starts_with(&holders[0].owner));
    assert_eq!(holders[0].token, both.fencing_token());
    both.release().await.unwrap();
    support::until("all nodes have released it", async || two.who(&name).await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn nodes_may_have_different_passwords() {
    let mut servers = Vec::new();
    for password in ["first-secret", "second-secret", "third-secret"] {
        servers.push(turnstile_testkit::redis::Redis::builder().password(password).start().await.unwrap());
    }
    let nodes = Nodes(servers);
    let lock = nodes.process().await.lock(name("passwords")).unwrap().with_options(long());
    get(&lock).await.release().await.unwrap();

    // One wrong password is a minority; two are not, and no password is told.
    let wrong = |at: usize| client(format!("redis://:wrong-secret@127.0.0.1:{}/", nodes.0[at].port()));
    let right = |at: usize| client(nodes.0[at].url());
    let one = Redlock::builder([wrong(0), right(1), right(2)]).build().unwrap();
    get(&one.lock(name("one wrong")).unwrap()).await.release().await.unwrap();
    let two = Redlock::builder([wrong(0), wrong(1), right(2)]).build().unwrap();
    let error = two.lock(name("two wrong")).unwrap().acquire().await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("secret"), "{text}");
    let redis_redlock::AcquireError::Backend { source, .. } = error else { panic!("{text}") };
    assert_eq!(source.kind(), ErrorKind::Denied, "{text}");
}
