//! What all server tests share: names of their own, raw commands, captured logs, and waiting for a condition.

#![allow(dead_code, unused_imports, reason = "no test uses all of it")]

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use redis_lua::redis::{Cmd, FromRedisValue, cmd};
use redis_lua::{Client, Name};
use turnstile_testkit::redis::Redis;
pub use turnstile_testkit::until;

/// A name that no other test uses.
pub fn name(prefix: &str) -> Name {
    Name::new(turnstile_testkit::unique(prefix)).unwrap()
}

/// A client of the shared server.
pub async fn client() -> Client {
    Client::connect(shared().await.url()).await.unwrap()
}

/// The server that all tests of a file share.
pub async fn shared() -> Redis {
    turnstile_testkit::redis::shared().await.unwrap()
}

/// A command out of words.
pub fn words(words: &str) -> Cmd {
    let mut words = words.split(' ');
    let mut command = cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

/// Runs a command out of words.
pub async fn run<T: FromRedisValue>(client: &Client, command: &str) -> T {
    client.run(&words(command)).await.unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Lines that were logged, at every level, by all crates.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures what all tests of this file log, from the first call on.
    pub fn capture() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Self::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .init();
            log
        })
        .clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
