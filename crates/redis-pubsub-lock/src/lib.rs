#![doc = include_str!("../README.md")]

mod backend;
mod error;
mod locks;
mod look;
mod resource;
mod watch;

pub use backend::FairBackend;
pub use error::{LookError, OtherVersion};
pub use locks::{FairLock, FairLocks, FairLocksBuilder};
pub use look::{Holder, Waiter};
pub use redis_lua::{Client, NameError};
pub use resource::FairResource;
pub use turnstile_core::{
    AcquireError, BackendError, ErrorKind, FencingToken, Lease, LeaseLost, LeaseOptions, Lock, LostReason,
    ReleaseError, ReleaseOutcome,
};
pub use watch::{LockEvent, Tenure, Watch};
