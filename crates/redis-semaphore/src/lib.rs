#![doc = include_str!("../README.md")]

mod backend;
mod error;
mod resource;
mod semaphore;
mod semaphores;
mod state;

pub use backend::SemaphoreBackend;
pub use error::SemaphoreError;
pub use redis_lua::{Client, NameError};
pub use resource::{Form, SemaphoreResource};
pub use semaphore::{Review, Semaphore};
pub use semaphores::{Semaphores, SemaphoresBuilder};
pub use state::{Holder, State, Waiter};
pub use turnstile_core::{
    AcquireError, BackendError, ErrorKind, FencingToken, Lease, LeaseLost, LeaseOptions, Lock, LostReason,
    ReleaseError, ReleaseOutcome,
};
