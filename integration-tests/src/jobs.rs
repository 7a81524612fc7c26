//! What became of a queue's jobs, told by somebody else than the queue.
//!
//! Workers write into a list on another server when they begin a job and when they are at its end; the test writes there
//! whom it killed or stopped. The server's order of these words is the order of events.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result};
use redis_lua::redis::cmd;
use redis_streams::Client;

/// A list of events on a server.
#[derive(Debug, Clone)]
pub struct Jobs {
    client: Client,
    key: String,
}

/// What was found in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Jobs that were never done.
    pub lost: BTreeSet<u32>,
    /// Jobs that were begun while another worker was at them, alive by all that is known.
    pub overlaps: Vec<u32>,
    /// Jobs that were begun after a later one of their key.
    pub out_of_order: Vec<u32>,
    /// Jobs that were begun while another of their key was at work.
    pub beside: Vec<u32>,
    /// Jobs that were done more than once.
    pub again: BTreeSet<u32>,
}

impl Jobs {
    /// The list of this name.
    #[must_use]
    pub fn new(client: Client, name: &str) -> Self {
        Self { client, key: format!("{name}/history") }
    }

    /// A worker begins a job of a key.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn begin(&self, who: &str, key: &str, job: u32) -> Result<()> {
        self.write(&format!("begin {who} {key} {job}")).await
    }

    /// It is at the end of it: done, or to be tried again.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn end(&self, who: &str, key: &str, job: u32, done: bool) -> Result<()> {
        self.write(&format!("{} {who} {key} {job}", if done { "done" } else { "again" })).await
    }

    /// From now on nothing is expected of this worker: it was killed, or stopped for long.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn out(&self, who: &str) -> Result<()> {
        self.write(&format!("out {who} - 0")).await
    }

    async fn write(&self, event: &str) -> Result<()> {
        Ok(self.client.run(cmd("RPUSH").arg(&self.key).arg(event)).await?)
    }

    /// How many events there are.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn len(&self) -> Result<usize> {
        Ok(self.client.run(cmd("LLEN").arg(&self.key)).await?)
    }

    /// What became of the jobs with the numbers below `jobs`.
    ///
    /// # Errors
    /// When the server does not answer, or an event makes no sense.
    pub async fn check(&self, jobs: u32) -> Result<Findings> {
        let events: Vec<String> = self.client.run(cmd("LRANGE").arg(&self.key).arg(0).arg(-1)).await?;
        check(&events, jobs)
    }
}

fn check(events: &[String], jobs: u32) -> Result<Findings> {
    let mut findings = Findings { lost: (0..jobs).collect(), ..Findings::default() };
    // Who is at which job of which key.
    let mut at_work: HashMap<&str, BTreeMap<u32, &str>> = HashMap::new();
    let mut newest: HashMap<&str, u32> = HashMap::new();
    for event in events {
        let mut words = event.split(' ');
        let mut word = || words.next().with_context(|| format!("no event: {event:?}"));
        let (what, who, key, job) = (word()?, word()?, word()?, word()?.parse()?);
        match what {
            "begin" => {
                for (of, jobs) in &at_work {
                    if *of != who && jobs.contains_key(&job) {
                        findings.overlaps.push(job);
                    }
                    if jobs.iter().any(|(other, of_key)| *of_key == key && *other != job) {
                        findings.beside.push(job);
                    }
                }
                let newest = newest.entry(key).or_insert(job);
                if job < *newest {
                    findings.out_of_order.push(job);
                }
                *newest = job.max(*newest);
                at_work.entry(who).or_default().insert(job, key);
            }
            "out" => _ = at_work.remove(who),
            _ => {
                at_work.entry(who).or_default().remove(&job);
                if what == "done" && !findings.lost.remove(&job) {
                    findings.again.insert(job);
                }
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(events: &[&str]) -> Findings {
        check(&events.iter().map(|event| (*event).to_owned()).collect::<Vec<_>>(), 2).unwrap()
    }

    #[test]
    fn each_sort_of_fault_is_seen() {
        let fine = ["begin a k 0", "again a k 0", "begin b k 0", "done b k 0", "begin a k 1", "done a k 1"];
        assert_eq!(found(&fine), Findings::default());
        assert_eq!(found(&fine[..4]).lost, [1].into());
        assert_eq!(found(&["begin a k 0", "begin b k 0"]).overlaps, [0]);
        assert!(found(&["begin a k 0", "out a - 0", "begin b k 0"]).overlaps.is_empty());
        assert_eq!(found(&["begin a k 0", "begin b k 1"]).beside, [1]);
        assert!(found(&["begin a k 0", "begin b l 1"]).beside.is_empty());
        assert_eq!(found(&["begin a k 1", "done a k 1", "begin a k 0"]).out_of_order, [0]);
        assert_eq!(found(&["begin a k 0", "done a k 0", "begin b k 0", "done b k 0"]).again, [0].into());
    }
}
