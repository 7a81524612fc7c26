//! What a client does when its server, or its connection, goes away: it says so in time, and comes back by itself.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis_lua::redis::cmd;
use redis_lua::{Client, Script};
use support::{name, run, until};
use tokio::sync::Barrier;
use turnstile_core::ErrorKind;
use turnstile_testkit::proxy::Direction;
use turnstile_testkit::redis::{Redis, Server};

static ADD: Script = Script::new("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])");

async fn private() -> Server {
    Redis::start().await.unwrap()
}

/// A client that looks on, and is not among those that are killed.
async fn observer(server: &Server) -> Client {
    Client::connect(server.url()).await.unwrap()
}

/// Kills all connections but the observer's.
async fn kill_others(observer: &Client) {
    run::<u32>(observer, "CLIENT KILL TYPE normal SKIPME yes").await;
}

async fn works(client: &Client) -> bool {
    client.run::<String>(&cmd("PING")).await.is_ok()
}

#[tokio::test]
async fn a_connection_lost_in_idleness_is_replaced_unnoticed() {
    let server = private().await;
    let observer = observer(&server).await;
    let client = Client::connect(server.url()).await.unwrap();
    for _ in 0..5 {
        kill_others(&observer).await;
        until("the loss is known", async || !client.is_connected()).await;
        let pong: String = run(&client, "PING").await;
        assert_eq!(pong, "PONG");
    }
}

