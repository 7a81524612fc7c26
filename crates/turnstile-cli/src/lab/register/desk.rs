//! A worker's way to the register: one connection for each task, one request at a time.

use std::path::Path;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use turnstile_core::Lease;

use super::book::{Act, Answer, Request};
use crate::lab::clock;

/// What became of an entry or a change.
pub type Entry = Answer;

/// A connection to the register.
pub struct Desk {
    who: u32,
    write: OwnedWriteHalf,
    lines: Lines<BufReader<OwnedReadHalf>>,
}

impl Desk {
    /// Connects in the name of `who`, a number that no other task of the lab has.
    pub async fn connect(path: &Path, who: u32) -> Result<Self> {
        let stream = UnixStream::connect(path).await.context("the register is gone")?;
        let (read, write) = stream.into_split();
        Ok(Self { who, write, lines: BufReader::new(read).lines() })
    }

    /// Enters, with the lease as it is now: held or lost.
    pub async fn enter(&mut self, name: &str, lease: &Lease, shared: bool) -> Result<Entry> {
        // In this order: what it says of its end is then never later than the truth.
        let now = clock::now();
        let valid_until = now + u64::try_from(lease.remaining().as_nanos()).unwrap_or(u64::MAX / 2);
        self.ask(name, lease, Act::Enter { shared, valid_until }).await
    }

    /// Leaves.
    pub async fn leave(&mut self, name: &str, lease: &Lease) -> Result<Entry> {
        self.ask(name, lease, Act::Leave).await
    }

    /// Changes the resource.
    pub async fn write(&mut self, name: &str, lease: &Lease) -> Result<Entry> {
        self.ask(name, lease, Act::Write).await
    }

    async fn ask(&mut self, name: &str, lease: &Lease, act: Act) -> Result<Answer> {
        let token = lease.fencing_token().get();
        let mut request = serde_json::to_vec(&Request { name: name.to_owned(), who: self.who, token, act })?;
        request.push(b'\n');
        self.write.write_all(&request).await?;
        let line = self.lines.next_line().await?.context("the register is gone")?;
        Ok(serde_json::from_str(&line)?)
    }
}
