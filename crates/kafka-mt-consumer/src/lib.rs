#![doc = include_str!("../README.md")]

mod adaptive;
mod batches;
mod blocking;
mod builder;
mod lanes;
mod limit;
mod options;
mod partition;
mod rate;
mod runner;
mod seat;
mod table;
mod work;

pub use batches::BatchHandler;
pub use blocking::BlockingHandler;
pub use builder::ParallelBuilder;
pub use kafka_group;
pub use kafka_group::{
    Amount, AtLimit, Attempt, Backoff, CommitPolicy, ConfigError, GroupBuilder, Handler, Key, Member, Outcome, Record,
    Report, RetryPolicy, RunError, Shutdown, Stall, StallReason, Start, StartAt, Status,
};
pub use lanes::Lanes;
pub use options::{Adaptive, LaneOptions, NullKeys, Order};
pub use seat::LaneSeat;
pub use work::{Handled, Work};
