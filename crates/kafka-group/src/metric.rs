//! The names of this crate's metrics, by the `metrics` facade.
//!
//! Counters: records done, retries, skipped, dead letters, commits, failed commits, rebalances, losses, late completions.
//! Gauges, a partition each: lag, records in hand.

use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};

macro_rules! counters {
    ($($name:ident = $metric:literal),* $(,)?) => {$(
        pub(crate) fn $name(topic: &Arc<str>) -> Counter {
            counter!($metric, "topic" => topic.to_string())
        }
    )*};
}

counters! {
    done = "turnstile_group_records_done_total",
    skipped = "turnstile_group_records_skipped_total",
    retries = "turnstile_group_retries_total",
    dead_letters = "turnstile_group_dead_letters_total",
    late = "turnstile_group_late_completions_total",
    handed_back = "turnstile_group_records_handed_back_total",
}

pub(crate) fn of_group(name: &'static str, group: &Arc<str>) -> Counter {
    counter!(name, "group" => group.to_string())
}

pub(crate) const COMMITS: &str = "turnstile_group_commits_total";
pub(crate) const COMMITS_FAILED: &str = "turnstile_group_commits_failed_total";
pub(crate) const REBALANCES: &str = "turnstile_group_rebalances_total";
pub(crate) const LOST: &str = "turnstile_group_partitions_lost_total";
pub(crate) const REBUILT: &str = "turnstile_group_client_rebuilt_total";
pub(crate) const STALLS: &str = "turnstile_group_stalls_total";
pub(crate) const METADATA_IGNORED: &str = "turnstile_group_metadata_ignored_total";

pub(crate) fn lag(topic: &Arc<str>, partition: i32) -> Gauge {
    gauge!("turnstile_group_lag", "topic" => topic.to_string(), "partition" => partition.to_string())
}

pub(crate) fn in_hand(topic: &Arc<str>, partition: i32) -> Gauge {
    gauge!("turnstile_group_in_hand", "topic" => topic.to_string(), "partition" => partition.to_string())
}
