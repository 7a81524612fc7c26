//! What the lab asks of a worker process that calls scripts, and what it answers.

use serde::{Deserialize, Serialize};

use crate::lab::latency::Latency;
use crate::lab::tally::Tally;

/// An order; the answer is [`Work`], where there is one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Tasks count at two places, and others look whether the two agree.
    Count(Count),
    /// Tasks write with tokens that are now and then older than the newest.
    Write(Write),
    /// Ends what is under way before its time; no answer of its own.
    Stop,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Count {
    pub name: String,
    pub writers: u32,
    pub readers: u32,
    pub millis: u64,
    pub by: By,
    pub on_loss: OnLoss,
}

/// How a writer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// By a script.
    Script,
    /// A fault: by a script that the server must know.
    Sha1Alone,
    /// A fault: by two commands.
    TwoCommands,
}

/// What a task does when a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// It notes the error.
    Fail,
    /// It counts it as lost, and goes on with the client that all share.
    GoOn,
    /// A fault: it goes on with a new connection of its own.
    ConnectAnew,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Write {
    pub name: String,
    pub tasks: u32,
    pub millis: u64,
    /// A fault: by a plain SET.
    pub plain: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Work {
    /// Calls that were answered.
    pub calls: u64,
    pub times: Latency,
    /// They over time.
    pub tally: Tally,
    /// How often the two places were read, and how often they differed.
    pub reads: u64,
    pub torn: u64,
    /// Calls that a lost connection left unanswered.
    pub lost: u64,
    /// Writes that were refused, and the newest token that was not.
    pub refused: u64,
    pub newest: u64,
    pub failed: u64,
    /// The first of them.
    pub error: Option<String>,
}

impl Work {
    /// All together.
    pub fn sum(all: Vec<Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, work| {
            sum.calls += work.calls;
            sum.times.add(&work.times);
            sum.tally.add(&work.tally);
            sum.reads += work.reads;
            sum.torn += work.torn;
            sum.lost += work.lost;
            sum.refused += work.refused;
            sum.newest = sum.newest.max(work.newest);
            sum.failed += work.failed;
            sum.error = sum.error.or(work.error);
            sum
        })
    }

    /// Notes a failure.
    pub fn fail(&mut self, error: &redis_lua::Error) {
        self.failed += 1;
        self.error.get_or_insert_with(|| error.to_string());
    }
}
