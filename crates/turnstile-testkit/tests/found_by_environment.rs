//! Where servers come from, as the environment says, and that none outlives its process. Each case is a process of
//! its own: this test program, told to run one of the roles at the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use turnstile_testkit::child::Child;
use turnstile_testkit::redis::{self, Redis};

/// This program in `role`, with an environment that says nothing about servers.
fn role(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", role, "--ignored", "--nocapture"]);
    for name in ["TURNSTILE_TEST_REDIS_URL", "TURNSTILE_SERVERS", "TURNSTILE_REDIS_SERVER"] {
        command.env_remove(name);
    }
    command
}

/// What the role says of its shared server.
async fn shared_of(mut command: Command, environment: &[(&str, &str)]) -> String {
    command.envs(environment.iter().copied());
    let line = Child::spawn(command).unwrap().line_with("shared: ").await.unwrap();
    line.split_once("shared: ").unwrap().1.to_owned()
}

const NO_ENGINE: (&str, &str) = ("DOCKER_HOST", "unix:///nowhere/docker.sock");

#[tokio::test]
async fn an_address_in_the_environment_is_the_shared_server() {
    let server = Redis::start().await.unwrap();
    let url = server.url();
    let shared = shared_of(role("says_where_the_shared_server_is"), &[("TURNSTILE_TEST_REDIS_URL", &url)]).await;
    assert_eq!(shared, url);
}

#[tokio::test]
async fn without_an_engine_a_local_process_will_do() {
    let shared = shared_of(role("says_where_the_shared_server_is"), &[NO_ENGINE]).await;
    assert!(shared.starts_with("redis://127.0.0.1:1"), "{shared}");
}

#[tokio::test]
async fn containers_that_are_asked_for_are_not_replaced_by_processes() {
    let environment = [NO_ENGINE, ("TURNSTILE_SERVERS", "containers")];
    let shared = shared_of(role("says_where_the_shared_server_is"), &environment).await;
    assert!(shared.contains("no container to be had"), "{shared}");
}

#[tokio::test]
async fn with_neither_the_error_says_what_to_do() {
    let environment = [NO_ENGINE, ("TURNSTILE_REDIS_SERVER", "no-such-redis")];
    let shared = shared_of(role("says_where_the_shared_server_is"), &environment).await;
    for part in ["no Docker engine answers", "no-such-redis", "./justw setup"] {
        assert!(shared.contains(part), "{shared}");
    }
}

#[tokio::test]
async fn a_word_that_is_not_known_is_refused() {
    let shared = shared_of(role("says_where_the_shared_server_is"), &[("TURNSTILE_SERVERS", "docker")]).await;
    assert!(shared.contains("it may be `containers`, `processes` or unset"), "{shared}");
}

#[tokio::test]
async fn nothing_outlives_a_process_that_is_killed() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = role("holds_servers_and_children");
    if let Ok(servers) = std::env::var("TURNSTILE_SERVERS") {
        command.env("TURNSTILE_SERVERS", servers);
    }
    command.stderr(writer);
    let mut holder = Child::spawn(command).unwrap();
    let mut connections = Vec::new();
    for kind in ["shared: ", "private: "] {
        let line = holder.line_with(kind).await.unwrap();
        let address = line.split_once("redis://").unwrap().1.to_owned();
        connections.push(TcpStream::connect(address).await.unwrap());
    }
    holder.line_with("ready").await.unwrap();
    holder.kill().unwrap();
    holder.wait().await.unwrap();
    // A server's connections end with it; the pipe ends with the last process that has it.
    for mut connection in connections {
        timeout(Duration::from_secs(30), connection.read_u8()).await.unwrap().unwrap_err();
    }
    let read = tokio::task::spawn_blocking(move || std::io::read_to_string(reader));
    timeout(Duration::from_secs(30), read).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
#[ignore = "a role that the tests above give to a process of its own"]
async fn says_where_the_shared_server_is() {
    match redis::shared().await {
        Ok(redis) => println!("shared: {}", redis.url()),
        Err(error) => println!("shared: {error:#}"),
    }
}

#[tokio::test]
#[ignore = "a role that a test above gives to a process of its own, and kills"]
async fn holds_servers_and_children() {
    println!("shared: {}", redis::shared().await.unwrap().url());
    let server = Redis::start().await.unwrap();
    println!("private: {}", server.url());
    let mut command = Command::new("sleep");
    command.arg("1000");
    let mut child = Child::spawn(command).unwrap();
    println!("ready");
    child.wait().await.unwrap();
}
