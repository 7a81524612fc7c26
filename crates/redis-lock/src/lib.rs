#![doc = include_str!("../README.md")]

mod backend;
mod holder;
mod locks;
mod resource;

pub use backend::LockBackend;
pub use holder::Holder;
pub use locks::{LockError, RedisLock, RedisLocks, RedisLocksBuilder, WhoError};
pub use redis_lua::{Client, NameError};
pub use resource::LockResource;
pub use turnstile_core::{
    AcquireError, BackendError, ErrorKind, FencingToken, Lease, LeaseLost, LeaseOptions, Lock, LostReason,
    ReleaseError, ReleaseOutcome,
};
