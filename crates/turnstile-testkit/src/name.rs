//! Names that no other test uses, so that tests on one server keep apart.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A name that begins with `prefix` and that nobody else has: not another test, not another process, and not an
/// earlier run on the same server. It has no spaces and no braces unless `prefix` has.
///
/// ```
/// let one = turnstile_testkit::unique("orders");
/// assert!(one.starts_with("orders-"));
/// assert_ne!(one, turnstile_testkit::unique("orders"));
/// ```
pub fn unique(prefix: &str) -> String {
    static RUN: LazyLock<u64> = LazyLock::new(rand::random);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{:016x}-{}", *RUN, COUNT.fetch_add(1, Ordering::Relaxed))
}
