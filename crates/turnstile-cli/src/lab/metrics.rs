//! What is measured, without faults: each kind of strategy has numbers of its own.

use serde::Serialize;

use super::words::{count, micros};

/// The numbers of one strategy. Durations are in the unit that their names end in.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Metrics {
    Grants(Grants),
    Jobs(Jobs),
    Records(Records),
    Copies(Copies),
    Marks(Marks),
    Routes(Routes),
}

/// Of strategies that grant, or answer calls, under contention.
#[derive(Debug, Default, Serialize)]
pub struct Grants {
    /// Grants a second of all processes together; where nothing is granted, script calls.
    pub per_second: f64,
    /// From asking to having, half of all.
    pub p50_us: f64,
    /// From asking to having, 99 of 100.
    pub p99_us: f64,
    /// The longest wait, those that were not over at the end included.
    pub max_wait_ms: f64,
    /// Commands that clients sent, a grant: a script counts as one, as it is one round trip.
    pub commands_per_grant: f64,
    /// Commands that the server ran, a grant: a script and each command in it.
    pub server_commands_per_grant: f64,
    pub grants: u64,
    /// Those of them that went from one task to the next in memory, without the server.
    pub handed_over: u64,
    pub processes: u32,
    /// In each process.
    pub tasks: u32,
    pub seconds: f64,
    /// Whether these are calls of a script, and no grants.
    #[serde(skip)]
    pub calls: bool,
}

/// Of work queues.
#[derive(Debug, Default, Serialize)]
pub struct Jobs {
    /// Jobs a second of all workers together, of a queue that is never empty.
    pub per_second: f64,
    /// Of how many jobs.
    pub jobs: u64,
    /// From when a job is added until it is done, half of all, at a steady pace.
    pub p50_us: f64,
    /// The same, 99 of 100.
    pub p99_us: f64,
    pub paced_per_second: u64,
    /// From the kill of a worker until others have begun all that it had in hand, if they have.
    pub takeover_ms: Option<f64>,
    /// After how long without a sign of life a worker counts as dead.
    pub alive_ms: u64,
    /// Jobs that were done again after a worker was killed, and another stopped.
    pub duplicates: u64,
    pub processes: u32,
}

/// Of strategies that consume records.
#[derive(Debug, Default, Serialize)]
pub struct Records {
    /// Records a second of all processes together, of a topic that is full of them.
    pub per_second: f64,
    /// Of how many records.
    pub records: u64,
    /// From when a record is produced until it is handled, half of all, at a steady pace.
    pub p50_us: f64,
    /// The same, 99 of 100.
    pub p99_us: f64,
    pub paced_per_second: u64,
    /// From the kill of a member until others have worked in all of its partitions, if they have.
    pub takeover_kill_ms: Option<f64>,
    /// After how long without a sign of life a member counts as dead.
    pub session_ms: u64,
    /// From when a member is asked to leave.
    pub takeover_leave_ms: Option<f64>,
    /// Records that were repeated after the kill.
    pub duplicates_kill: u64,
    /// And after an orderly leave, if there was one.
    pub duplicates_leave: Option<u64>,
    pub processes: u32,
    pub partitions: i32,
}

/// Of strategies that copy records in transactions.
#[derive(Debug, Default, Serialize)]
pub struct Copies {
    /// Records a second of all processes together, from the first that is handled until the last is committed.
    pub per_second: f64,
    /// Of how many records.
    pub records: u64,
    /// From when a record is produced until its copy is read as committed, half of all, at a steady pace.
    pub p50_us: f64,
    /// The same, 99 of 100.
    pub p99_us: f64,
    pub paced_per_second: u64,
    /// How often a transaction is committed.
    pub every_ms: u64,
    /// Processes that died in the middle of it, and outputs of transactions that were aborted for that.
    pub deaths: u64,
    pub aborted_outputs: u64,
    pub processes: u32,
    pub partitions: i32,
}

