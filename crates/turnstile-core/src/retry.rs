//! How often a message is tried, how long to wait in between, and what happens at the limit.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::Backoff;

/// What happens to a message at the last failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AtLimit {
    /// It is set aside with its error, and what is behind it goes on.
    DeadLetter,
    /// It stays where it is, not done, and nothing behind it in its order is handled: someone has to look. What does
    /// not stand behind it goes on.
    Halt,
}

/// How a strategy tries again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: Option<NonZeroU32>,
    backoff: Backoff,
    at_limit: AtLimit,
}

impl RetryPolicy {
    /// At most `attempts` in all, the first included; then `at_limit`.
    #[must_use]
    pub fn new(attempts: NonZeroU32, at_limit: AtLimit) -> Self {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        Self { attempts: Some(attempts), backoff, at_limit }
    }

    /// Without a limit: a message that never works holds what is behind it for ever.
    #[must_use]
    pub fn forever() -> Self {
        Self { attempts: None, ..Self::new(NonZeroU32::MIN, AtLimit::Halt) }
    }

    /// The delays between attempts. By default from 100 ms, doubling, to 30 s, each with a random part of up to its own
    /// length on top.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Whether there is another attempt after `number` failed ones.
    #[must_use]
    pub fn allows_after(&self, number: NonZeroU32) -> bool {
        self.attempts.is_none_or(|attempts| number < attempts)
    }

    /// Endless delays for one message, the first attempt's first.
    pub fn delays(&self) -> impl Iterator<Item = Duration> + Send + 'static {
        self.backoff.delays()
    }

    /// What happens at the limit.
    #[must_use]
    pub const fn at_limit(&self) -> AtLimit {
        self.at_limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_is_the_one_that_was_asked_for() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let thrice = RetryPolicy::new(number(3), AtLimit::DeadLetter);
        assert_eq!([1, 2, 3, 4].map(|n| thrice.allows_after(number(n))), [true, true, false, false]);
        assert!(!RetryPolicy::new(NonZeroU32::MIN, AtLimit::Halt).allows_after(NonZeroU32::MIN));
        assert!(RetryPolicy::forever().allows_after(NonZeroU32::MAX));
    }

    #[test]
    fn delays_grow_from_the_first_to_the_longest() {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(80));
        let delays: Vec<_> = RetryPolicy::forever().backoff(backoff).delays().take(50).collect();
        assert!(delays[0] >= Duration::from_millis(10) && delays[0] <= Duration::from_millis(20), "{delays:?}");
        assert!(delays[1..].iter().all(|d| *d >= Duration::from_millis(20) && *d <= Duration::from_millis(160)));
    }
}
