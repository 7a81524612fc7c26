#![doc = include_str!("../README.md")]

mod commit;
mod completions;
mod epoch;
pub mod metadata;
mod policy;
mod ring;
mod start;
mod tracker;

pub use commit::{Commit, CommitSchedule};
pub use completions::Completions;
pub use epoch::Epoch;
pub use metadata::{Codec, Encoded, Ignored};
pub use policy::{CommitPolicy, Delivery};
pub use start::{Reason, Refused, Start, StartAt, StartFrom};
pub use tracker::{Completed, Fetched, OffsetTracker};
