//! Copies a topic to another through f, as a process: `copier ROLE`, with a role in JSON; for tests that stop and kill it.

mod naive;
mod ours;
mod plain;
mod presuming;

use std::io::BufRead;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use turnstile_integration_tests::copies::{At, CopyKind, CopyRole, Fate};

fn main() -> Result<()> {
    let role = std::env::args().nth(1).context("usage: copier ROLE")?;
    let role: CopyRole = serde_json::from_str(&role)?;
    if let Ok(level) = std::env::var("RUST_LOG") {
        let filter = tracing_subscriber::filter::LevelFilter::from_str(&level)?;
        tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr).init();
    }
    match role.kind {
        CopyKind::Ours | CopyKind::Parallel | CopyKind::Unordered => ours::run(role),
        CopyKind::Plain => naive::run(&role, false),
        CopyKind::Apart => naive::run(&role, true),
        CopyKind::PresumesAborted => presuming::run(&role, false),
        CopyKind::PresumesCommitted => presuming::run(&role, true),
    }
}

/// What becomes of this process, when it comes to it.
struct Fates {
    fate: Option<(Fate, At, u32)>,
    times: AtomicU32,
    go: Mutex<Receiver<String>>,
}

impl Fates {
    /// And what is to be done once somebody says `end`.
    fn new(role: &CopyRole, end: impl FnOnce() + Send + 'static) -> Self {
        let (said, go) = channel();
        std::thread::spawn(move || {
            let mut end = Some(end);
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if line == "end" {
                    end.take().into_iter().for_each(|end| end());
                } else {
                    let _ = said.send(line);
                }
            }
        });
        Self { fate: role.fate, times: AtomicU32::new(0), go: Mutex::new(go) }
    }

    /// Somebody is at a step.
    fn at(&self, step: At) {
        let Some((fate, at, time)) = self.fate.filter(|(_, at, _)| *at == step) else { return };
        if self.times.fetch_add(1, Ordering::SeqCst) + 1 != time {
            return;
        }
        println!("at {at:?}");
        match fate {
            // It never comes back.
            Fate::Kill => _ = kill(getpid(), Signal::SIGKILL),
            Fate::Stop => _ = kill(getpid(), Signal::SIGSTOP),
            Fate::Wait => _ = self.go.lock().map(|go| go.recv()),
        }
        println!("past {at:?}");
    }
}

/// The number in a record's value.
fn number(value: Option<&[u8]>) -> Option<u64> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}
