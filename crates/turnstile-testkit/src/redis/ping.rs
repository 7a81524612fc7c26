//! The few words of the Redis protocol that the testkit needs: is a server ready, and set it up.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long a new server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// Waits until the server answers a PING. A connect proves nothing: a container engine's own proxy accepts
/// connections with nothing behind it. `alive` is asked between tries, and its error ends the waiting.
pub(crate) async fn ready(host: &str, port: u16, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
    let until = Instant::now() + READY_WITHIN;
    loop {
        // An answer that asks for a password is an answer.
        let seen = match timeout(Duration::from_secs(1), ask(host, port, None, &["PING"])).await {
            // Asked once more: perhaps it is another server that answers, and ours found its port taken.
            Ok(Ok(answer)) if answer == "+PONG" || answer.starts_with("-NOAUTH") => return alive(),
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        alive()?;
        ensure!(
            Instant::now() < until,
            "the Redis at {host}:{port} did not answer PING within {READY_WITHIN:?}: {seen}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Sends one command, after the password if there is one, and gives the first line of the reply.
pub(crate) async fn ask(host: &str, port: u16, password: Option<&str>, command: &[&str]) -> Result<String> {
    let mut stream = BufReader::new(TcpStream::connect((host, port)).await?);
    if let Some(password) = password {
        let answer = say(&mut stream, &["AUTH", password]).await?;
        ensure!(answer == "+OK", "the server refused the testkit's password");
    }
    say(&mut stream, command).await
}

/// Gives a cluster's only node all slots, tells it its address, and waits until it serves them, some two seconds.
pub(crate) async fn all_slots(host: &str, port: u16, password: Option<&str>) -> Result<()> {
    let until = Instant::now() + READY_WITHIN;
    for (name, value) in [("cluster-announce-ip", host), ("cluster-announce-port", &port.to_string())] {
        let answer = ask(host, port, password, &["CONFIG", "SET", name, value]).await?;
        ensure!(answer == "+OK", "the server answered {answer:?} to CONFIG SET {name}");
    }
    // After a restart it has them already, and says so.
    ask(host, port, password, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await?;
    loop {
        let answer = ask(host, port, password, &["EXISTS", "turnstile"]).await?;
        if answer == ":0" {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the cluster at {host}:{port} is not up within {READY_WITHIN:?}: {answer}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn say(stream: &mut BufReader<TcpStream>, words: &[&str]) -> Result<String> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(bytes.as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await.context("no reply from Redis")?;
    ensure!(line.ends_with('\n'), "the server closed the connection");
    Ok(line.trim_end().to_owned())
}
