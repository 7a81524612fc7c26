#![doc = include_str!("../README.md")]

mod acquire;
mod backend;
mod clock;
mod error;
mod handler;
#[cfg(all(test, feature = "_shuttle"))]
mod interleavings;
mod keeper;
mod latch;
mod lease;
mod lock;
mod manager;
pub mod memory;
mod metric;
mod options;
pub mod quorum;
mod release;
mod report;
mod retry;
mod shutdown;
mod sync;
mod table;
mod token;

pub use backend::{
    GrantReply, GrantRequest, LeaseBackend, Owner, OwnerHex, ReleaseOutcome, ReleaseReply, RenewReply, Renewal,
    Resource,
};
pub use clock::{Clock, SystemClock, TokioClock};
pub use error::{AcquireError, BackendError, ErrorKind, LeaseLost, LostReason, ReleaseError};
pub use handler::{Attempt, Handler, Outcome};
pub use lease::Lease;
pub use lock::Lock;
pub use manager::{LeaseManager, ManagedLock};
pub use options::{Backoff, InvalidTtl, LeaseOptions};
pub use report::Report;
pub use retry::{AtLimit, RetryPolicy};
pub use shutdown::Shutdown;
pub use token::FencingToken;
