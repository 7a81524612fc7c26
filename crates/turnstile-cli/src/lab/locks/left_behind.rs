//! Claim: when all have ended, the server holds no lock any more, and no key for good but fencing counters.

use anyhow::Result;
use redis_lua::redis::cmd;

use crate::lab::findings::Check;
use crate::lab::trial::Trial;

/// Looks at all keys. Call it when all workers have given back what they had.
pub async fn run(trial: &Trial<'_>) -> Result<Check> {
    trial.phase("what is left behind");
    let keys: Vec<String> = trial.run(cmd("KEYS").arg("*")).await?;
    let (mut counters, mut marks, mut locks, mut endless) = (0, 0, Vec::new(), Vec::new());
    for key in keys {
        let ttl: i64 = trial.run(cmd("PTTL").arg(&key)).await?;
        match (key.rsplit_once(':').map(|(_, end)| end), ttl) {
            // It ended between the two commands.
            (_, -2) => {}
            (Some("fence"), _) => counters += 1,
            (_, -1) => endless.push(key),
            // That somebody waited lately.
            (Some("waiting"), _) => marks += 1,
            _ => locks.push(key),
        }
    }
    let mut observed = format!("{counters} fencing counters");
    if marks > 0 {
        observed.push_str(&format!(", {marks} marks of waiters that end by themselves"));
    }
    for (what, keys) in [("still taken", &locks), ("without an end", &endless)] {
        if !keys.is_empty() {
            observed.push_str(&format!("; {what}: {}", keys.join(", ")));
        }
    }
    Ok(Check::new("nothing is left behind", counters > 0 && locks.is_empty() && endless.is_empty(), observed))
}
