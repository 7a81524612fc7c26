//! The local clock that deadlines are counted by. It can be paused in tests.

use std::fmt::Debug;
use std::time::Duration;

/// A clock that never goes back. Deadlines are counted by it, never by a wall clock.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time since an origin that stays the same as long as the process lives.
    fn now(&self) -> Duration;
}

/// The operating system's clock. On Linux and Android it counts the time that the machine was suspended
/// (`CLOCK_BOOTTIME`), which the server's clock counted too; elsewhere it is [`std::time::Instant`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Ok(time) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
            return time.into();
        }
        static ORIGIN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        ORIGIN.elapsed()
    }
}

/// Tokio's clock, which stands still under `tokio::time::pause` and in `#[tokio::test(start_paused = true)]`.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock(tokio::time::Instant);

impl TokioClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
