//! The resource that locks guard in the lab, and the oracle: a service in the lab's own process, which no strategy knows
//! of. Holders enter and leave it, and change it, with their fencing tokens. It turns older tokens away, writes down
//! what happens, and judges nothing: the [checker](super::checker) does.

mod book;
mod desk;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use self::book::{Book, Request};
pub use self::desk::{Desk, Entry};
use super::clock;
use super::history::Event;

/// The service. It ends when it is dropped.
pub struct Register {
    books: Arc<Books>,
    path: PathBuf,
    _dir: TempDir,
    // Dropped, it ends the tasks in it.
    _serving: JoinSet<()>,
}

struct Books {
    /// Whether older tokens are turned away.
    fence: bool,
    by_name: Mutex<HashMap<String, Book>>,
}

impl Register {
    /// Opens the service on a socket of its own. Without `fence` it lets older tokens pass, which is a fault.
    pub fn open(fence: bool) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("turnstile-lab-").tempdir()?;
        let path = dir.path().join("register");
        let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
        let books = Arc::new(Books { fence, by_name: Mutex::default() });
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, books.clone()));
        Ok(Self { books, path, _dir: dir, _serving: serving })
    }

    /// Where workers reach it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that happened at one resource.
    pub fn history(&self, name: &str) -> Vec<Event> {
        self.books.by_name.lock().get(name).map(|book| book.events.clone()).unwrap_or_default()
    }
}

async fn accept(listener: UnixListener, books: Arc<Books>) {
    let mut visitors = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        visitors.spawn(serve(stream, books.clone()));
    }
}

/// A visitor is killed at times: an error is the end of its visit.
async fn serve(stream: UnixStream, books: Arc<Books>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.ok()? {
        let request: Request = serde_json::from_str(&line).ok()?;
        let answer = {
            let mut by_name = books.by_name.lock();
            let book = by_name.entry(request.name.clone()).or_default();
            // Read under the lock: so the order of the book is the order of its times.
            book.note(&request, clock::now(), books.fence)
        };
        let mut answer = serde_json::to_vec(&answer).ok()?;
        answer.push(b'\n');
        write.write_all(&answer).await.ok()?;
    }
    Some(())
}
