//! Where a Kafka comes from, as the environment says, and that none outlives its process. Each case is a process of
//! its own: this test program, told to run one of the roles at the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use turnstile_testkit::child::Child;
use turnstile_testkit::kafka::{self, Cluster, Kafka};

/// This program in `role`, with an environment that says nothing about servers.
fn role(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", role, "--ignored", "--nocapture"]);
    for name in ["TURNSTILE_TEST_KAFKA_BROKERS", "TURNSTILE_SERVERS", "TURNSTILE_KAFKA_LIBS"] {
        command.env_remove(name);
    }
    command
}

/// What the role says of its shared broker.
async fn shared_of(environment: &[(&str, &str)]) -> String {
    let mut command = role("says_where_the_shared_broker_is");
    command.envs(environment.iter().copied());
    let line = Child::spawn(command).unwrap().line_with("shared: ").await.unwrap();
    line.split_once("shared: ").unwrap().1.to_owned()
}

const NO_ENGINE: (&str, &str) = ("DOCKER_HOST", "unix:///nowhere/docker.sock");

#[tokio::test]
async fn an_address_in_the_environment_is_the_shared_broker() {
    let server = Kafka::start().await.unwrap();
    let brokers = server.brokers();
    assert_eq!(shared_of(&[("TURNSTILE_TEST_KAFKA_BROKERS", &brokers)]).await, brokers);
}

#[tokio::test]
async fn without_an_engine_a_local_process_will_do() {
    let shared = shared_of(&[NO_ENGINE]).await;
    assert!(shared.starts_with("127.0.0.1:1"), "{shared}");
}

#[tokio::test]
async fn containers_that_are_asked_for_are_not_replaced_by_processes() {
    let shared = shared_of(&[NO_ENGINE, ("TURNSTILE_SERVERS", "containers")]).await;
    assert!(shared.contains("no container to be had"), "{shared}");
}

#[tokio::test]
async fn with_neither_the_error_says_what_to_do() {
    let nothing = tempfile::tempdir().unwrap();
    let shared = shared_of(&[NO_ENGINE, ("TURNSTILE_KAFKA_LIBS", nothing.path().to_str().unwrap())]).await;
    for part in ["no Docker engine answers", "no jars of Kafka", "./justw setup"] {
        assert!(shared.contains(part), "{shared}");
    }
}

#[tokio::test]
async fn without_java_or_with_an_old_one_the_error_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let environment = [NO_ENGINE, ("JAVA_HOME", home.path().to_str().unwrap())];
    let shared = shared_of(&environment).await;
    assert!(shared.contains("cannot run") && shared.contains("./justw setup"), "{shared}");

    let java = home.path().join("bin/java");
    std::fs::create_dir(home.path().join("bin")).unwrap();
    std::fs::write(&java, "#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n").unwrap();
    std::fs::set_permissions(&java, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let shared = shared_of(&environment).await;
    assert!(shared.contains("is Java 11") && shared.contains("./justw setup"), "{shared}");
}

#[tokio::test]
async fn no_broker_outlives_a_process_that_is_killed() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = role("holds_brokers");
    if let Ok(servers) = std::env::var("TURNSTILE_SERVERS") {
        command.env("TURNSTILE_SERVERS", servers);
    }
    command.stderr(writer);
    let mut holder = Child::spawn(command).unwrap();
    let mut connections = Vec::new();
    for kind in ["shared: ", "cluster: "] {
        let line = holder.line_with(kind).await.unwrap();
        for address in line.split_once(": ").unwrap().1.split(',') {
            connections.push(TcpStream::connect(address).await.unwrap());
        }
    }
    assert_eq!(connections.len(), 3);
    holder.line_with("ready").await.unwrap();
    holder.kill().unwrap();
    holder.wait().await.unwrap();
    // A broker's connections end with it; the pipe ends with the last process that has it.
    for mut connection in connections {
        timeout(Duration::from_secs(30), connection.read_u8()).await.unwrap().unwrap_err();
    }
    let read = tokio::task::spawn_blocking(move || std::io::read_to_string(reader));
    timeout(Duration::from_secs(30), read).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
#[ignore = "a role that the tests above give to a process of its own"]
async fn says_where_the_shared_broker_is() {
    match kafka::shared().await {
        Ok(kafka) => println!("shared: {}", kafka.brokers()),
        Err(error) => println!("shared: {error:#}"),
    }
}

#[tokio::test]
#[ignore = "a role that a test above gives to a process of its own, and kills"]
async fn holds_brokers() {
    println!("shared: {}", kafka::shared().await.unwrap().brokers());
    let cluster = Cluster::start(2).await.unwrap();
    println!("cluster: {}", cluster.brokers());
    println!("ready");
    std::future::pending::<()>().await;
    drop(cluster);
}
