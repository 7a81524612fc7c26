#![doc = include_str!("../README.md")]

mod backend;
mod error;
mod quorum;
mod resource;
mod semaphore;
mod semaphores;
mod state;

pub use backend::SemaphoreBackend;
pub use error::SemaphoreError;
pub use quorum::{ConfigError, Node, QuorumSemaphore, QuorumSemaphores, QuorumSemaphoresBuilder};
pub use redis_lua::{Client, NameError};
pub use resource::{Form, SemaphoreResource};
pub use semaphore::{Review, Semaphore};
pub use semaphores::{Semaphores, SemaphoresBuilder};
pub use state::{Holder, State, Waiter};
pub use turnstile_core::{
    AcquireError, BackendError, ErrorKind, FencingToken, Lease, LeaseLost, LeaseOptions, Lock, LostReason,
    ReleaseError, ReleaseOutcome,
};
