#![doc = include_str!("../README.md")]

mod builder;
mod classify;
mod client;
mod connection;
mod error;
mod guarded_write;
mod heartbeats;
mod inbox;
mod leases;
mod names;
mod script;
mod source;
mod subscriber;

pub use builder::ClientBuilder;
pub use client::{Client, Dedicated};
pub use error::Error;
pub use guarded_write::{GuardedWrite, Written};
pub use heartbeats::{Awaited, Heartbeats};
pub use inbox::{Channel, Follower, Heard, Inbox};
pub use leases::{process_label, renew_in_batches};
pub use names::{Key, Name, NameError};
/// The Redis client underneath, for its types: `ToRedisArgs`, `FromRedisValue`, `cmd`.
pub use redis;
pub use script::{Invocation, Script};
