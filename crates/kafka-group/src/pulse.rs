//! A sign of life of the polling thread, and the way to wake it.
//!
//! A process that is stopped (SIGSTOP, a frozen container, a suspended machine) past its session's end has lost its
//! partitions without knowing. Workers therefore begin nothing unless the polling thread has lately been alive: when all
//! wake up again, it finds the hole in its own time and gives the partitions up, before it gives a sign again.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC_COARSE; // a few milliseconds exact, and a few nanoseconds to read
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// Of one run.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// When the polling thread was last seen alive, in nanoseconds of the clock.
    last: AtomicU64,
    /// After this long without a sign the session may be over.
    limit: u64,
    thread: OnceLock<Thread>,
}

fn now() -> u64 {
    let now = clock_gettime(CLOCK).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

impl Pulse {
    pub(crate) fn new(limit: Duration) -> Self {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self { last: AtomicU64::new(now()), limit, thread: OnceLock::new() }
    }

    /// The calling thread is the one that polls.
    pub(crate) fn here(&self) {
        let _ = self.thread.set(std::thread::current());
        self.beat();
    }

    /// A sign of life; `false`, and no sign, if there was none for too long.
    pub(crate) fn still_alive(&self) -> bool {
        self.is_fresh() && {
            self.beat();
            true
        }
    }

    /// A sign of life after a call that may have taken long for other reasons.
    pub(crate) fn beat(&self) {
        self.last.store(now(), Ordering::Release);
    }

    /// Whether there was a sign lately.
    pub(crate) fn is_fresh(&self) -> bool {
        now().saturating_sub(self.last.load(Ordering::Acquire)) < self.limit
    }

    /// Wakes the polling thread, or keeps it from its next sleep.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
