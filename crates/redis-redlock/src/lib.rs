#![doc = include_str!("../README.md")]

mod builder;
mod holder;
mod identity;
mod node;
mod redlock;

pub use builder::{ConfigError, Quorum, RedlockBuilder};
pub use holder::{Holder, WhoError};
pub use node::Node;
pub use redis_lock::{Client, LockError, LockResource, NameError};
pub use redlock::{Redlock, RedlockLock};
pub use turnstile_core::{
    AcquireError, BackendError, ErrorKind, FencingToken, Lease, LeaseLost, LeaseOptions, Lock, LostReason,
    ReleaseError, ReleaseOutcome,
};
