//! Claim: when all have ended, the server holds nothing any more, and no key for good but those that have to stay.

use anyhow::Result;
use redis_lua::redis::cmd;

use crate::lab::findings::Check;
use crate::lab::trial::Trial;

/// Looks at all keys of all servers. Call it when all workers have given back what they had. Who has to stay is told by
/// `stays`; `marks` are the suffixes of keys that nobody holds, and that end by themselves.
pub async fn run(trial: &Trial<'_>, stays: impl Fn(&str) -> bool, marks: &[&str]) -> Result<Check> {
    trial.phase("what is left behind");
    let (mut stayed, mut marked, mut locks, mut endless) = (0, 0, Vec::new(), Vec::new());
    for client in trial.clients() {
        let keys: Vec<String> = client.run(cmd("KEYS").arg("*")).await?;
        for key in keys {
            let ttl: i64 = client.run(cmd("PTTL").arg(&key)).await?;
            match ttl {
                // It ended between the two commands.
                -2 => {}
                _ if stays(&key) => stayed += 1,
                -1 => endless.push(key),
                _ if key.rsplit_once(':').is_some_and(|(_, suffix)| marks.contains(&suffix)) => marked += 1,
                _ => locks.push(key),
            }
        }
    }
    let mut observed = format!("{stayed} keys with fencing counters");
    if marked > 0 {
        observed.push_str(&format!(", {marked} traces of queues that end by themselves"));
    }
    for (what, keys) in [("still taken", &locks), ("without an end", &endless)] {
        if !keys.is_empty() {
            observed.push_str(&format!("; {what}: {}", keys.join(", ")));
        }
    }
    Ok(Check::new("nothing is left behind", stayed > 0 && locks.is_empty() && endless.is_empty(), observed))
}