#[tokio::test]
async fn without_resp3_the_first_command_fails_and_the_next_does_not() {
    let server = private().await;
    let observer = observer(&server).await;
    let client = Client::connect(format!("{}?protocol=resp2", server.url())).await.unwrap();
    kill_others(&observer).await;
    let error = client.run::<String>(&cmd("PING")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.outcome_unknown() && error.is_transient(), "{error}");
    run::<String>(&client, "PING").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_that_see_a_connection_die_make_one_new() {
    let server = private().await;
    let proxy = server.proxy().await.unwrap();
    let client = Client::builder(proxy.url()).response_timeout(Duration::from_secs(30)).connect().await.unwrap();
    run::<()>(&client, "PING").await;
    let before = proxy.stats();

    // All are under way when it dies: their commands are held back, then the connection is cut.
    proxy.hold(Direction::ToServer);
    let started = Arc::new(Barrier::new(1001));
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let (client, started) = (client.clone(), Arc::clone(&started));
            tokio::spawn(async move {
                started.wait().await;
                let first = client.run::<String>(&cmd("PING")).await;
                let second = client.run::<String>(&cmd("PING")).await;
                (first, second)
            })
        })
        .collect();
    started.wait().await;
    tokio::task::yield_now().await;
    proxy.cut();
    proxy.pass();
    let mut lost = 0;
    for outcome in futures_util::future::join_all(tasks).await {
        let (first, second) = outcome.unwrap();
        lost += u32::from(first.is_err());
        second.unwrap();
    }
    assert!(lost > 0, "some saw it die");
    let made = proxy.stats().connections - before.connections;
    assert_eq!(made, 1, "connections made for one loss that {lost} tasks saw");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_rain_of_kills_what_is_answered_has_happened_once() {
    let server = private().await;
    let observer = observer(&server).await;
    let client = Client::connect(server.url()).await.unwrap();
    let raining = tokio::spawn(async move {
        for _ in 0..30 {
            kill_others(&observer).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let tasks = (0..32).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let key = name("kills");
            let (mut done, mut unknown) = (0, 0);
            while done < 200 {
                match ADD.keys([&key]).arg(1).run::<i64>(&client).await {
                    Ok(_) => done += 1,
                    Err(error) if error.outcome_unknown() => unknown += 1,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
            let sum: i64 = ADD.keys([&key]).arg(0).run(&client).await.unwrap_or(done);
            assert!((done..=done + unknown).contains(&sum), "{done} answered, {unknown} unknown, {sum} happened");
        })
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap();
    }
    raining.await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_told_and_met_later() {
    let mut server = private().await;
    let url = server.url();
    server.kill().await.unwrap();

    let error = Client::connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains(&format!("127.0.0.1:{}", server.port())), "{error}");
    assert!(!error.outcome_unknown(), "nothing was sent");

    let lazy = Client::new(&url).unwrap();
    let limit = Duration::from_secs(2);
    for _ in 0..8 {
        let started = Instant::now();
        let error = lazy.run::<()>(&cmd("PING")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(started.elapsed() < limit + Duration::from_secs(5), "an error, and no hanging");
    }
    server.restart().await.unwrap();
    until("the lazy client is connected", async || works(&lazy).await).await;
}

#[tokio::test]
async fn a_server_that_dies_and_restarts_is_met_again() {
    let mut server = private().await;
    let client = Client::connect(server.url()).await.unwrap();
    let key = name("restart");
    ADD.keys([&key]).arg(1).run::<i64>(&client).await.unwrap();
    server.kill().await.unwrap();
    let error = ADD.keys([&key]).arg(1).run::<i64>(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");

    server.restart().await.unwrap();
    until("the client is connected", async || works(&client).await).await;
    let sum: i64 = ADD.keys([&key]).arg(1).run(&client).await.unwrap();
    assert_eq!(sum, 1, "the new server knows neither data nor script, and learns it");
}

#[tokio::test]
async fn a_server_that_hangs_is_told_in_time_and_met_again_when_it_goes_on() {
    let server = private().await;
    let limit = Duration::from_millis(200);
    let client = Client::builder(server.url()).response_timeout(limit).connect_timeout(limit).connect().await.unwrap();
    server.stop().await.unwrap();
    for _ in 0..3 {
        let error = client.run::<()>(&cmd("PING")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.outcome_unknown() && error.to_string().contains("within 200ms"), "{error}");
    }
    let error = Client::builder(server.url()).connect_timeout(limit).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");

    server.cont().await.unwrap();
    until("it answers again", async || works(&client).await).await;
}

#[tokio::test]
async fn a_dead_network_is_left_for_a_new_connection() {
    let server = private().await;
    let proxy = server.proxy().await.unwrap();
    let limit = Duration::from_millis(200);
    let client = Client::builder(proxy.url()).response_timeout(limit).connect().await.unwrap();
    proxy.half_open();
    let error = client.run::<()>(&cmd("PING")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    proxy.pass();
    until("another connection is there", async || works(&client).await).await;
}

#[tokio::test]
async fn a_lost_reply_is_an_unknown_outcome() {
    let server = private().await;
    let proxy = server.proxy().await.unwrap();
    let client = Client::connect(proxy.url()).await.unwrap();
    let key = name("lost");
    ADD.keys([&key]).arg(1).run::<i64>(&client).await.unwrap();
    let cut = proxy.cut_reply();
    let error = ADD.keys([&key]).arg(1).run::<i64>(&client).await.unwrap_err();
    cut.happened().await.unwrap();
    assert!(error.outcome_unknown(), "{error}");
    let sum: i64 = ADD.keys([&key]).arg(0).run(&client).await.unwrap();
    assert_eq!(sum, 2, "it had happened");
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_end_the_attempt() {
    let server = private().await;
    let client = Client::new(server.url()).unwrap();
    let ping = cmd("PING");
    let impatient = tokio::time::timeout(Duration::ZERO, client.run::<()>(&ping)).await;
    assert!(impatient.is_err());
    until("the attempt has ended well", async || client.is_connected()).await;
}

#[tokio::test]
async fn a_dedicated_connection_blocks_longer_than_a_reply_may_take() {
    let server = private().await;
    let client = Client::builder(server.url()).response_timeout(Duration::from_millis(50)).connect().await.unwrap();
    let key = name("blocked");
    let mut dedicated = client.dedicated(None).await.unwrap();
    let reading = tokio::spawn({
        let key = key.clone();
        async move { dedicated.run::<(String, u8)>(cmd("BLPOP").arg(key.as_key()).arg(30)).await }
    });
    until("it blocks", async || run::<String>(&client, "INFO clients").await.contains("blocked_clients:1")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.run::<()>(cmd("RPUSH").arg(key.as_key()).arg(7)).await.unwrap();
    assert_eq!(reading.await.unwrap().unwrap(), (key.as_key().to_owned(), 7));

    let mut limited = client.dedicated(Some(Duration::from_millis(50))).await.unwrap();
    let error = limited.run::<()>(cmd("BLPOP").arg(key.as_key()).arg(30)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[tokio::test]
async fn a_subscription_gets_what_the_shared_connection_publishes() {
    use futures_util::StreamExt;
    let server = private().await;
    let client = Client::connect(server.url()).await.unwrap();
    let channel = turnstile_testkit::unique("channel");
    let mut pubsub = client.pubsub().await.unwrap();
    pubsub.subscribe(&channel).await.unwrap();
    let heard: u32 = client.run(cmd("PUBLISH").arg(&channel).arg("hello")).await.unwrap();
    assert_eq!(heard, 1);
    let message = pubsub.on_message().next().await.unwrap();
    assert_eq!(message.get_payload::<String>().unwrap(), "hello");
}
