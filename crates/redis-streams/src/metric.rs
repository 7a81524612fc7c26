//! The names of this crate's metrics, by the `metrics` facade. Each has the labels `queue` and `group`.

use metrics::{Counter, Gauge, counter, gauge};

use crate::keys::Group;

pub(crate) struct Metrics {
    pub done: Counter,
    pub skipped: Counter,
    pub retries: Counter,
    pub dead_letters: Counter,
    /// Done, and void: the worker counted as dead by then.
    pub late: Counter,
    /// Left behind by workers that died, and given to others.
    pub taken_over: Counter,
    /// Removed from the stream by somebody else while they were pending.
    pub gone: Counter,
    /// How often this worker counted as dead.
    pub fenced: Counter,
    pub in_hand: Gauge,
}

impl Metrics {
    pub fn new(group: &Group) -> Self {
        let labels = [("queue", group.queue.to_string()), ("group", group.name.to_string())];
        Self {
            done: counter!("turnstile_queue_jobs_done_total", &labels),
            skipped: counter!("turnstile_queue_jobs_skipped_total", &labels),
            retries: counter!("turnstile_queue_retries_total", &labels),
            dead_letters: counter!("turnstile_queue_dead_letters_total", &labels),
            late: counter!("turnstile_queue_late_jobs_total", &labels),
            taken_over: counter!("turnstile_queue_jobs_taken_over_total", &labels),
            gone: counter!("turnstile_queue_jobs_gone_total", &labels),
            fenced: counter!("turnstile_queue_fenced_total", &labels),
            in_hand: gauge!("turnstile_queue_jobs_in_hand", &labels),
        }
    }
}
