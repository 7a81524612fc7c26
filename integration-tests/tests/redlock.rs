//! Mutual exclusion over a quorum across processes that are killed and stopped, while a minority of the nodes is too: by
//! the word of an oracle outside the lock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use redis_lock::Client;
use turnstile_integration_tests::{Oracle, connect, lock_value, name};
use turnstile_testkit::child::Child;
use turnstile_testkit::redis::{Redis, Server, shared};

const TTL: &str = "2000";

async fn five() -> Vec<Server> {
    let mut nodes = Vec::new();
    for _ in 0..5 {
        nodes.push(Redis::start().await.unwrap());
    }
    nodes
}

fn holder(name: &str, oracle: &Redis, nodes: &[Server]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redlock_holder"));
    command.args([name, TTL, &oracle.url()]).args(nodes.iter().map(|node| node.url()));
    Child::spawn(command).unwrap()
}

/// Waits until each was granted it so many times more, by tokens newer than any that wrote so far.
async fn granted(children: &mut [Child], times: usize, oracle: &Client, name: &str) {
    let newest = lock_value(oracle, &format!("{name}/data")).await.map_or(0, |token| token.parse::<u64>().unwrap());
    for child in children {
        for _ in 0..times {
            let mut token = 0;
            while token <= newest {
                let line = child.line_with("granted").await.unwrap();
                token = line.split(' ').nth(1).unwrap().parse().unwrap();
            }
        }
    }
}

#[tokio::test]
async fn processes_never_hold_at_once_whatever_a_minority_of_nodes_and_of_processes_does() {
    let (oracle, mut nodes, name) = (shared().await.unwrap(), five().await, name("redlock"));
    let client = connect(oracle.url()).await;
    let register = Oracle::new(client.clone(), &format!("{name}/oracle")).unwrap();
    let go_on = async |children: &mut [Child], times| granted(children, times, &client, &name).await;
    let mut killed = [holder(&name, &oracle, &nodes)];
    let mut stopped = [holder(&name, &oracle, &nodes)];
    let mut others = [holder(&name, &oracle, &nodes), holder(&name, &oracle, &nodes)];
    for children in [&mut killed[..], &mut stopped, &mut others] {
        go_on(children, 1).await;
    }
    // Processes, wherever they are at: waiting, holding, giving back.
    killed[0].kill().unwrap();
    stopped[0].stop().unwrap();
    go_on(&mut others, 5).await;
    // A minority of the nodes.
    nodes[0].kill().await.unwrap();
    nodes[1].stop().await.unwrap();
    go_on(&mut others, 10).await;
    stopped[0].cont().unwrap();
    go_on(&mut stopped, 1).await;
    go_on(&mut others, 1).await;
    // And another one.
    nodes[0].restart().await.unwrap();
    nodes[1].cont().await.unwrap();
    go_on(&mut others, 5).await;
    nodes[2].stop().await.unwrap();
    go_on(&mut others, 5).await;
    go_on(&mut stopped, 1).await;
    nodes[2].cont().await.unwrap();
    assert_eq!(register.overlaps().await.unwrap(), 0);
}
