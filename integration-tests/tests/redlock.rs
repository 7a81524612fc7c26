//! Mutual exclusion over a quorum across processes that are killed and stopped, while a minority of the nodes is too: by
//! the word of an oracle outside the lock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use turnstile_integration_tests::{Oracle, connect, name};
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

/// Waits for so many grants of each, and gives the last token.
async fn granted(children: &mut [Child], times: usize) -> u64 {
    let mut last = 0;
    for _ in 0..times {
        for child in &mut *children {
            let line = child.line_with("granted").await.unwrap();
            last = last.max(line.split(' ').nth(1).unwrap().parse().unwrap());
        }
    }
    last
}

#[tokio::test]
async fn processes_never_hold_at_once_whatever_a_minority_of_nodes_and_of_processes_does() {
    let (oracle, mut nodes, name) = (shared().await.unwrap(), five().await, name("redlock"));
    let register = Oracle::new(connect(oracle.url()).await, &format!("{name}/oracle")).unwrap();
    let mut killed = [holder(&name, &oracle, &nodes)];
    let mut stopped = [holder(&name, &oracle, &nodes)];
    let mut others = [holder(&name, &oracle, &nodes), holder(&name, &oracle, &nodes)];
    for children in [&mut killed[..], &mut stopped, &mut others] {
        granted(children, 1).await;
    }
    // Processes, wherever they are at: waiting, holding, giving back.
    killed[0].kill().unwrap();
    stopped[0].stop().unwrap();
    granted(&mut others, 5).await;
    // A minority of the nodes.
    nodes[0].kill().await.unwrap();
    nodes[1].stop().await.unwrap();
    granted(&mut others, 10).await;
    stopped[0].cont().unwrap();
    let before = granted(&mut stopped, 1).await.max(granted(&mut others, 1).await);
    // And another one.
    nodes[0].restart().await.unwrap();
    nodes[1].cont().await.unwrap();
    granted(&mut others, 5).await;
    nodes[2].stop().await.unwrap();
    let after = granted(&mut others, 5).await;
    granted(&mut stopped, 1).await;
    nodes[2].cont().await.unwrap();
    assert!(after > before);
    assert_eq!(register.overlaps().await.unwrap(), 0);
}
