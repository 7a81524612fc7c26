//! Which server answers: told by the id that each run of a server gives itself, asked for with each new connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis_lock::Client;
use redis_lua::{Error, redis};

/// What a server says of itself.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The id of this run.
    pub(crate) id: Option<String>,
    /// For how long it has been up, at the least.
    pub(crate) up: Option<Duration>,
}

/// Asks the server.
pub(crate) async fn run_of(client: &Client) -> Result<Run, Error> {
    let text: String = client.run(redis::cmd("INFO").arg("server")).await?;
    Ok(parse(&text))
}

fn parse(info: &str) -> Run {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    // The difference of two times that were cut to seconds: up to one too many.
    let up = field("uptime_in_seconds").and_then(|up| up.parse::<u64>().ok());
    Run { id: field("run_id").map(str::to_owned), up: up.map(|seconds| Duration::from_secs(seconds.saturating_sub(1))) }
}

/// The ids of all nodes, as they are known: one server must not vote twice under two addresses.
#[derive(Debug)]
pub(crate) struct Identities {
    ids: Mutex<Vec<Option<String>>>,
    twins: AtomicBool,
}

impl Identities {
    pub(crate) fn of(nodes: usize) -> Self {
        Self { ids: Mutex::new(vec![None; nodes]), twins: AtomicBool::new(false) }
    }

    /// Notes which server a node is.
    pub(crate) fn note(&self, at: usize, id: Option<String>) {
        let mut ids = self.ids.lock();
        ids[at] = id;
        let twins = ids.iter().enumerate().any(|(at, id)| id.is_some() && ids[..at].contains(id));
        self.twins.store(twins, Ordering::Release);
    }

    /// Whether two nodes are one server.
    pub(crate) fn has_twins(&self) -> bool {
        self.twins.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_tells_its_id_and_for_how_long_it_is_up() {
        let run = parse("# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\ntcp_port:6379\r\nuptime_in_seconds:17\r\n");
        assert_eq!((run.id.as_deref(), run.up), (Some("abc"), Some(Duration::from_secs(16))));
        let run = parse("redis_version:7.0.15\r\n");
        assert_eq!((run.id, run.up), (None, None));
    }

    #[test]
    fn one_server_under_two_addresses_is_noticed_until_it_is_two() {
        let (ids, id) = (Identities::of(3), |id: &str| Some(id.to_owned()));
        ids.note(0, id("a"));
        ids.note(1, None);
        ids.note(2, None);
        assert!(!ids.has_twins(), "what is not known is not the same");
        ids.note(2, id("a"));
        assert!(ids.has_twins());
        ids.note(2, id("b"));
        assert!(!ids.has_twins());
    }
}
