//! What brokers bear.

use std::fmt;

use serde::Serialize;

use crate::cluster::Load;

/// How many partitions are too many.
///
/// Kafka has no limits of its own; it only gets slow, to a point where even the deletion of topics is not carried out any
/// more. By default these are what [KIP-578] calls the general recommendation: 4,000 for each broker and 200,000 in a
/// cluster. Replicas are counted, followers as well as leaders, as [hosts of Kafka] do: each costs files, memory and fetches.
/// Small brokers bear less, and clusters with KRaft may bear more in all: set what yours were sized for.
///
/// [KIP-578]: https://cwiki.apache.org/confluence/spaces/KAFKA/pages/148641509/KIP-578+Add+configuration+to+limit+number+of+partitions
/// [hosts of Kafka]: https://docs.aws.amazon.com/msk/latest/developerguide/bestpractices.html
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// Replicas on a broker.
    pub per_broker: u64,
    /// Replicas in the whole cluster.
    pub per_cluster: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_broker: 4_000, per_cluster: 200_000 }
    }
}

impl Limits {
    /// So many replicas on a broker, and so many in the whole cluster.
    #[must_use]
    pub const fn new(per_broker: u64, per_cluster: u64) -> Self {
        Self { per_broker, per_cluster }
    }

    /// What the brokers would bear with so many partitions more, each with so many replicas, spread evenly as Kafka does.
    ///
    /// # Errors
    /// [`Overload`] where that is more than they should.
    pub fn check(&self, load: &Load, more: u64, replication: u64) -> Result<Bearing, Overload> {
        let replicas = more.saturating_mul(replication);
        let brokers = load.replicas.len().max(1) as u64;
        let each = replicas.div_ceil(brokers);
        let fullest = load.replicas.iter().max_by_key(|(_, replicas)| **replicas);
        let (broker, has) = fullest.map_or((-1, 0), |(broker, replicas)| (*broker, *replicas));
        let all = load.replicas.values().fold(replicas, |all, on_one| all.saturating_add(*on_one));
        let bearing = Bearing { brokers, fullest: broker, before: has, after: has.saturating_add(each), in_all: all };
        if bearing.after > self.per_broker || all > self.per_cluster {
            return Err(Overload { bearing, limits: *self });
        }
        Ok(bearing)
    }
}

/// What the brokers would bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Bearing {
    /// How many brokers there are.
    pub brokers: u64,
    /// The broker that bears most; -1 where there is none.
    pub fullest: i32,
    /// The replicas that it bears now.
    pub before: u64,
    /// Those that it would bear.
    pub after: u64,
    /// The replicas that all would bear.
    pub in_all: u64,
}

/// More than the brokers should bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Overload {
    /// What they would bear.
    pub bearing: Bearing,
    /// What they should.
    pub limits: Limits,
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bearing: Bearing { fullest, before, after, in_all, .. }, limits } = self;
        if *after > limits.per_broker {
            write!(
                f,
                "broker {fullest} would keep {after} replicas of partitions in place of {before}, and {} are the limit",
                limits.per_broker
            )
        } else {
            write!(
                f,
                "the cluster would keep {in_all} replicas of partitions, and {} are the limit",
                limits.per_cluster
            )
        }
    }
}

impl std::error::Error for Overload {}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(replicas: &[u64]) -> Load {
        Load { replicas: (1..).zip(replicas.iter().copied()).collect(), partitions: 0 }
    }

    #[test]
    fn the_fullest_broker_decides_and_then_the_cluster() {
        let limits = Limits { per_broker: 100, per_cluster: 250 };
        let bearing = limits.check(&load(&[90, 40, 40]), 10, 3).unwrap();
        assert_eq!((bearing.fullest, bearing.before, bearing.after, bearing.in_all), (1, 90, 100, 200));
        let error = limits.check(&load(&[91, 40, 40]), 10, 3).unwrap_err();
        assert!(error.to_string().contains("broker 1 would keep 101"), "{error}");
        let error = limits.check(&load(&[80, 80, 80]), 4, 3).unwrap_err();
        assert!(error.to_string().contains("the cluster would keep 252"), "{error}");
    }

    #[test]
    fn any_numbers_are_answered() {
        assert!(Limits::default().check(&load(&[]), 0, 0).is_ok());
        assert!(Limits::default().check(&load(&[1]), u64::MAX, u64::MAX).is_err());
    }
}
