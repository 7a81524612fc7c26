//! What a server may refuse, and what is said then: the kind, what to do, and never a password.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use redis_lua::redis::cmd;
use redis_lua::{Client, Error, Script};
use support::{Log, client, name, run, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turnstile_core::{BackendError, ErrorKind};
use turnstile_testkit::redis::{Redis, Server};

static PUT: Script = Script::new("put", "return redis.call('SET', KEYS[1], ARGV[1])");

async fn put(client: &Client) -> Result<(), Error> {
    PUT.keys([&name("put")]).arg("x").run(client).await
}

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, words: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "no {words:?} in: {error}");
    assert!(!error.to_string().contains('\n'), "one line");
    assert!(!error.outcome_unknown());
    let backend = BackendError::from(error.clone());
    assert_eq!((backend.kind(), backend.to_string()), (kind, error.to_string()));
}

fn with_user(server: &Redis, user: &str) -> String {
    format!("redis://{user}@{}:{}", server.host(), server.port())
}

#[tokio::test]
async fn a_password_that_lacks_or_is_wrong_is_told_and_none_is_shown() {
    let log = Log::capture();
    let server = Redis::builder().password("s3cretOfTheServer").start().await.unwrap();
    let none = Client::connect(with_user(&server, "").replace('@', "")).await.unwrap_err();
    assert_says(&none, ErrorKind::Denied, "give it in the URL, redis://:PASSWORD@HOST");

    let wrong_url = with_user(&server, ":wr%2Fong-s3cret");
    let wrong = Client::connect(&wrong_url).await.unwrap_err();
    assert_says(&wrong, ErrorKind::Denied, "does not take this user name and password");
    let resp2 = Client::connect(format!("{wrong_url}?protocol=resp2")).await.unwrap_err();
    assert_says(&resp2, ErrorKind::Denied, "does not take this user name and password");

    let right = Client::connect(server.url()).await.unwrap();
    run::<()>(&right, "PING").await;
    let builder = Client::builder(with_user(&server, "default")).password("s3cretOfTheServer");
    run::<()>(&builder.clone().connect().await.unwrap(), "PING").await;
    let lazy = Client::new(&wrong_url).unwrap();
    let later = put(&lazy).await.unwrap_err();

    let mut shown =
        format!("{none:?}{wrong:?}{wrong:#?}{resp2:?}{later:?}{later}{right:?}{lazy:#?}{builder:?}{builder:#?}");
    for error in [&none, &wrong, &resp2, &later] {
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            shown += &format!("{error} {error:?}");
            cause = error.source();
        }
    }
    shown += &log.text();
    assert!(log.text().contains("not connected"), "the log is captured: {}", log.text());
    for secret in ["s3cret", "wr/ong", "wr%2F"] {
        assert!(!shown.contains(secret), "{secret} in: {shown}");
    }
}

