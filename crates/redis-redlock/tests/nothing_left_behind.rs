//! What fails, is cancelled or comes too late is undone, on every node.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_redlock::{Lock, ReleaseOutcome};
use support::{Nodes, get, long, name, try_it, until};
use tokio::time::timeout;
use turnstile_core::Backoff;
use turnstile_testkit::proxy::Direction;

#[tokio::test]
async fn a_refused_try_is_undone_when_it_returns() {
    let (nodes, name) = (Nodes::start(3).await, name("refused"));
    // Others have two of the nodes.
    for at in [1, 2] {
        nodes.ask::<()>(at, &format!("SET {{{name}}} others PX 600000")).await;
    }
    let process = nodes.patient().await;
    assert!(try_it(&process.lock(&name).unwrap().with_options(long())).await.is_none());
    // It granted, and has it no more.
    if nodes.ask::<Option<u64>>(0, &format!("GET {{{name}}}:fence")).await.is_none() {
        until("the late one has granted it", async || {
            nodes.ask::<Option<u64>>(0, &format!("GET {{{name}}}:fence")).await.is_some()
        })
        .await;
    }
    process.shutdown().await;
    assert_eq!(nodes.keys(&name, [0]).await, 0);
    assert_eq!(nodes.ask::<String>(1, &format!("GET {{{name}}}")).await, "others");
}

#[tokio::test]
async fn a_grant_that_comes_after_the_acquire_has_failed_is_undone() {
    let (nodes, name) = (Nodes::start(3).await, name("late"));
    let process = nodes.process().await;
    get(&process.lock("known").unwrap()).await.release().await.unwrap();
    for at in [0, 1] {
        nodes.0[at].stop().await.unwrap();
    }
    let once = long().max_outage(Duration::ZERO);
    process.lock(&name).unwrap().with_options(once).acquire().await.unwrap_err();
    until("the node that answered has undone it", async || nodes.keys(&name, [2]).await == 0).await;
    for at in [0, 1] {
        nodes.0[at].cont().await.unwrap();
    }
    for at in [0, 1] {
        let fence = format!("GET {{{name}}}:fence");
        until("it was granted late", async || nodes.ask::<Option<u64>>(at, &fence).await.is_some()).await;
    }
    nodes.until_no_key(&name).await;
}

#[tokio::test]
async fn a_lease_that_came_and_went_while_a_node_hung_is_not_left_there() {
    let (nodes, name) = (Nodes::start(3).await, name("hung"));
    let process = nodes.process().await;
    get(&process.lock("known").unwrap()).await.release().await.unwrap();
    nodes.0[1].stop().await.unwrap();
    for _ in 0..5 {
        let lease = get(&process.lock(&name).unwrap().with_options(long())).await;
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
    assert_eq!(nodes.keys(&name, [0, 2]).await, 0);
    nodes.0[1].cont().await.unwrap();
    let fence = format!("GET {{{name}}}:fence");
    until("it was granted late", async || nodes.ask::<Option<u64>>(1, &fence).await.is_some()).await;
    nodes.until_no_key(&name).await;
}

#[tokio::test]
async fn a_release_reaches_a_node_that_was_away() {
    let (nodes, name) = (Nodes::start(3).await, name("away"));
    let (process, proxies) = nodes.behind_proxies().await;
    let lease = get(&process.lock(&name).unwrap().with_options(long())).await;
    until("all nodes have granted it", async || nodes.keys(&name, 0..3).await == 3).await;
    proxies[0].refuse();
    proxies[0].cut();
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(nodes.keys(&name, 0..3).await, 1);
    proxies[0].pass();
    nodes.until_no_key(&name).await;
}

#[tokio::test]
async fn a_release_that_no_majority_confirms_goes_on_until_one_does() {
    let (nodes, name) = (Nodes::start(3).await, name("unconfirmed"));
    let (process, proxies) = nodes.behind_proxies().await;
    let lease = get(&process.lock(&name).unwrap().with_options(long())).await;
    for proxy in &proxies[..2] {
        proxy.refuse();
        proxy.cut();
    }
    let error = lease.release().await.unwrap_err();
    assert!(error.to_string().contains("for a release, 2 of 3 nodes are needed"), "{error}");
    proxies.iter().for_each(|proxy| proxy.pass());
    nodes.until_no_key(&name).await;
    assert!(process.shutdown().await.is_empty());
}

#[tokio::test]
async fn an_acquire_that_is_cancelled_anywhere_leaves_no_key() {
    let (nodes, name) = (Nodes::start(3).await, name("cancelled"));
    let (process, proxies) = nodes.behind_proxies().await;
    let (ours, theirs) = (process.lock(&name).unwrap(), nodes.process().await.lock(&name).unwrap());
    let (ours, theirs) = (ours.with_options(long()), theirs.with_options(long()));
    for (at, proxy) in proxies.iter().enumerate() {
        proxy.delay(Direction::ToClient, Duration::from_millis(1 + 2 * at as u64));
    }
    for step in 0..40 {
        let held = if step % 2 == 0 { None } else { Some(get(&theirs).await) };
        let _ = timeout(Duration::from_micros(400 * step), ours.acquire()).await.map(Result::unwrap);
        if let Some(held) = held {
            held.release().await.unwrap();
        }
    }
    assert!(process.shutdown().await.is_empty());
    assert_eq!(nodes.keys(&name, 0..3).await, 0);
}

#[tokio::test]
async fn a_shared_grant_is_undone_too() {
    let (nodes, name) = (Nodes::start(3).await, name("shared"));
    for at in [1, 2] {
        nodes.ask::<()>(at, &format!("SET {{{name}}} others PX 600000")).await;
    }
    let process = nodes.patient().await;
    assert!(try_it(&process.read(&name).unwrap().with_options(long())).await.is_none());
    process.shutdown().await;
    assert_eq!(nodes.ask::<usize>(0, &format!("EXISTS {{{name}}}:readers {{{name}}}:holder")).await, 0);
}

#[tokio::test]
async fn the_mark_of_a_waiter_goes_with_its_grant_whichever_attempt_left_it() {
    let (nodes, name) = (Nodes::start(3).await, name("mark"));
    let held = get(&nodes.process().await.lock(&name).unwrap().with_options(long())).await;
    let patient = long().retry(Backoff::new(Duration::from_secs(1), Duration::from_secs(1)));
    let lock = nodes.process().await.lock(&name).unwrap().with_options(patient);
    let waiting = tokio::spawn(async move { get(&lock).await });
    let marks = async || {
        let mut marks = 0;
        for at in 0..3 {
            marks += nodes.ask::<usize>(at, &format!("EXISTS {{{name}}}:waiting")).await;
        }
        marks
    };
    until("it waits on all nodes", async || marks().await == 3).await;
    for at in 0..3 {
        nodes.ask::<()>(at, &format!("PEXPIRE {{{name}}}:waiting 600000")).await; // so that it does not end by itself
    }
    held.release().await.unwrap();
    let lease = waiting.await.unwrap();
    until("all nodes have granted it", async || nodes.keys(&name, 0..3).await == 3).await;
    assert_eq!(marks().await, 0);
    drop(lease);
}
