#![doc = include_str!("../README.md")]

mod batch;
mod builder;
mod commit;
mod error;
mod in_order;
mod member;
mod metric;
mod outputs;
mod parallel;
mod producer;
mod reader;
mod shared;
mod transform;
mod verdict;
mod work;
mod write;
mod writer;

pub use builder::TxnBuilder;
pub use error::{RunError, TransactionError};
pub use kafka_group::{
    self, AtLimit, Attempt, Backoff, ConfigError, GroupBuilder, Outcome, Protocol, Record, RetryPolicy, Shutdown,
    Start, StartAt, Status,
};
pub use kafka_mt_consumer::{self, LaneOptions, NullKeys, Order};
pub use member::{Report, TxnMember};
pub use outputs::{Output, Outputs};
pub use reader::{Isolation, ReadRecord, Reader};
pub use shared::Step;
pub use transform::Transform;
pub use writer::{WriteError, Writer};
