//! Nodes and choices that make no Redlock are refused, with what to do.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use redis_redlock::{AcquireError, Client, ConfigError, ErrorKind, Lock, LockError, Redlock};
use support::{Nodes, SAFETY_NET, client, name};

fn clients(addresses: &[&str]) -> Vec<Client> {
    addresses.iter().map(|address| client(format!("redis://:secret@{address}/"))).collect()
}

const THREE: [&str; 3] = ["node-a:1", "node-b:1", "node-c:1"];

#[tokio::test]
async fn numbers_of_nodes() {
    assert_eq!(Redlock::builder([]).build().err(), Some(ConfigError::NoNodes));
    assert_eq!(Redlock::builder(clients(&THREE[..2])).build().err(), Some(ConfigError::EvenNodes(2)));
    Redlock::builder(clients(&THREE[..1])).build().unwrap();
    Redlock::builder(clients(&THREE)).build().unwrap();
    let many: Vec<String> = (0..65).map(|node| format!("node-{node}:1")).collect();
    let many = clients(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(matches!(Redlock::builder(many).build(), Err(ConfigError::Quorum(_))));
}

#[tokio::test]
async fn a_node_that_is_listed_twice() {
    let twice = clients(&["node-a:1", "node-b:1", "NODE-A:1"]);
    let error = Redlock::builder(twice).build().err().unwrap();
    assert!(matches!(error, ConfigError::SameNode(_)) && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_server_under_two_addresses_grants_nothing() {
    let nodes = Nodes::start(2).await;
    let proxy = nodes.0[0].proxy().await.unwrap();
    let twice = [client(nodes.0[0].url()), client(nodes.0[1].url()), client(proxy.url())];
    let locks = Redlock::builder(twice).node_timeout(SAFETY_NET).build().unwrap();
    let (lock, name) = (|name: &str| locks.lock(name).unwrap(), name("twice"));
    // Known for sure once each has been asked.
    support::until("it is noticed", async || match lock(&name).try_acquire().await {
        Ok(lease) => {
            drop(lease);
            false
        }
        Err(AcquireError::Backend { source, .. }) => {
            assert!(source.to_string().contains("one and the same server"), "{source}");
            assert_eq!(source.kind(), ErrorKind::Invalid);
            true
        }
        Err(other) => panic!("{other}"),
    })
    .await;
}

#[tokio::test]
async fn times_that_make_no_sense() {
    let builder = || Redlock::builder(clients(&THREE));
    for drift in [f64::NAN, -0.1, 0.6] {
        assert!(matches!(builder().drift(drift, Duration::ZERO).build(), Err(ConfigError::Quorum(_))));
    }
    builder().drift(0.0, Duration::ZERO).build().unwrap();
    assert!(matches!(builder().node_timeout(Duration::ZERO).build(), Err(ConfigError::Quorum(_))));
    for ttl in [Duration::ZERO, Duration::MAX] {
        assert!(matches!(builder().delayed_restart(ttl).build(), Err(ConfigError::DelayedRestart(_))));
    }
}

#[tokio::test]
async fn names_that_are_none() {
    let locks = Redlock::builder(clients(&THREE)).build().unwrap();
    assert!(matches!(locks.lock("").err(), Some(LockError::Name(_))));
    assert!(matches!(locks.read("a\nb").err(), Some(LockError::Name(_))));
    assert_eq!(locks.all::<&str>([]).err(), Some(LockError::NoName));
    assert!(locks.who("").await.is_err());
}