/// Of strategies that only keep account of offsets.
#[derive(Debug, Default, Serialize)]
pub struct Marks {
    /// What it takes to mark one offset as done, in random order within 10,000.
    pub complete_ns: f64,
    /// The metadata of 100,000 offsets in flight, of which one in a hundred, at random, is not done: in bytes.
    pub metadata_bytes: u64,
    /// How much of what is done is told by them.
    pub kept_percent: f64,
    /// The time it takes to make that metadata.
    pub encode_us: f64,
    pub in_flight: u64,
}

/// Of strategies that say where records go.
#[derive(Debug, Default, Serialize)]
pub struct Routes {
    /// What it takes to find the partition of a key of 36 bytes.
    pub route_ns: f64,
    /// Records a second of one writer, each of them committed.
    pub written_per_second: f64,
    /// Of how many records.
    pub written: u64,
    /// How long it takes to let a topic grow.
    pub change_ms: f64,
    /// How long writers have to wait in it.
    pub closed_ms: f64,
}

impl Metrics {
    /// For the table.
    pub fn columns(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Grants(grants) => vec![
                (if grants.calls { "calls/s" } else { "grants/s" }, count(grants.per_second.round() as u64)),
                ("p50", micros(grants.p50_us)),
                ("p99", micros(grants.p99_us)),
                ("longest wait", micros(grants.max_wait_ms * 1e3)),
                (
                    if grants.calls { "commands/call" } else { "commands/grant" },
                    format!("{:.3}", grants.commands_per_grant),
                ),
            ]
            .into_iter()
            .chain(grants.share_handed_over("handed over"))
            .collect(),
            Self::Jobs(jobs) => vec![
                ("jobs/s", count(jobs.per_second.round() as u64)),
                ("p50", micros(jobs.p50_us)),
                ("p99", micros(jobs.p99_us)),
                ("take-over: kill", time(jobs.takeover_ms)),
                ("repeated", count(jobs.duplicates)),
            ],
            Self::Records(records) => vec![
                ("records/s", count(records.per_second.round() as u64)),
                ("p50", micros(records.p50_us)),
                ("p99", micros(records.p99_us)),
                ("take-over: kill", time(records.takeover_kill_ms)),
                ("repeated: kill", count(records.duplicates_kill)),
            ]
            .into_iter()
            .chain(records.leave(["take-over: leave", "repeated: leave"]))
            .collect(),
            Self::Copies(copies) => vec![
                ("copies/s", count(copies.per_second.round() as u64)),
                ("p50", micros(copies.p50_us)),
                ("p99", micros(copies.p99_us)),
                ("deaths", count(copies.deaths)),
                ("aborted", count(copies.aborted_outputs)),
            ],
            Self::Marks(marks) => vec![
                ("ns/completion", format!("{:.1}", marks.complete_ns)),
                ("metadata", format!("{} bytes", count(marks.metadata_bytes))),
                ("kept", format!("{:.1} %", marks.kept_percent)),
                ("encoding", micros(marks.encode_us)),
            ],
            Self::Routes(routes) => vec![
                ("ns/key", format!("{:.1}", routes.route_ns)),
                ("records written/s", count(routes.written_per_second.round() as u64)),
                ("growing", micros(routes.change_ms * 1e3)),
                ("writers wait", micros(routes.closed_ms * 1e3)),
            ],
        }
    }

    /// For the report: all of it.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Grants(grants) => vec![
                (
                    if grants.calls { "calls a second" } else { "grants a second" },
                    count(grants.per_second.round() as u64),
                ),
                ("p50", micros(grants.p50_us)),
                ("p99", micros(grants.p99_us)),
                ("longest wait", micros(grants.max_wait_ms * 1e3)),
                ("commands sent for each", format!("{:.3}", grants.commands_per_grant)),
                ("commands that the server ran for each", format!("{:.3}", grants.server_commands_per_grant)),
                (if grants.calls { "calls" } else { "grants" }, count(grants.grants)),
                ("contenders", format!("{} processes × {} tasks", grants.processes, grants.tasks)),
                ("seconds", grants.seconds.to_string()),
            ]
            .into_iter()
            .chain(grants.share_handed_over("of them handed over in memory"))
            .collect(),
            Self::Jobs(jobs) => vec![
                ("jobs a second", count(jobs.per_second.round() as u64)),
                ("of so many jobs", count(jobs.jobs)),
                ("p50 from added to done", micros(jobs.p50_us)),
                ("p99", micros(jobs.p99_us)),
                ("at so many jobs a second", count(jobs.paced_per_second)),
                ("take-over after a kill", time(jobs.takeover_ms)),
                ("of it the time that a worker counts as alive", micros(jobs.alive_ms as f64 * 1e3)),
                ("jobs repeated after a kill and a stop", count(jobs.duplicates)),
                ("workers", format!("{} processes", jobs.processes)),
            ],
            Self::Records(records) => vec![
                ("records a second", count(records.per_second.round() as u64)),
                ("of so many records", count(records.records)),
                ("p50 from produced to handled", micros(records.p50_us)),
                ("p99", micros(records.p99_us)),
                ("at so many records a second", count(records.paced_per_second)),
                ("take-over after a kill", time(records.takeover_kill_ms)),
                ("of it the session's time limit", micros(records.session_ms as f64 * 1e3)),
                ("records repeated after a kill", count(records.duplicates_kill)),
                ("members", format!("{} processes, {} partitions", records.processes, records.partitions)),
            ]
            .into_iter()
            .chain(records.leave(["take-over after an orderly leave", "records repeated after an orderly leave"]))
            .collect(),
            Self::Copies(copies) => vec![
                ("copies a second", count(copies.per_second.round() as u64)),
                ("of so many records", count(copies.records)),
                ("p50 from produced to read as committed", micros(copies.p50_us)),
                ("p99", micros(copies.p99_us)),
                ("at so many records a second", count(copies.paced_per_second)),
                ("of it the time until a commit, at most", micros(copies.every_ms as f64 * 1e3)),
                ("processes that died in a transaction", count(copies.deaths)),
                ("outputs that were aborted for that", count(copies.aborted_outputs)),
                ("copiers", format!("{} processes, {} partitions", copies.processes, copies.partitions)),
            ],
            Self::Marks(marks) => vec![
                ("nanoseconds a completion", format!("{:.1}", marks.complete_ns)),
                ("offsets in flight, one in a hundred not done", count(marks.in_flight)),
                ("bytes of their metadata", count(marks.metadata_bytes)),
                ("of what is done, told by it", format!("{:.1} %", marks.kept_percent)),
                ("time to make it", micros(marks.encode_us)),
            ],
            Self::Routes(routes) => vec![
                ("nanoseconds to find the partition of a key of 36 bytes", format!("{:.1}", routes.route_ns)),
                ("records a second that one writer commits", count(routes.written_per_second.round() as u64)),
                ("of so many records", count(routes.written)),
                ("time to let a topic grow", micros(routes.change_ms * 1e3)),
                ("of it, time in which writers wait", micros(routes.closed_ms * 1e3)),
            ],
        }
    }
}

impl Grants {
    /// Where any was.
    fn share_handed_over(&self, head: &'static str) -> Option<(&'static str, String)> {
        let share = 100.0 * self.handed_over as f64 / self.grants.max(1) as f64;
        (self.handed_over > 0).then(|| (head, format!("{share:.1} %")))
    }
}

impl Records {
    /// Of an orderly leave, if there was one: the take-over, and what was repeated.
    fn leave(&self, heads: [&'static str; 2]) -> Vec<(&'static str, String)> {
        let told = |repeated| heads.into_iter().zip([time(self.takeover_leave_ms), count(repeated)]).collect();
        self.duplicates_leave.map(told).unwrap_or_default()
    }
}

fn time(millis: Option<f64>) -> String {
    millis.map_or_else(|| "never".to_owned(), |millis| micros(millis * 1e3))
}
