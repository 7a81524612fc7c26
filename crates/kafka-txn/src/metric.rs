//! The names of this crate's metrics, by the `metrics` facade.

use metrics::{Counter, Histogram, counter, histogram};

pub(crate) const COMMITTED: &str = "turnstile_txn_committed_total";
pub(crate) const ABORTED: &str = "turnstile_txn_aborted_total";
pub(crate) const OUTPUTS: &str = "turnstile_txn_outputs_total";
pub(crate) const REFUSED: &str = "turnstile_txn_outputs_refused_total";
pub(crate) const REBUILT: &str = "turnstile_txn_producer_rebuilt_total";
const SECONDS: &str = "turnstile_txn_seconds";

pub(crate) fn of(name: &'static str, group: &str) -> Counter {
    counter!(name, "group" => group.to_owned())
}

/// How long a commit took, from its outputs' arrival on.
pub(crate) fn seconds(group: &str) -> Histogram {
    histogram!(SECONDS, "group" => group.to_owned())
}
