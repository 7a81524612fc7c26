//! What happened to messages, written down by everybody who took part, and judged afterwards.
//!
//! Producers, members, whoever reads the dead letters, an observer of the committed offsets and the test itself each
//! write to a file of their own; the times of all are of one clock, which all processes of a machine share. [`check`]
//! then says which [`Rule`]s held. It knows nothing of the consumer that it judges, and takes none of its counts.

mod checker;
mod event;
mod recorder;
mod verdict;

#[cfg(test)]
mod tests;

pub use checker::{Order, check};
pub use event::{Event, Fault, How, Place, What};
pub use recorder::{History, Recorder, Working, now};
pub use verdict::{Blame, Breach, Rule, Verdict};
