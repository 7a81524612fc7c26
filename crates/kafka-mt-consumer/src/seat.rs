//! A place among those that may be at work at a time.

use kafka_group::Seat;
use parking_lot::Mutex;
use std::sync::Arc;

use crate::limit::{Limit, Permit};

/// Counts a unit of work against the concurrency limit. It may be left for as long as the work only waits.
#[derive(Debug)]
pub struct LaneSeat {
    limit: Arc<Limit>,
    permit: Mutex<Option<Permit>>,
}

impl LaneSeat {
    pub(crate) fn new(limit: Arc<Limit>, permit: Option<Permit>) -> Self {
        Self { limit, permit: Mutex::new(permit) }
    }

    /// Whether it counts now.
    pub(crate) fn is_taken(&self) -> bool {
        self.permit.lock().is_some()
    }
}

impl Seat for LaneSeat {
    /// Others may work meanwhile.
    fn leave(&self) {
        let left = self.permit.lock().take();
        drop(left);
    }

    /// Goes on when it is its turn, by the order of asking. At once, if the seat was not left.
    async fn back(&self) {
        if self.is_taken() {
            return;
        }
        let permit = match Limit::take(&self.limit) {
            Some(permit) => permit,
            None => Box::pin(Limit::wait(&self.limit)).await,
        };
        *self.permit.lock() = Some(permit);
    }
}
