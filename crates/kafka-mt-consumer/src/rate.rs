//! A rate limit: the generic cell rate algorithm (ITU-T I.371), which needs one moment in time and no timer.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) struct Rate {
    /// What one record costs.
    each: Duration,
    /// How far ahead of its time one may be.
    burst: Duration,
    /// When the next is due.
    due: Mutex<Instant>,
}

impl Rate {
    pub fn new(a_second: NonZeroU32, now: Instant) -> Self {
        let each = Duration::from_secs(1) / a_second.get();
        Self { each, burst: each.max(Duration::from_millis(10)), due: Mutex::new(now) }
    }

    /// Takes leave for so many records; how long to wait before they are begun.
    pub fn take(&self, records: usize, now: Instant) -> Option<Duration> {
        let mut due = self.due.lock();
        let begins = (*due).max(now - self.burst.min(now.saturating_duration_since(*due)));
        let wait = begins.saturating_duration_since(now);
        *due = begins + self.each * u32::try_from(records).unwrap_or(u32::MAX);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_any_second_there_are_no_more_than_were_allowed_and_a_burst() {
        let begun = Instant::now();
        let rate = Rate::new(NonZeroU32::new(1000).unwrap(), begun);
        let (mut now, mut taken) = (begun, 0);
        while now < begun + Duration::from_secs(2) {
            now += rate.take(1, now).unwrap_or_default();
            taken += 1;
        }
        assert!((1990..=2020).contains(&taken), "{taken}");
        // What was not used is kept for a burst, and no more.
        now += Duration::from_secs(60);
        let burst = (0..1000).take_while(|_| rate.take(1, now).is_none()).count();
        assert_eq!(burst, 11);
    }

    #[test]
    fn a_batch_counts_as_its_records() {
        let begun = Instant::now();
        let rate = Rate::new(NonZeroU32::new(10).unwrap(), begun);
        assert_eq!(rate.take(10, begun), None);
        assert_eq!(rate.take(1, begun), Some(Duration::from_secs(1)));
    }
}
