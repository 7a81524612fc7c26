//! Judges what became of a queue's jobs, by a history that somebody else than the queue keeps.
//!
//! An event is a text: `begin WHO KEY JOB` and, at the end of an attempt, `done WHO KEY JOB` or `again WHO KEY JOB`; and
//! `out WHO - 0` for a worker of which nothing is expected any more, since it was killed, or stopped for long. Further
//! words are for whoever wrote them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result};

/// What was found in a history.
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

/// What became of the jobs with the numbers below `jobs`.
///
/// # Errors
/// When an event makes no sense.
pub fn check(events: &[String], jobs: u32) -> Result<Findings> {
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
