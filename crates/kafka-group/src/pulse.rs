//! A sign of life of the polling thread, and the way to wake it.
//!
//! A process that is stopped (SIGSTOP, a frozen container, a suspended machine) past its session's end has lost its
//! partitions without knowing. Workers therefore begin nothing unless the polling thread has lately been alive: when all
//! wake up again, it finds the hole in its own time and gives the partitions up, before it gives a sign again. Nor do they
//! begin anything while the group's coordinator is out of reach for so long that the session may be over.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// The coordinator is out of reach for too long.
    cut_off: AtomicBool,
    thread: OnceLock<Thread>,
}

fn now() -> u64 {
    // It counts from the machine's start, so neither part is negative.
    clock_gettime(CLOCK).map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs())
}

impl Pulse {
    pub(crate) fn new(limit: Duration) -> Self {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        Self { last: AtomicU64::new(now()), limit, cut_off: AtomicBool::new(false), thread: OnceLock::new() }
    }

    /// The calling thread is the one that polls.
    pub(crate) fn here(&self) {
        let _ = self.thread.set(std::thread::current());
        self.beat();
    }

    /// A sign of life; `false`, and no sign, if there was none for too long.
    pub(crate) fn still_alive(&self) -> bool {
        self.was_awake() && {
            self.beat();
            true
        }
    }

    /// A sign of life after a call that may have taken long for other reasons.
    pub(crate) fn beat(&self) {
        self.last.store(now(), Ordering::Release);
    }

    /// Whether the coordinator is out of reach for too long. `true` if that is news.
    pub(crate) fn cut_off(&self, is: bool) -> bool {
        self.cut_off.swap(is, Ordering::AcqRel) != is
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }

    /// Whether there was a sign lately, and the group is not out of reach.
    pub(crate) fn is_fresh(&self) -> bool {
        self.was_awake() && !self.is_cut_off()
    }

    fn was_awake(&self) -> bool {
        now().saturating_sub(self.last.load(Ordering::Acquire)) < self.limit
    }

    /// Wakes the polling thread, or keeps it from its next sleep.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
