//! Which faults come when. A seed says it all, so that the same seed brings the same ones.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// What is done to those who take part, or to their servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A process is killed, and another takes its place.
    Kill,
    /// A process is stopped, and goes on: for it, all clocks jump ahead.
    Stop,
    /// All connections to a server are reset, and in Kafka's case refused for a while.
    Cut,
    /// A network is slow for a while.
    Delay,
    /// A server does what it was asked, and its reply is lost.
    LostReply,
    /// A server is stopped, and goes on.
    ServerStop,
    /// A server is killed and comes back with what it had on disk.
    ServerRestart,
    /// A server forgets all scripts.
    Flush,
}

/// A fault that is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// When, from the beginning of the round.
    pub at: Duration,
    pub fault: Fault,
    /// Whom it meets; to be taken modulo how many there are.
    pub whom: usize,
    pub lasts: Duration,
}

/// What faults can meet, and at which pace.
#[derive(Debug, Clone)]
pub struct Ills {
    pub kinds: &'static [Fault],
    pub lasts: Range<Duration>,
    /// Between two faults.
    pub rest: Range<Duration>,
}

/// The faults of a round for `whom`, who has no others' luck.
pub fn draw(seed: u64, whom: &str, ills: &Ills, time: Duration) -> Vec<Step> {
    // FNV-1a, as the same everywhere and always.
    let own = whom
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut random = StdRng::seed_from_u64(seed ^ own);
    let mut between = |range: &Range<Duration>| random.random_range(range.start..range.end);
    let (mut steps, mut at) = (Vec::new(), between(&ills.rest));
    while at < time {
        let (lasts, rest) = (between(&ills.lasts), between(&ills.rest));
        steps.push(Step { at, fault: Fault::Kill, whom: 0, lasts });
        at += lasts + rest;
    }
    for step in &mut steps {
        step.fault = ills.kinds[random.random_range(0..ills.kinds.len())];
        step.whom = random.random_range(0..1_000_000);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_brings_the_same_faults_again_and_each_has_its_own() {
        let second = Duration::from_secs(1);
        let ills = Ills {
            kinds: &[Fault::Kill, Fault::Cut, Fault::Flush],
            lasts: second / 10..second,
            rest: second / 5..second,
        };
        let steps = draw(7, "redis-lock", &ills, second * 60);
        assert_eq!(steps, draw(7, "redis-lock", &ills, second * 60));
        assert_ne!(steps, draw(8, "redis-lock", &ills, second * 60));
        assert_ne!(steps, draw(7, "redis-redlock", &ills, second * 60));
        assert!(steps.len() > 30 && steps.iter().all(|step| step.at < second * 60 && ills.lasts.contains(&step.lasts)));
        assert!(ills.kinds.iter().all(|kind| steps.iter().any(|step| step.fault == *kind)));
    }
}
