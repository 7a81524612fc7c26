//! Locks on a Redis Cluster of three nodes. Needs redis-server and redis-cli on the PATH.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use redis_lock::{Client, ErrorKind, Lock, LockError, RedisLocks, ReleaseOutcome};
use redis_pubsub_lock::{FairLocks, LockEvent};
use redis_semaphore::Semaphores;
use tempfile::TempDir;
use tokio::time::timeout;
use turnstile_integration_tests::{LONG, SAFETY_NET, connect, long, name, run, ttl, until, until_renewed};

struct Node {
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl Node {
    fn start(port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = std::env::var("TURNSTILE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(program)
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--cluster-enabled",
                "yes",
                "--dir",
            ])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server on the PATH");
        Self { port, child, _dir: dir }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn three_nodes() -> Vec<Node> {
    // Below the range of outgoing connections, those of the cluster's bus (10,000 above) too.
    let free = |port: &u16| [*port, *port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    // Each test has a range of its own.
    static STARTED: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + u16::try_from(std::process::id() % 1_000).unwrap();
    let first = first + 100 * STARTED.fetch_add(1, Ordering::Relaxed);
    let nodes: Vec<_> = (first..first + 100).filter(free).take(3).map(Node::start).collect();
    for node in &nodes {
        let client = Client::new(node.url()).unwrap();
        until("the node answers", async || client.ready().await.is_ok()).await;
    }
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
    let create = Command::new("redis-cli").args(["--cluster", "create"]).args(addresses).arg("--cluster-yes").output();
    let created = create.expect("redis-cli on the PATH");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    for node in &nodes {
        let client = connect(node.url()).await;
        until("the cluster is whole", async || {
            run::<String>(&client, "CLUSTER INFO").await.contains("cluster_state:ok")
        })
        .await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_work_on_all_nodes_and_leases_of_all_slots_are_renewed_together() {
    let nodes = three_nodes().await;
    let process = async || RedisLocks::new(Client::cluster(nodes.iter().map(Node::url)).connect().await.unwrap());
    let (ours, theirs) = (process().await, process().await);

    let mut leases = Vec::new();
    for nth in 0..60 {
        let name = name("spread");
        let lock = if nth % 3 == 0 { ours.read(&name) } else { ours.lock(&name) };
        leases.push(lock.unwrap().with_options(ttl(4_000)).acquire().await.unwrap());
        assert!(theirs.lock(&name).unwrap().try_acquire().await.unwrap().is_none());
    }
    for node in &nodes {
        let client = connect(node.url()).await;
        assert!(run::<u32>(&client, "DBSIZE").await > 0, "every node has some");
        run::<()>(&client, "SCRIPT FLUSH").await;
    }
    until_renewed(&leases[0], 4).await;
    for lease in leases {
        lease.check().unwrap();
        assert_eq!(theirs.who(lease.name()).await.unwrap()[0].owner, lease.owner().to_string());
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }

    // Several at once, as far as they share a slot.
    let tenant = name("tenant");
    let tagged = ["a", "b"].map(|end| format!("{{{tenant}}}:{end}"));
    let lease = ours.all(&tagged).unwrap().with_options(ttl(4_000)).acquire().await.unwrap();
    assert!(theirs.lock(&tagged[1]).unwrap().try_acquire().await.unwrap().is_none());
    until_renewed(&lease, 1).await;
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    let error = ours.all(["a", "b"]).map(drop).unwrap_err();
    assert!(matches!(error, LockError::Slots { .. }), "{error}");
    assert!(error.to_string().contains("give both names one hash tag"), "{error}");

    // WAIT is asked of one node, not of the one that granted.
    let client = Client::cluster(nodes.iter().map(Node::url)).connect().await.unwrap();
    let confirmed = RedisLocks::builder(client).replicas(1, LONG).build();
    let refused = confirmed.lock(name("confirmed")).unwrap().try_acquire().await.map(drop);
    assert_eq!(turnstile_integration_tests::refusal(refused).kind(), ErrorKind::Unsupported);

    // A client that knows nothing of clusters is told.
    let single = RedisLocks::new(connect(nodes[0].url()).await);
    let mut told = false;
    for nth in 0..100 {
        match single.lock(format!("moved {nth}")).unwrap().with_options(long()).try_acquire().await {
            Ok(lease) => drop(lease),
            Err(error) => {
                let error = turnstile_integration_tests::refusal::<()>(Err(error));
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(error.to_string().contains("Client::cluster (feature `cluster`)"), "{error}");
                told = true;
            }
        }
    }
    assert!(told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fair_locks_of_all_slots_are_handed_on_by_sharded_messages() {
    let nodes = three_nodes().await;
    let process = async || {
        let client = Client::cluster(nodes.iter().map(Node::url)).connect().await.unwrap();
        // Without the timed check, each message counts.
        FairLocks::builder(client).heartbeat(Duration::from_secs(3_600)).build()
    };
    let (ours, theirs) = (process().await, process().await);
    let names: Vec<_> = (0..30).map(|_| name("fair")).collect();
    let mut watch = theirs.watch(&names[0]).await.unwrap();
    let mut held = Vec::new();
    for name in &names {
        held.push(ours.lock(name).unwrap().with_options(ttl(4_000)).acquire().await.unwrap());
    }
    assert!(matches!(watch.next().await, LockEvent::Acquired(_)));
    let mut waiting = Vec::new();
    for name in &names {
        let lock = theirs.lock(name).unwrap().with_options(ttl(4_000));
        waiting.push(tokio::spawn(async move { lock.acquire().await.unwrap() }));
        until("it waits", async || ours.queue(name).await.unwrap().len() == 1).await;
    }
    for node in &nodes {
        let client = connect(node.url()).await;
        assert!(run::<u32>(&client, "DBSIZE").await > 0, "every node has some");
        run::<u32>(&client, "CLIENT KILL TYPE pubsub").await;
        run::<()>(&client, "SCRIPT FLUSH").await;
    }
    until_renewed(&held[0], 4).await;
    for lease in held {
        lease.release().await.unwrap();
    }
    for waiting in waiting {
        let lease = timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
        assert_eq!(lease.fencing_token().get(), 2);
        lease.release().await.unwrap();
    }
}

#[tokio::test]
async fn permits_of_all_slots_are_handed_on_by_sharded_messages() {
    let nodes = three_nodes().await;
    let process = async || {
        let client = Client::cluster(nodes.iter().map(Node::url)).connect().await.unwrap();
        // Without the timed check, each message counts.
        Semaphores::builder(client).heartbeat(Duration::from_secs(3_600)).build()
    };
    let (ours, theirs) = (process().await, process().await);
    let names: Vec<_> = (0..30).map(|_| name("permits")).collect();
    let (mut held, mut waiting) = (Vec::new(), Vec::new());
    for name in &names {
        held.push(ours.by_set(name, 2).unwrap().with_options(ttl(4_000)).acquire_many(2).await.unwrap());
    }
    for name in &names {
        let semaphore = theirs.by_set(name, 2).unwrap().with_options(ttl(4_000));
        waiting.push(tokio::spawn(async move { semaphore.acquire_many(2).await.unwrap() }));
        until("it waits", async || ours.state(name).await.unwrap().queue.len() == 1).await;
    }
    until_renewed(&held[0], 4).await;
    for lease in held {
        lease.release().await.unwrap();
    }
    for waiting in waiting {
        let lease = timeout(SAFETY_NET, waiting).await.unwrap().unwrap();
        assert_eq!(lease.fencing_token().get(), 2);
        lease.release().await.unwrap();
    }
}
