#![doc = include_str!("../README.md")]

mod builder;
mod dead_letters;
mod engine;
mod error;
mod in_order;
mod member;
mod metric;
mod pulse;
mod record;
mod scheduler;
mod slot;
mod status;
mod work;

pub use builder::{GroupBuilder, Protocol, Settings};
pub use dead_letters::{DeadLetters, SetAside, header};
pub use engine::log;
pub use error::{ConfigError, RunError};
pub use in_order::InOrder;
pub use kafka_offsets::{CommitPolicy, Delivery, Epoch, Start, StartAt};
pub use member::Member;
pub use rdkafka;
pub use record::{Record, Records};
pub use scheduler::{Control, Scheduler};
pub use slot::{Amount, Running, Slot};
pub use status::{Key, Membership, PartitionStatus, Stall, StallReason, Status, Trouble};
pub use turnstile_core::{AtLimit, Attempt, Backoff, Handler, Outcome, Report, RetryPolicy, Shutdown};
pub use work::{Seat, Settled, Worker};
