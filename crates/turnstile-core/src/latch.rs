//! The one-way latch of a lease: held until it is tripped, for one reason, for good.

use tokio_util::sync::CancellationToken;

use crate::LostReason;
use crate::sync::{AtomicU8, Ordering};

const HELD: u8 = 0;
const EXPIRED: u8 = 1;
const REVOKED: u8 = 2;
const RELEASED: u8 = 3;

pub(crate) struct Latch {
    state: AtomicU8,
    signal: CancellationToken,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU8::new(HELD), signal: CancellationToken::new() }
    }

    /// Trips it; false when it was tripped before, whose reason then stays.
    pub(crate) fn trip(&self, reason: LostReason) -> bool {
        let state = match reason {
            LostReason::Expired => EXPIRED,
            LostReason::Revoked => REVOKED,
            LostReason::Released => RELEASED,
        };
        let first = self.state.compare_exchange(HELD, state, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if first {
            self.signal.cancel();
        }
        first
    }

    pub(crate) fn reason(&self) -> Option<LostReason> {
        match self.state.load(Ordering::Acquire) {
            HELD => None,
            EXPIRED => Some(LostReason::Expired),
            REVOKED => Some(LostReason::Revoked),
            _ => Some(LostReason::Released),
        }
    }

    /// Fires when tripped, and stays so.
    pub(crate) fn signal(&self) -> &CancellationToken {
        &self.signal
    }
}
