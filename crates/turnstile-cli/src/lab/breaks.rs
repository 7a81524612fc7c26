//! Faults that the lab can plant, one for each claim: a check that cannot fail shows nothing. For the lab's own tests.

use clap::ValueEnum;
use serde::Serialize;

/// A guard to be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// redis-lua: two commands instead of one script.
    Atomic,
    /// redis-lua: EVALSHA without its fallback to EVAL.
    ScriptFlush,
    /// redis-lua: each caller makes a connection of its own after a loss.
    Reconnect,
    /// redis-lua: a plain SET instead of a guarded write.
    GuardedWrite,
    /// Locks and semaphores: somebody deletes what is held without looking whose it is.
    ReleaseCompare,
    /// Locks: somebody sets the fencing counter back.
    Token,
    /// Locks: the resource takes older tokens.
    Fence,
    /// Locks: a holder whose deadline is far later than the end of its lease on the server.
    Notice,
    /// Locks and semaphores: what is held has no end on the server.
    Ttl,
    /// Locks: after a lost reply somebody asks anew, as another owner.
    Retry,
    /// Locks: writers lock something else than readers do.
    Share,
    /// Locks: each waiting task asks the server by itself.
    Queue,
    /// Queues on the server: somebody moves the last one to the front.
    Order,
    /// redis-redlock: the majority of the servers hangs rather than one.
    Nodes,
    /// redis-streams: acknowledges before it works.
    AckFirst,
    /// redis-streams: gives jobs away that are in hand.
    Claim,
    /// redis-streams, kafka-mt-consumer: keeps no order.
    Lanes,
    /// redis-streams: has effects by itself, not with the acknowledgement.
    Effects,
    /// redis-streams: a dead worker is missed much later.
    Alive,
    /// redis-streams: tries once more than it is to.
    Attempts,
    /// kafka-offsets, kafka-mt-consumer: whoever takes over does not read what is beside the commit.
    Codec,
    /// kafka-offsets: where the metadata was cut, all that follows is taken for done.
    Tail,
    /// kafka-offsets: metadata is used whatever offset it was made for.
    MadeFor,
    /// kafka-group, kafka-mt-consumer: commits what was fetched, before it is done.
    CommitFirst,
    /// kafka-group: goes on with what it has when a partition is taken from it.
    Revoke,
    /// kafka-group: works on the records of a partition side by side.
    InOrder,
    /// kafka-group: now and then commits an older offset.
    CommitBack,
    /// kafka-group: begins before the commit.
    Start,
    /// kafka-group: leaves without a last commit.
    HandOver,
    /// kafka-group: does not set poison records aside, and goes on.
    Poison,
    /// kafka-group: a dead member is missed much later.
    Session,
    /// kafka-mt-consumer: has one lane for a whole partition.
    Stuck,
    /// kafka-txn: produces by itself, and commits offsets apart.
    Transaction,
    /// kafka-txn: reads everything, not only what is committed.
    Isolation,
    /// kafka-txn: works on the records of a key side by side.
    KeyOrder,
    /// kafka-partitions: readers do not mind the barrier, nor follow the layouts.
    Barrier,
    /// kafka-partitions: the writer that is stopped is none that a change can fence.
    FenceWriters,
    /// kafka-partitions: readers stay with the topic that was moved.
    Follow,
}

impl Break {
    /// Its name, as on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
