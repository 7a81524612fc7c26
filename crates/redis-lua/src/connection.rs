//! One connection that all share, and its replacement when it is lost.
//!
//! Only one attempt to connect is under way at a time, whoever asked for it: it runs as a task of its own, so that a
//! caller that goes away does not end it, and all callers wait for its outcome. Attempts that follow each other are
//! spaced by a back-off with jitter. A connection that is lost is dropped at once; one that is merely suspect (a reply
//! is late, the server has become a replica) serves until another is there.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use turnstile_core::ErrorKind;

use crate::Error;
use crate::classify;
use crate::source::{Link, Source};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lasted this long was a good one: the next attempt need not pause.
const STEADY: Duration = Duration::from_secs(1);

/// A connection, and which one of all that there were.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) link: Link,
    generation: u64,
}

/// The connection of now, if there is one.
pub(crate) type Current = ArcSwapOption<Live>;

type Outcome = Option<Result<Live, Error>>;

enum Attempt {
    UnderWay(watch::Receiver<Outcome>),
    Needless(Live),
}

/// The shared connection of a client.
pub(crate) struct Connection {
    pub(crate) source: Source,
    current: Arc<Current>,
    attempts: Mutex<Attempts>,
}

#[derive(Default)]
struct Attempts {
    running: Option<watch::Receiver<Outcome>>,
    /// In a row, connections that did not last included.
    failures: u32,
    opened: Option<Instant>,
    generation: u64,
    last_error: Option<Error>,
}

impl Connection {
    pub(crate) fn new(source: Source, current: Arc<Current>) -> Self {
        Self { source, current, attempts: Mutex::default() }
    }

    /// Whether there is a connection, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.current.load().is_some()
    }

    /// Which connection there is now; they are numbered from one on.
    pub(crate) fn number(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |live| live.generation)
    }

    /// The connection of now, or the outcome of the attempt under way, within the connect timeout.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<Live, Error> {
        if let Some(live) = &*self.current.load() {
            return Ok(Live::clone(live));
        }
        self.wait().await
    }

    #[cold]
    async fn wait(self: &Arc<Self>) -> Result<Live, Error> {
        let mut attempt = match self.attempt(None) {
            Attempt::Needless(live) => return Ok(live),
            Attempt::UnderWay(attempt) => attempt,
        };
        let refusal = self.attempts.lock().last_error.clone().filter(|error| !error.is_transient());
        if let Some(refusal) = refusal {
            return Err(refusal); // The attempt goes on for later calls, after its pause.
        }
        let limit = self.source.settings.connect_timeout;
        let outcome = timeout(limit, attempt.wait_for(Option::is_some)).await;
        match outcome.as_ref().map(|seen| seen.as_deref()) {
            Ok(Ok(Some(outcome))) => outcome.clone(),
            // The attempt still pauses, or is as slow as the limit allows: say why the one before failed.
            _ => Err(self.attempts.lock().last_error.clone().unwrap_or_else(|| {
                Error::new(ErrorKind::TimedOut, classify::no_connection(&self.source.settings.address, limit))
            })),
        }
    }

    /// Notes that a command on this connection failed.
    pub(crate) fn failed(self: &Arc<Self>, live: &Live, error: &redis::RedisError) {
        if classify::is_broken(error) {
            self.current.rcu(|now| now.clone().filter(|now| now.generation != live.generation));
        } else if classify::is_suspect(error) {
            drop(self.attempt(Some(live.generation)));
        }
    }

    /// An attempt to connect, unless there is a connection other than the unwanted one.
    fn attempt(self: &Arc<Self>, unwanted: Option<u64>) -> Attempt {
        let mut attempts = self.attempts.lock();
        // Under the lock, so that none is started when one has just ended well.
        if let Some(live) = &*self.current.load()
            && Some(live.generation) != unwanted
        {
            return Attempt::Needless(Live::clone(live));
        }
        // An attempt whose sender is gone was lost with its runtime.
        if let Some(running) = attempts.running.as_ref().filter(|running| running.has_changed().is_ok()) {
            return Attempt::UnderWay(running.clone());
        }
        if let Some(opened) = attempts.opened.take() {
            attempts.failures = if opened.elapsed() < STEADY { attempts.failures.saturating_add(1) } else { 0 };
        }
        let pause = pause(attempts.failures, rand::random());
        let (sender, receiver) = watch::channel(None);
        attempts.running = Some(receiver.clone());
        drop(attempts);
        tokio::spawn(Arc::clone(self).run(Instant::now() + pause, sender));
        Attempt::UnderWay(receiver)
    }

    async fn run(self: Arc<Self>, start: Instant, sender: watch::Sender<Outcome>) {
        sleep_until(start).await;
        let opened = self.source.open().await;
        let mut attempts = self.attempts.lock();
        let outcome = match opened {
            Ok(link) => {
                attempts.generation += 1;
                attempts.opened = Some(Instant::now());
                attempts.last_error = None;
                let live = Live { link, generation: attempts.generation };
                self.current.store(Some(Arc::new(live.clone())));
                tracing::debug!(address = %self.source.settings.address, connection = live.generation, "connected");
                Ok(live)
            }
            Err(error) => {
                attempts.failures = attempts.failures.saturating_add(1);
                attempts.last_error = Some(error.clone());
                tracing::warn!(address = %self.source.settings.address, attempt = attempts.failures, %error, "not connected");
                Err(error)
            }
        };
        attempts.running = None;
        sender.send_replace(Some(outcome));
    }
}

/// None before the first failure, then doubling up to a second, less up to half by chance.
fn pause(failures: u32, chance: f64) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_PAUSE.saturating_mul(1 << (n - 1).min(10)).min(LONGEST_PAUSE).mul_f64(1.0 - chance / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_are_spread() {
        assert_eq!(pause(0, 0.0), Duration::ZERO);
        assert_eq!((pause(1, 0.0), pause(2, 0.0)), (Duration::from_millis(20), Duration::from_millis(40)));
        assert_eq!((pause(9, 0.0), pause(u32::MAX, 0.0)), (LONGEST_PAUSE, LONGEST_PAUSE));
        assert_eq!(pause(9, 0.999_999), LONGEST_PAUSE.mul_f64(1.0 - 0.999_999 / 2.0));
    }
}
