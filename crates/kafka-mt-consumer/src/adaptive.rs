//! The adaptive limit; see [`Adaptive`](crate::Adaptive) for its source.
//!
//! Times are gathered over windows. What the work takes as a rule is a slow average of them, and the limit follows the
//! quotient of the two, with room for a small queue of the square root of itself.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::options::Adaptive;

/// A window has at least so many times, and lasts so long.
const WINDOW: (u32, Duration) = (10, Duration::from_millis(100));
/// Of how many windows the slow average is, about.
const RULE: f64 = 100.0;
/// How far the limit goes towards the new one at once.
const STEP: f64 = 0.2;

pub(crate) struct Gauge {
    how: Adaptive,
    most: f64,
    state: Mutex<State>,
}

struct State {
    limit: f64,
    /// What the work takes as a rule, in seconds.
    rule: Option<f64>,
    window: Window,
}

struct Window {
    since: Instant,
    times: u32,
    sum: Duration,
    /// The most that were at work.
    at_work: usize,
}

impl Gauge {
    pub fn new(how: Adaptive, most: usize, now: Instant) -> Self {
        let window = Window { since: now, times: 0, sum: Duration::ZERO, at_work: 0 };
        let limit = how.initial.get().min(most) as f64;
        Self { how, most: most as f64, state: Mutex::new(State { limit, rule: None, window }) }
    }

    pub fn limit(&self) -> usize {
        self.state.lock().limit as usize
    }

    /// A unit of work took that long, when so many were at work. The new limit, if it changes.
    pub fn took(&self, time: Duration, at_work: usize, now: Instant) -> Option<usize> {
        let state = &mut *self.state.lock();
        let window = &mut state.window;
        window.times += 1;
        window.sum += time;
        window.at_work = window.at_work.max(at_work);
        if window.times < WINDOW.0 || now.saturating_duration_since(window.since) < WINDOW.1 {
            return None;
        }
        let (mean, at_work) = ((window.sum / window.times).as_secs_f64().max(1e-9), window.at_work as f64);
        *window = Window { since: now, times: 0, sum: Duration::ZERO, at_work: 0 };
        let rule = state.rule.get_or_insert(mean);
        *rule += (mean - *rule) / RULE;
        // After a time of trouble, what it takes as a rule is forgotten faster than by average.
        if *rule / mean > 2.0 {
            *rule *= 0.95;
        }
        let before = state.limit as usize;
        // A limit that is not reached says nothing.
        if at_work >= state.limit / 2.0 {
            let gradient = (self.how.tolerance * *rule / mean).clamp(0.5, 1.0);
            let new = state.limit * gradient + state.limit.sqrt();
            let next = state.limit * (1.0 - STEP) + new * STEP;
            state.limit = next.clamp(self.how.least.get() as f64, self.most.max(self.how.least.get() as f64));
        }
        (state.limit as usize != before).then_some(state.limit as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that does `capacity` at a time in 10 ms, and lets the others queue.
    fn settles(gauge: &Gauge, capacity: usize, windows: u32, now: &mut Instant) -> usize {
        for _ in 0..windows {
            let at_work = gauge.limit();
            let time = Duration::from_millis(10).mul_f64((at_work as f64 / capacity as f64).max(1.0));
            for _ in 0..20 {
                *now += Duration::from_millis(6);
                gauge.took(time, at_work, *now);
            }
        }
        gauge.limit()
    }

    #[test]
    fn it_rises_to_what_is_borne_and_falls_when_less_is() {
        let mut now = Instant::now();
        let gauge = Gauge::new(Adaptive::default(), 1000, now);
        let high = settles(&gauge, 100, 100, &mut now);
        assert!((80..=250).contains(&high), "{high}");
        let low = settles(&gauge, 20, 15, &mut now);
        assert!(low < high * 2 / 3, "{low} of {high}");
    }

    #[test]
    fn it_stays_within_its_bounds_and_where_it_is_not_reached() {
        let mut now = Instant::now();
        let gauge = Gauge::new(Adaptive::default(), 50, now);
        assert_eq!(settles(&gauge, 1000, 200, &mut now), 50);
        let idle = Gauge::new(Adaptive::default(), 1000, now);
        for _ in 0..1000 {
            now += Duration::from_millis(20);
            assert_eq!(idle.took(Duration::from_millis(1), 1, now), None);
        }
        assert_eq!(idle.limit(), 20);
    }
}
