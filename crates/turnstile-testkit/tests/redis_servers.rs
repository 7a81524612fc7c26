//! Redis servers: shared, private with options, and with faults.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use redis::{AsyncCommands, Client, RedisResult, aio::MultiplexedConnection};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use turnstile_testkit::redis::{self as servers, Redis};
use turnstile_testkit::unique;

async fn connect(url: &str) -> MultiplexedConnection {
    let options = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    Client::open(url).unwrap().get_multiplexed_async_connection_with_config(&options).await.unwrap()
}

#[tokio::test]
async fn the_shared_server_is_one_for_all_tests_and_outlives_each() {
    let other = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(servers::shared()).unwrap().url()
    });
    let other = other.join().unwrap();
    let shared = servers::shared().await.unwrap();
    assert_eq!(shared.url(), other);
    let key = unique("orders");
    let () = connect(&shared.url()).await.set(&key, 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_starts_on_a_paused_clock() {
    let mut server = Redis::start().await.unwrap();
    server.restart().await.unwrap();
}

#[tokio::test]
async fn a_lost_reply_leaves_the_command_done() {
    let server = servers::shared().await.unwrap();
    let proxy = server.proxy().await.unwrap();
    let (key, mut through) = (unique("orders"), connect(&proxy.url()).await);
    let cut = proxy.cut_reply_to(&key);
    let lost: RedisResult<()> = through.set(&key, "done").await;
    lost.unwrap_err();
    cut.happened().await.unwrap();
    let seen: String = connect(&server.url()).await.get(&key).await.unwrap();
    assert_eq!(seen, "done");
}

#[tokio::test]
async fn a_half_open_proxy_hangs_its_own_clients_only() {
    let server = servers::shared().await.unwrap();
    let proxy = server.proxy().await.unwrap();
    let mut through = connect(&proxy.url()).await;
    proxy.half_open();
    assert!(timeout(Duration::from_millis(150), through.ping::<()>()).await.is_err());
    proxy.until(|stats| stats.swallowed_to_server > 0).await.unwrap();
    let () = connect(&server.url()).await.ping().await.unwrap();
}

#[tokio::test]
async fn a_stopped_server_hangs_and_answers_when_it_goes_on() {
    let server = Redis::start().await.unwrap();
    let mut connection = connect(&server.url()).await;
    server.stop().await.unwrap();
    let ping = tokio::spawn(async move { connection.ping::<String>().await });
    assert!(timeout(Duration::from_millis(150), connect(&server.url())).await.is_err());
    assert!(!ping.is_finished());
    server.cont().await.unwrap();
    assert_eq!(ping.await.unwrap().unwrap(), "PONG");
}

#[tokio::test]
async fn a_killed_server_is_gone_and_comes_back_empty_at_the_same_address() {
    let mut server = Redis::start().await.unwrap();
    let url = server.url();
    let mut connection = connect(&url).await;
    let () = connection.set("key", 1).await.unwrap();
    server.stop().await.unwrap();
    server.kill().await.unwrap();
    server.kill().await.unwrap();
    connection.ping::<()>().await.unwrap_err();
    Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap_err();
    server.stop().await.unwrap_err();
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    assert!(!connect(&url).await.exists::<_, bool>("key").await.unwrap());
}

#[tokio::test]
async fn a_server_with_a_log_keeps_what_it_acknowledged() {
    let options = Redis::builder().config("appendonly", "yes").config("appendfsync", "always");
    let mut server = options.start().await.unwrap();
    let () = connect(&server.url()).await.set("key", 1).await.unwrap();
    server.restart().await.unwrap();
    assert!(connect(&server.url()).await.exists::<_, bool>("key").await.unwrap());
}

#[tokio::test]
async fn a_password_is_wanted_and_stands_in_the_address_only() {
    let server = Redis::builder().password("sesame").start().await.unwrap();
    let () = connect(&server.url()).await.ping().await.unwrap();
    let without = format!("redis://{}:{}", server.host(), server.port());
    let error = connect(&without).await.ping::<()>().await.unwrap_err();
    assert_eq!(error.code(), Some("NOAUTH"));
    assert!(!format!("{server:?}").contains("sesame"));
    let proxy = server.proxy().await.unwrap();
    let () = connect(&proxy.url()).await.ping().await.unwrap();
    assert!(!format!("{proxy:?}").contains("sesame"));
}

#[tokio::test]
async fn a_replica_follows_its_primary_and_refuses_writes() {
    let primary = Redis::builder().password("sesame").start().await.unwrap();
    let replica = Redis::builder().replica_of(&primary).start().await.unwrap();
    let mut connection = connect(&primary.url()).await;
    let () = connection.set("key", 1).await.unwrap();
    // WAIT ends when the replica has it, or with 0 after its limit.
    let followers: i32 = redis::cmd("WAIT").arg(1).arg(30_000).query_async(&mut connection).await.unwrap();
    assert_eq!(followers, 1);
    let mut follower = connect(&replica.url()).await;
    assert!(follower.exists::<_, bool>("key").await.unwrap());
    assert_eq!(follower.set::<_, _, ()>("key", 2).await.unwrap_err().code(), Some("READONLY"));
}

#[tokio::test]
async fn a_cluster_of_one_has_all_slots_also_after_a_restart() {
    let mut server = Redis::builder().cluster().start().await.unwrap();
    let mut connection = connect(&server.url()).await;
    let () = connection.set("{orders}:1", 1).await.unwrap();
    type Node = (String, u16, String, Vec<String>);
    let slots: Vec<(i32, i32, Node)> = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await.unwrap();
    let [(0, 16383, (host, port, ..))] = slots.as_slice() else { panic!("{slots:?}") };
    assert_eq!((host.as_str(), *port), (server.host(), server.port()));
    server.restart().await.unwrap();
    let () = connect(&server.url()).await.set("{orders}:1", 1).await.unwrap();
}

#[tokio::test]
async fn options_that_redis_refuses_come_back_with_its_words() {
    let error = Redis::builder().config("maxmemory-policy", "nonsense").start().await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("ended at once"), "{text}");
}

#[tokio::test]
async fn a_dropped_server_ends() {
    let server = Redis::start().await.unwrap();
    let mut connection = TcpStream::connect((server.host(), server.port())).await.unwrap();
    drop(server);
    // The end of the connection, orderly or not, is the server's.
    let ended = timeout(Duration::from_secs(30), connection.read_u8()).await.unwrap();
    ended.unwrap_err();
}
