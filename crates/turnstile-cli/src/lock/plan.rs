//! What the options ask for, checked before anything is sent.

use std::time::Duration;

use redis_lock::LeaseOptions;

use crate::cli::{LockArgs, OnLost, RunArgs};
use crate::exit::{self, Failure};

/// The usual time from TERM to KILL.
const GRACE: Duration = Duration::from_secs(5);
/// The longest that KILL comes before the end of the lease, so that the command is gone by then.
const LONGEST_MARGIN: Duration = Duration::from_secs(1);

/// When the lease runs out, what is done how long before.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub on_lost: OnLost,
    /// From TERM to KILL.
    pub grace: Duration,
    /// From KILL to the end of the lease.
    pub margin: Duration,
}

impl Timing {
    /// A lease is renewed when two thirds of it are left. `grace` is at most half of it, so that a renewal that is late,
    /// or has to be sent twice, does not end the command.
    pub fn new(ttl: Duration, grace: Option<Duration>, on_lost: OnLost) -> Result<Self, Failure> {
        let grace = grace.unwrap_or(GRACE.min(ttl / 3));
        if on_lost == OnLost::Term && grace > ttl / 2 {
            let text = format!(
                "--grace {grace:?} leaves too little of --ttl {ttl:?} to renew the lock: give a --grace of at most {:?}, \
                 or a --ttl of at least {:?}",
                ttl / 2,
                grace.saturating_mul(2)
            );
            return Err(Failure::new(exit::USAGE, text));
        }
        Ok(Self { on_lost, grace, margin: LONGEST_MARGIN.min(ttl / 20) })
    }

    /// How long before the end of the lease something has to be done.
    pub fn lead(&self) -> Duration {
        match self.on_lost {
            OnLost::Term => self.margin + self.grace,
            OnLost::Kill => self.margin,
            OnLost::Ignore => Duration::ZERO,
        }
    }
}

pub struct Plan {
    pub options: LeaseOptions,
    pub timing: Timing,
    /// `None`: as long as it takes.
    pub wait: Option<Duration>,
}

impl Plan {
    pub fn new(args: &RunArgs) -> Result<Self, Failure> {
        let options =
            LeaseOptions::new(args.ttl).map_err(|error| Failure::new(exit::USAGE, format!("--ttl: {error}")))?;
        let timing = Timing::new(args.ttl, args.grace, args.on_lost)?;
        let wait = if args.no_wait { Some(Duration::ZERO) } else { args.wait };
        Ok(Self { options, timing, wait })
    }
}

/// The names in the order of the command line, the first time each.
pub fn names(args: &LockArgs) -> Vec<&str> {
    let mut names = vec![args.first_name.as_str()];
    for name in &args.more_names {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn term_never_comes_while_renewals_are_on_time() {
        for ttl in [10, 100, 1_000, 30_000, 3_600_000].map(Duration::from_millis) {
            for grace in [None, Some(ttl / 2), Some(Duration::ZERO)] {
                let timing = Timing::new(ttl, grace, OnLost::Term).unwrap();
                assert!(timing.lead() < ttl * 2 / 3 - ttl / 100, "{timing:?} of {ttl:?}");
            }
        }
    }

    #[test]
    fn a_grace_that_would_end_a_healthy_command_is_refused_with_what_to_do() {
        let error = Timing::new(Duration::from_secs(30), Some(Duration::from_secs(20)), OnLost::Term).unwrap_err();
        assert_eq!(error.code, exit::USAGE);
        assert!(error.message.contains("at most 15s") && error.message.contains("at least 40s"), "{error}");
        Timing::new(Duration::from_secs(30), Some(Duration::from_secs(20)), OnLost::Kill).unwrap();
    }
}