#[tokio::test]
async fn a_password_that_the_server_echoes_is_cut_out() {
    // As a server does on which AUTH was renamed away.
    let url =
        fake_server(|_| "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'echoed-s3cret'\r\n").await;
    let error = Client::connect(url.replace("//", "//:echoed-s3cret@")).await.unwrap_err();
    assert!(!format!("{error} {error:?} {:?}", std::error::Error::source(&error)).contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn a_url_that_makes_no_sense_is_told_without_showing_it() {
    for url in ["", "nonsense:s3cret", "http://:s3cret@host", "redis://:s3cret@host:port", "redis://:s3c/ret@h"] {
        let error = Client::new(url).unwrap_err();
        assert_says(&error, ErrorKind::Invalid, "percent-encode");
        assert!(!format!("{error} {error:?}").contains("s3c"), "{error}");
    }
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn tls_without_its_feature_is_told() {
    assert_says(&Client::new("rediss://:s3cret@host").unwrap_err(), ErrorKind::Unsupported, "feature `tls`");
}

#[tokio::test]
async fn access_rules_that_forbid_a_script_are_told_with_what_to_allow() {
    let server = Redis::start().await.unwrap();
    let admin = Client::connect(server.url()).await.unwrap();
    run::<()>(&admin, "ACL SETUSER noscripts on >pw ~* &* +@all -evalsha -eval").await;
    let error = put(&Client::connect(with_user(&server, "noscripts:pw")).await.unwrap()).await.unwrap_err();
    assert_says(&error, ErrorKind::Denied, "+evalsha +eval (or +@scripting)");
    assert!(error.to_string().contains("`put`"), "{error}");

    run::<()>(&admin, "ACL SETUSER noset on >pw ~* &* +@all -set").await;
    let within = put(&Client::connect(with_user(&server, "noset:pw")).await.unwrap()).await.unwrap_err();
    assert_says(&within, ErrorKind::Denied, "the commands that the script calls");

    run::<()>(&admin, "ACL SETUSER nokeys on >pw ~other:* &* +@all").await;
    let keys = put(&Client::connect(with_user(&server, "nokeys:pw")).await.unwrap()).await.unwrap_err();
    assert_says(&keys, ErrorKind::Denied, "~PATTERN");

    run::<()>(&admin, "ACL SETUSER bare on >pw ~* +evalsha +eval +set").await;
    let bare = Client::connect(with_user(&server, "bare:pw")).await.unwrap();
    put(&bare).await.unwrap();
    let command = bare.run::<()>(&cmd("INFO")).await.unwrap_err();
    assert_says(&command, ErrorKind::Denied, "the command INFO");
}

#[tokio::test]
async fn a_replica_is_told_and_looked_for_anew() {
    let (primary, replica);
    primary = Redis::start().await.unwrap();
    replica = Redis::builder().replica_of(&primary).start().await.unwrap();
    let client = Client::connect(replica.url()).await.unwrap();
    until("the replica is in step", async || {
        run::<String>(&client, "INFO replication").await.contains("link_status:up")
    })
    .await;
    for _ in 0..5 {
        assert_says(&put(&client).await.unwrap_err(), ErrorKind::NotReady, "read-only replica");
    }
    run::<String>(&client, "PING").await;
    run::<()>(&client, "REPLICAOF NO ONE").await;
    put(&client).await.unwrap();
}

#[tokio::test]
async fn a_server_out_of_memory_is_told() {
    let server = Redis::start().await.unwrap();
    let client = Client::connect(server.url()).await.unwrap();
    run::<()>(&client, "CONFIG SET maxmemory-policy noeviction").await;
    run::<()>(&client, "CONFIG SET maxmemory 1").await;
    assert_says(&put(&client).await.unwrap_err(), ErrorKind::OutOfMemory, "raise `maxmemory`");
    let plain = client.run::<()>(cmd("SET").arg("a").arg("b")).await.unwrap_err();
    assert_says(&plain, ErrorKind::OutOfMemory, "raise `maxmemory`");
}

#[tokio::test]
async fn a_key_of_another_type_is_told_by_its_name() {
    let client = client().await;
    let key = name("other type");
    client.run::<()>(cmd("RPUSH").arg(key.as_key()).arg(1)).await.unwrap();
    for source in [
        "return redis.call('GET', KEYS[1])",
        "return redis.pcall('GET', KEYS[1])",
        "local r = redis.pcall('GET', KEYS[1]) return redis.error_reply('it said: ' .. r.err)",
        "local ok, e = pcall(redis.call, 'GET', KEYS[1]) error(type(e) == 'table' and e.err or e)",
    ] {
        let get = Script::new("get", source);
        let error = get.keys([&key]).run::<()>(&client).await.unwrap_err();
        assert_says(&error, ErrorKind::WrongType, key.as_key());
        assert!(error.to_string().contains("choose another, or delete the key"), "{error}");
    }
    let plain = client.run::<()>(cmd("GET").arg(key.as_key())).await.unwrap_err();
    assert_says(&plain, ErrorKind::WrongType, key.as_key());
}

#[tokio::test]
async fn a_mistake_in_a_script_is_told_with_its_name() {
    let client = client().await;
    for (source, words) in
        [("this is no Lua", "compiling"), ("return nothing()", "nothing"), ("error('so it is')", "so it is")]
    {
        let error = Script::new("broken", source).keys([&name("broken")]).run::<()>(&client).await.unwrap_err();
        assert_says(&error, ErrorKind::Other, words);
        assert!(error.to_string().contains("`broken`"), "{error}");
    }
}

#[tokio::test]
async fn a_server_busy_with_a_script_is_told() {
    let server = Redis::builder().config("busy-reply-threshold", "20").start().await.unwrap();
    let client = Client::connect(server.url()).await.unwrap();
    let endless = Script::new("endless", "while true do end");
    let running = tokio::spawn({
        let client = Client::connect(server.url()).await.unwrap();
        async move { endless.keys([&name("endless")]).run::<()>(&client).await }
    });
    until(
        "the server is busy",
        async || matches!(client.run::<()>(&cmd("PING")).await, Err(error) if error.to_string().contains("BUSY")),
    )
    .await;
    assert_says(&put(&client).await.unwrap_err(), ErrorKind::NotReady, "SCRIPT KILL");
    run::<()>(&client, "SCRIPT KILL").await;
    assert!(running.await.unwrap().is_err());
    put(&client).await.unwrap();
}

#[tokio::test]
async fn a_server_full_of_clients_is_told() {
    let server = Redis::start().await.unwrap();
    let client = Client::connect(server.url()).await.unwrap();
    run::<()>(&client, "CONFIG SET maxclients 1").await;
    // It says why and closes at once; most often its words are lost on the way.
    let error = Client::connect(server.url()).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("`maxclients`"), "{error}");
}

#[tokio::test]
async fn a_server_older_than_seven_is_refused_by_connect_and_by_a_lazy_client() {
    let url = fake_server(|command| match command {
        text if text.contains("INFO") => "$22\r\nredis_version:6.2.14\r\n\r\n",
        _ => "+OK\r\n",
    })
    .await;
    let url = format!("{url}?protocol=resp2");
    let says = |error| assert_says(&error, ErrorKind::Unsupported, "runs Redis 6.2.14: 7.0 or later is wanted");
    says(Client::connect(&url).await.unwrap_err());
    says(put(&Client::new(&url).unwrap()).await.unwrap_err());
}

#[tokio::test]
async fn something_else_than_redis_is_told() {
    let url = fake_server(|_| "HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = Client::connect(url).await.unwrap_err();
    assert_says(&error, ErrorKind::Unreachable, "does not speak Redis's protocol");
}

#[tokio::test]
async fn a_node_of_a_cluster_is_told_on_its_first_redirection() {
    let server: Server = Redis::builder().config("cluster-enabled", "yes").start().await.unwrap();
    let client = Client::connect(server.url()).await.unwrap();
    // Without slots it knows of no other node to send us to.
    assert_says(&put(&client).await.unwrap_err(), ErrorKind::NotReady, "failing over or moving keys");
}

#[tokio::test]
async fn a_redirection_is_told_with_the_remedy() {
    let url = fake_server(|command| match command {
        text if text.contains("SET") && text.contains("put") => "-MOVED 3999 127.0.0.1:6381\r\n",
        text if text.contains("INFO") => "$21\r\nredis_version:7.2.4\r\n\r\n",
        _ => "+OK\r\n",
    })
    .await;
    let client = Client::connect(format!("{url}?protocol=resp2")).await.unwrap();
    let error = client.run::<()>(cmd("SET").arg("put").arg(1)).await.unwrap_err();
    assert_says(&error, ErrorKind::Unsupported, "Client::cluster (feature `cluster`)");
}

/// Something that listens and answers each command, or pipeline, as told.
async fn fake_server(answer: impl Fn(&str) -> &'static str + Send + Sync + Clone + 'static) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    // One answer for each command of a pipeline.
                    for command in text.split('*').skip(1) {
                        if socket.write_all(answer(command).as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    url
}
