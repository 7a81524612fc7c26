//! What a Redis server counts: its commands and its connections.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use redis_lua::Client;
use redis_lua::redis::cmd;

/// How often each command ran since the server started, those in scripts included.
#[derive(Debug, Clone, Default)]
pub struct Commands(BTreeMap<String, u64>);

/// The lab's own, between two readings.
const OURS: &[&str] = &["info"];
/// What a client sends to run a script; whatever a script calls is counted beside it.
const SCRIPTS: &[&str] = &["eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"];

impl Commands {
    pub async fn read(client: &Client) -> Result<Self> {
        let text: String = client.run(cmd("INFO").arg("commandstats")).await?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), numbers.split(',').next()?.parse().ok()?))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// What ran since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |name: &str| earlier.0.get(name).copied().unwrap_or(0);
        let ran = |(name, count): (&String, &u64)| (name.clone(), count.saturating_sub(before(name)));
        Self(self.0.iter().filter(|(name, _)| !OURS.contains(&name.as_str())).map(ran).collect())
    }

    /// Calls of scripts: a round trip each.
    pub fn scripts(&self) -> u64 {
        SCRIPTS.iter().filter_map(|name| self.0.get(*name)).sum()
    }

    /// All that the server ran.
    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }
}

/// How many connections the server has taken since it started.
pub async fn connections_taken(client: &Client) -> Result<u64> {
    let text: String = client.run(cmd("INFO").arg("stats")).await?;
    let count = text.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    count.and_then(|count| count.trim().parse().ok()).context("the server does not count its connections")
}

/// How many ordinary connections it has now.
pub async fn connections_open(client: &Client) -> Result<u64> {
    let text: String = client.run(cmd("CLIENT").arg("LIST").arg("TYPE").arg("normal")).await?;
    Ok(text.lines().count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_what_they_call_are_told_apart() {
        let before =
            Commands::parse("# Commandstats\r\ncmdstat_evalsha:calls=10,usec=5\r\ncmdstat_info:calls=1,usec=1\r\n");
        let after = "cmdstat_evalsha:calls=14,usec=9\r\ncmdstat_eval:calls=1,usec=9\r\ncmdstat_set:calls=5,usec=9\r\ncmdstat_info:calls=2,usec=1";
        let ran = Commands::parse(after).since(&before);
        assert_eq!((ran.scripts(), ran.all()), (5, 10));
    }
}
