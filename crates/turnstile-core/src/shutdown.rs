//! How a run ends in an orderly way: stop fetching, finish what is in hand, hand back the rest.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Tells a run to end, and how long it may take to finish what is in hand. Clones are one and the same.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// use turnstile_core::Shutdown;
///
/// let shutdown = Shutdown::new(Duration::from_secs(20));
/// // let run = tokio::spawn(member.run(shutdown.clone()));
/// // … a signal arrives …
/// shutdown.begin();
/// shutdown.begun().await;
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Shutdown {
    begun: CancellationToken,
    limit: Duration,
}

impl Shutdown {
    /// One that has not begun. What is not finished `limit` after it begins is handed back.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self::when(CancellationToken::new(), limit)
    }

    /// One that begins when `token` is cancelled.
    #[must_use]
    pub const fn when(token: CancellationToken, limit: Duration) -> Self {
        Self { begun: token, limit }
    }

    /// Begins it. Again has no effect.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until it begins. Cancelling this changes nothing.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// How long finishing may take.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}
