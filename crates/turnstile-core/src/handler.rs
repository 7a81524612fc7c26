//! What becomes of a message: a [`Handler`] says, and the strategy acts upon it.
//!
//! The strategy owns acknowledging, retrying, setting aside and order; a handler only does the work of one message. It
//! may see the same message again, after a crash for example, so its effect should bear repetition.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// The work of one message.
///
/// A handler that panics is treated as one that asks for another attempt.
#[async_trait]
pub trait Handler<M>: Send + Sync + 'static {
    /// Does the work and says what became of the message.
    ///
    /// The returned future is dropped at an `await` when the message is no longer this worker's and the time to finish
    /// is over; `attempt` tells it earlier, so that it can stop in an orderly way.
    async fn handle(&self, message: &M, attempt: Attempt<'_>) -> Outcome;
}

// Written out, since `async_trait` would put one box into another for each message.
impl<M: Sync, H: Handler<M> + ?Sized> Handler<M> for Arc<H> {
    fn handle<'this, 'message, 'attempt, 'all>(
        &'this self,
        message: &'message M,
        attempt: Attempt<'attempt>,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'all>>
    where
        'this: 'all,
        'message: 'all,
        'attempt: 'all,
        Self: 'all,
    {
        (**self).handle(message, attempt)
    }
}

/// What became of a message.
#[derive(Debug)]
#[must_use = "the strategy acts upon the outcome"]
#[non_exhaustive]
pub enum Outcome {
    /// Done: it is not delivered again, unless this process dies before that is written down.
    Done,
    /// Not for us: as done, counted and logged with the reason.
    Skip(String),
    /// Not yet: try again, by the [`RetryPolicy`](crate::RetryPolicy), in place, so that order holds.
    Retry {
        /// How long to wait instead of what the policy's back-off says.
        after: Option<Duration>,
        /// What went wrong. The last one goes with the message to the dead letters.
        error: anyhow::Error,
    },
    /// It will never work: set it aside now, with the reason, and go on.
    DeadLetter(anyhow::Error),
    /// Nothing will work any more: end the whole run in an orderly way. The message is not done, and is delivered again
    /// to whoever takes over.
    Stop(anyhow::Error),
}

impl Outcome {
    /// Another attempt, when the policy says.
    pub fn retry(error: impl Into<anyhow::Error>) -> Self {
        Self::Retry { after: None, error: error.into() }
    }
}

impl<E: Into<anyhow::Error>> From<Result<(), E>> for Outcome {
    /// `Ok` is done, `Err` asks for another attempt.
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(Self::retry, |()| Self::Done)
    }
}

/// Which attempt at a message this is, and whether it is still wanted.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    number: NonZeroU32,
    cancelled: &'a CancellationToken,
}

impl<'a> Attempt<'a> {
    /// For strategies, and for tests of handlers.
    #[must_use]
    pub const fn new(number: NonZeroU32, cancelled: &'a CancellationToken) -> Self {
        Self { number, cancelled }
    }

    /// Which attempt it is, from 1 on. Attempts are counted by this worker: another one starts from 1 again, unless the
    /// strategy says otherwise.
    #[must_use]
    pub const fn number(&self) -> NonZeroU32 {
        self.number
    }

    /// Fires when the message is no longer this worker's, or soon will not be: its partition is revoked or lost, its
    /// claim taken over, or the time to shut down is nearly over. What is finished afterwards may be done again by
    /// another.
    #[must_use]
    pub const fn cancelled(&self) -> &'a CancellationToken {
        self.cancelled
    }
}
