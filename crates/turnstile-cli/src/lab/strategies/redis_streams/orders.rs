//! What the lab tells a worker process, and what it hears.

use serde::{Deserialize, Serialize};

use crate::lab::latency::Latency;

/// An order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    Work(Work),
    /// How many jobs were done by now; the answer is a number.
    Count,
    /// The answer is [`Left`].
    Leave,
    /// Adds jobs for a while; the answer is how many.
    Produce(Produce),
}

/// To work on a queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    pub queue: String,
    pub who: String,
    /// Jobs of a key in order, and all written down.
    pub judged: bool,
    pub concurrency: usize,
    pub alive_ms: u64,
    pub work_ms: u64,
    pub attempts: u32,
    pub fault: Option<Fault>,
}

/// What a worker does wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// It acknowledges before it works.
    AckFirst,
    /// It keeps no order.
    NoOrder,
    /// It has the effect by itself, and not with the acknowledgement.
    PlainEffect,
}

/// To add jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Produce {
    pub queue: String,
    /// None for as many as the queue takes.
    pub per_second: Option<u64>,
    pub millis: u64,
    /// Each of so many jobs has a key of its own.
    pub keys: u32,
}

/// What a worker saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Left {
    pub done: u64,
    /// From added to done.
    pub times: Latency,
}
