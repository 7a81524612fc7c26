//! Waiting for a condition, in place of a sleep.

use std::time::Duration;

/// Far longer than anything here takes: a test that waits so long has failed.
const SAFETY_NET: Duration = Duration::from_secs(30);

/// Waits until the condition holds.
///
/// # Panics
/// When it does not within 30 s; the text says for what.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SAFETY_NET, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
