//! What is done by whom, and what is looked at.

use std::time::Duration;

use super::figures::Round;
use crate::rounds::quantile;

/// A program that is several peers: what its kinds are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum In {
    /// This one.
    Turnstile,
    /// `benches/peers/rust`.
    Rust,
    /// `benches/peers/go`.
    Go,
    /// `benches/peers/java`.
    Java,
}

/// Where a figure of several rounds is made one.
pub type Over = fn(&mut [f64]) -> f64;
/// The median of them.
pub const MEDIAN: Over = |rounds| quantile(rounds, 0.5);
const MOST: Over = |rounds| quantile(rounds, 1.0);
const SUM: Over = |rounds| rounds.iter().sum();

/// A figure: what it is called, of a round, and of all.
pub type Column = (&'static str, fn(&Round) -> f64, Over);

const CYCLE: [Column; 2] =
    [("p50 µs", |round| round.cycle(0.5), MEDIAN), ("p99 µs", |round| round.cycle(0.99), MEDIAN)];
const RATE: [Column; 2] = [("cycles/s", Round::rate, MEDIAN), ("p99 µs", |round| round.cycle(0.99), MEDIAN)];
const CROWD: [Column; 3] = [
    ("grants/s", Round::rate, MEDIAN),
    ("longest wait ms", Round::longest_wait, MOST),
    ("stuck", |round| round.stuck() as f64, SUM),
];
const HAND_OVER: [Column; 3] = [
    ("p50 µs", |round| round.hand_over(0.5), MEDIAN),
    ("p99 µs", |round| round.hand_over(0.99), MEDIAN),
    ("grants/s", Round::rate, MEDIAN),
];
const NODE: [Column; 4] = [
    ("acquire p50 µs", |round| round.acquire(0.5), MEDIAN),
    ("acquire p99 µs", |round| round.acquire(0.99), MEDIAN),
    ("release p50 µs", |round| round.release(0.5), MEDIAN),
    ("grants/s", Round::rate, MEDIAN),
];

const LOCKS: [(&str, In); 10] = [
    ("raw", In::Turnstile),
    ("redis-lock", In::Turnstile),
    ("redis-pubsub-lock", In::Turnstile),
    ("rslock", In::Rust),
    ("async-redis-lock", In::Rust),
    ("distkit", In::Rust),
    ("rueidislock", In::Go),
    ("redsync", In::Go),
    ("redisson-lock", In::Java),
    ("redisson-fair", In::Java),
];
const SEMAPHORES: [(&str, In); 4] = [
    ("by-set", In::Turnstile),
    ("by-counter", In::Turnstile),
    ("redisson-permits", In::Java),
    ("redisson-semaphore", In::Java),
];
/// Those of five servers.
pub const QUORUMS: [(&str, In); 5] = [
    ("raw", In::Turnstile),
    ("redis-redlock", In::Turnstile),
    ("rslock", In::Rust),
    ("redsync", In::Go),
    ("redsync-fail-fast", In::Go),
];
/// Those of Kafka.
pub const CONSUMERS: [(&str, In); 4] = [
    ("raw", In::Turnstile),
    ("kafka-group", In::Turnstile),
    ("kafka-mt-consumer", In::Turnstile),
    ("parallel-consumer", In::Java),
];

/// What is done, and what is looked at.
pub struct Scenario {
    /// Its name.
    pub id: &'static str,
    /// In words.
    pub what: &'static str,
    /// By whom.
    pub peers: &'static [(&'static str, In)],
    /// The figures.
    pub columns: &'static [Column],
    /// Processes, tasks of each, and names that these have.
    pub crowd: (usize, usize, usize),
    /// How many may have a name at once.
    pub permits: u32,
    /// For how long each has it, and how long it pauses afterwards.
    pub times: (Duration, Duration),
    /// Of a round.
    pub length: Duration,
    /// Whether one node hangs meanwhile.
    pub hung: bool,
}

/// For how long one works that does.
pub const WORK: Duration = Duration::from_millis(1);
const PAUSE: Duration = Duration::from_micros(200);
/// How long who waits at a round's end may go on. All others have stopped by then.
pub const PATIENCE: Duration = Duration::from_secs(5);

const PLAIN: Scenario = Scenario {
    id: "",
    what: "",
    peers: &LOCKS,
    columns: &CYCLE,
    crowd: (1, 1, 1),
    permits: 1,
    times: (Duration::ZERO, Duration::ZERO),
    length: Duration::from_millis(500),
    hung: false,
};
/// Those on Redis.
pub const SCENARIOS: [Scenario; 7] = [
    Scenario { id: "one-task", what: "one task acquires and releases, nobody else wants it", ..PLAIN },
    Scenario {
        id: "64-names",
        what: "64 tasks of one process, a name each",
        columns: &RATE,
        crowd: (1, 64, 64),
        ..PLAIN
    },
    Scenario {
        id: "hand-over",
        what: "two processes want one name and work 1 ms: from its being given back to the other's having it",
        columns: &HAND_OVER,
        crowd: (2, 1, 1),
        times: (WORK, PAUSE),
        length: Duration::from_secs(1),
        ..PLAIN
    },
    Scenario {
        id: "16-waiters",
        what: "four processes of four tasks want one name and work 1 ms",
        columns: &CROWD,
        crowd: (4, 4, 1),
        times: (WORK, Duration::ZERO),
        length: Duration::from_millis(1500),
        ..PLAIN
    },
    Scenario {
        id: "semaphore",
        what: "the same 16 and four permits",
        peers: &SEMAPHORES,
        columns: &CROWD,
        crowd: (4, 4, 1),
        permits: 4,
        times: (WORK, Duration::ZERO),
        length: Duration::from_secs(1),
        ..PLAIN
    },
    Scenario {
        id: "five-nodes",
        what: "one task, five servers",
        peers: &QUORUMS,
        columns: &NODE,
        times: (Duration::ZERO, WORK),
        ..PLAIN
    },
    Scenario {
        id: "one-hung",
        what: "one task, five servers of which one is stopped (SIGSTOP)",
        peers: &QUORUMS,
        columns: &NODE,
        times: (Duration::ZERO, WORK),
        length: Duration::from_secs(1),
        hung: true,
        ..PLAIN
    },
];
/// On Kafka: nothing is done with a record.
pub const EMPTY_HANDLER: &str = "records";
/// On Kafka: each record takes a millisecond.
pub const SLOW_HANDLER: &str = "records-1ms";
