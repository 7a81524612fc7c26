//! The watch over a lease: what has to be done to the command, and when, so that it does not outlive the lease.
//!
//! The lease's deadline moves on with each renewal, and stands still while they fail. When no more is left of it than
//! the command needs to end, the command is told to end, and a renewal that succeeds after that does not save it: it
//! is ending. KILL comes when the grace is over, which is before the deadline.

use std::time::Duration;

use redis_lock::{Lease, LostReason};
use tokio::time::{Instant, sleep, sleep_until};

use super::plan::Timing;
use crate::cli::OnLost;

/// The longest sleep: timers stand still while the machine is suspended, and leases do not.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// Why the command cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It was not renewed, and there is just time enough to end the command.
    Unrenewed,
    /// Its deadline passed while we were stopped: others may hold it since.
    Expired,
    /// The server says that it is gone, or another's.
    Revoked,
}

impl Loss {
    pub fn reason(self) -> &'static str {
        match self {
            Loss::Unrenewed => "unrenewed",
            Loss::Expired => "expired",
            Loss::Revoked => "revoked",
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Term(Loss),
    Kill(Loss),
    /// Nothing, but it is lost.
    Tell(Loss),
}

impl Order {
    pub fn loss(self) -> Loss {
        match self {
            Order::Term(loss) | Order::Kill(loss) | Order::Tell(loss) => loss,
        }
    }
}

enum Stage {
    Holding,
    /// TERM was ordered.
    Ending {
        loss: Loss,
        kill_at: Instant,
    },
    /// There is nothing left to order.
    Over,
}

pub struct Watch<'a> {
    lease: &'a Lease,
    timing: Timing,
    stage: Stage,
}

impl<'a> Watch<'a> {
    pub fn new(lease: &'a Lease, timing: Timing) -> Self {
        Self { lease, timing, stage: Stage::Holding }
    }

    /// Waits until something has to be done; for good, once there is nothing left to do. Cancelling this changes nothing.
    pub async fn order(&mut self) -> Order {
        match self.stage {
            Stage::Holding => {
                let loss = self.loss().await;
                self.lost(loss)
            }
            Stage::Ending { loss, .. } => {
                self.until_kill().await;
                self.stage = Stage::Over;
                Order::Kill(loss)
            }
            Stage::Over => std::future::pending().await,
        }
    }

    /// When what was told to end is to be killed, wherever it stands.
    pub async fn until_kill(&self) {
        let Stage::Ending { loss, kill_at } = self.stage else { return };
        while Instant::now() < kill_at && (loss != Loss::Unrenewed || self.left() > self.timing.margin) {
            sleep_until(kill_at.min(Instant::now() + LONGEST_SLEEP)).await;
        }
    }

    async fn loss(&self) -> Loss {
        loop {
            if let Some(loss) = self.lost_by_now() {
                return loss;
            }
            let spare = self.left().saturating_sub(self.timing.lead());
            if spare.is_zero() && self.timing.on_lost != OnLost::Ignore {
                return Loss::Unrenewed;
            }
            tokio::select! {
                _ = self.lease.lost() => {}
                () = sleep(spare.clamp(Duration::from_millis(1), LONGEST_SLEEP)) => {}
            }
        }
    }

    /// Why it is lost, if it is.
    pub fn lost_by_now(&self) -> Option<Loss> {
        self.lease
            .check()
            .err()
            .map(|lost| if lost.reason == LostReason::Revoked { Loss::Revoked } else { Loss::Expired })
    }

    fn lost(&mut self, loss: Loss) -> Order {
        self.stage = Stage::Over;
        let now = Instant::now();
        match (self.timing.on_lost, loss) {
            (OnLost::Ignore, _) => Order::Tell(loss),
            (OnLost::Kill, _) | (OnLost::Term, Loss::Expired) => Order::Kill(loss),
            (OnLost::Term, Loss::Unrenewed) => {
                let kill_at = now + self.timing.grace.min(self.left().saturating_sub(self.timing.margin));
                self.stage = Stage::Ending { loss, kill_at };
                Order::Term(loss)
            }
            (OnLost::Term, Loss::Revoked) => {
                self.stage = Stage::Ending { loss, kill_at: now + self.timing.grace };
                Order::Term(loss)
            }
        }
    }

    fn left(&self) -> Duration {
        self.lease.remaining()
    }
}
