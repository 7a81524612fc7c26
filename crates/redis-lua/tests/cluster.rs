//! Scripts on a cluster of three nodes. Needs redis-server and redis-cli on the PATH.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/local.rs"]
mod local;
mod support;

use std::process::Command;
use std::time::Duration;

use local::Local;
use redis_lua::redis::cmd;
use redis_lua::{Client, GuardedWrite, Name, Script};
use support::{name, run, until};
use turnstile_core::{ErrorKind, FencingToken};

static PUT: Script =
    Script::new("put", "for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1]) end return #KEYS");

async fn three_nodes() -> [Local; 3] {
    let start = || Local::plain(&["--cluster-enabled yes", "--cluster-node-timeout 2000"]);
    let nodes = [start(), start(), start()];
    for node in &nodes {
        let client = Client::new(node.url()).unwrap();
        until("the node answers", async || client.run::<()>(&cmd("PING")).await.is_ok()).await;
    }
    let created = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)))
        .arg("--cluster-yes")
        .output()
        .expect("redis-cli on the PATH");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    for node in &nodes {
        let client = Client::connect(node.url()).await.unwrap();
        until("the cluster is whole", async || {
            run::<String>(&client, "CLUSTER INFO").await.contains("cluster_state:ok")
        })
        .await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_run_where_their_keys_live() {
    let mut nodes = three_nodes().await;
    let client = Client::cluster(nodes.iter().map(Local::url)).connect().await.unwrap();
    assert!(client.is_cluster());

    // Each node learns the script at its first call, and again after it has forgotten it.
    for _ in 0..2 {
        for i in 0..60 {
            let key = name(&format!("spread {i}"));
            assert_eq!(PUT.keys([(&key).into(), key.key("fence")]).arg(i).run::<u8>(&client).await.unwrap(), 2);
            let found: u8 = client.run(cmd("GET").arg(key.key("fence"))).await.unwrap();
            assert_eq!(found, i);
        }
        for node in &nodes {
            run::<()>(&Client::connect(node.url()).await.unwrap(), "SCRIPT FLUSH").await;
        }
    }
    for node in &nodes {
        let count: u32 = run(&Client::connect(node.url()).await.unwrap(), "DBSIZE").await;
        assert!(count > 0, "every node has had some");
    }

    let tagged = ["a", "b"].map(|end| Name::new(format!("{{tenant}}:{end}")).unwrap());
    assert_eq!(PUT.keys(&tagged).arg(1).run::<u8>(&client).await.unwrap(), 2);
    assert_eq!(PUT.keys_of_any_tag(&tagged).arg(1).run::<u8>(&client).await.unwrap(), 2);
    let error = PUT.keys_of_any_tag(&[name("a"), name("b")]).arg(1).run::<u8>(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("same tag in braces"), "{error}");

    let slot: u16 = client.run(cmd("CLUSTER").arg("KEYSLOT").arg(tagged[0].as_key())).await.unwrap();
    assert_eq!(slot, tagged[0].slot());

    let guarded = GuardedWrite::new(name("guarded"));
    assert!(guarded.set(&client, FencingToken::new(2), "x").await.unwrap().is_done());
    assert!(!guarded.set(&client, FencingToken::new(1), "y").await.unwrap().is_done());

    let mut pubsub = client.pubsub().await.unwrap();
    pubsub.subscribe("channel").await.unwrap();
    client.run::<()>(cmd("PUBLISH").arg("channel").arg("x")).await.unwrap();
    let message = futures_util::StreamExt::next(&mut pubsub.on_message()).await.unwrap();
    assert_eq!(message.get_payload::<String>().unwrap(), "x");

    let key = name("blocked");
    let mut dedicated = client.dedicated(Some(Duration::from_secs(5))).await.unwrap();
    let blocked = dedicated.run::<Option<(String, u8)>>(cmd("BLPOP").arg(key.as_key()).arg(1)).await.unwrap();
    assert_eq!(blocked, None, "after a second, longer than a shared connection waits");

    // Told as what it is by a client that knows nothing of clusters.
    let single = Client::connect(nodes[0].url()).await.unwrap();
    let moved = (0..100).map(|i| name(&format!("moved {i}")));
    let mut told = false;
    for key in moved {
        if let Err(error) = PUT.keys([&key]).arg(1).run::<u8>(&single).await {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            told = true;
        }
    }
    assert!(told);

    // A node dies: what lived there is told in time, the rest goes on where the cluster lets it.
    nodes[0].kill();
    until("the loss is told", async || {
        let key = name("orphan");
        match PUT.keys([&key]).arg(1).run::<u8>(&client).await {
            Ok(_) => false,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                true
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_told() {
    let client = Client::cluster(["redis://:s3cret@127.0.0.1:1", "redis://:s3cret@127.0.0.1:2"]);
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("127.0.0.1:1, 127.0.0.1:2"), "{error}");
    assert!(!format!("{error:?}").contains("s3cret"));
}
