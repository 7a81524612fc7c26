#![doc = include_str!("../README.md")]

mod advice;
mod change;
mod cluster;
mod error;
mod follower;
mod hottest;
mod journal;
mod layout;
mod limits;
#[cfg(feature = "group")]
mod ordered;
mod partitioner;
mod producing;
#[cfg(feature = "group")]
mod reader;
mod skew;
mod writer;

pub use advice::{Advice, BadDemand, Demand};
pub use change::{Change, Plan, Step};
pub use cluster::{Cluster, Load, Partition, Topic};
pub use error::{ChangeError, TopicError, UnknownPartitioner, WriteError};
pub use hottest::{HotKey, Hottest};
pub use layout::{Layout, Layouts, State, is_barrier};
pub use limits::{Bearing, Limits, Overload};
#[cfg(feature = "group")]
pub use ordered::{Follow, Ordered};
pub use partitioner::{Partitioner, fnv1a, murmur2};
pub use rdkafka;
#[cfg(feature = "group")]
pub use reader::{ReadError, read, read_by};
pub use skew::{Share, Skew};
pub use writer::{Writer, WriterOptions, Written};
