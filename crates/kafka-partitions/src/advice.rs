//! How many partitions are enough.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

/// What a topic is to carry, and who works on it.
///
/// A partition's records are worked on one at a time where order counts, so by [Little's law] (L = λW) `rate × time` records
/// are in work at any time, and as many partitions have to be. That with some room, since arrivals come in bursts and keys
/// do not spread evenly: `rate × time ÷ (at once × utilisation)`, at least one a member, and a multiple of the members, so
/// that all have the same share. It is Jun Rao's `max(t/p, t/c)` ([How to choose the number of topics/partitions]) with the
/// rate that one partition is consumed at, `c`, put as a record's time.
///
/// ```
/// use kafka_partitions::Demand;
/// use std::time::Duration;
///
/// // 2,000 records a second of 20 ms each, by 6 members: 40 are in work at any time.
/// let advice = Demand::new(2_000.0, Duration::from_millis(20)).members(6).advice()?;
/// assert_eq!((advice.in_work, advice.partitions), (40.0, 60));
/// # Ok::<(), kafka_partitions::BadDemand>(())
/// ```
///
/// [Little's law]: https://doi.org/10.1287/opre.9.3.383
/// [How to choose the number of topics/partitions]: https://www.confluent.io/blog/how-choose-number-topics-partitions-kafka-cluster/
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use = "a demand does nothing itself, use .advice()"]
pub struct Demand {
    rate: f64,
    time: Duration,
    members: u32,
    at_once: u32,
    utilisation: f64,
    written: Option<f64>,
    hottest: Option<f64>,
}

impl Demand {
    /// So many records a second at the worst, each of which takes this long to handle.
    pub const fn new(rate: f64, time: Duration) -> Self {
        Self { rate, time, members: 1, at_once: 1, utilisation: 0.7, written: None, hottest: None }
    }

    /// How many members the group has. By default one.
    pub const fn members(mut self, members: u32) -> Self {
        self.members = members;
        self
    }

    /// How many records of one partition are worked on at once; above one where they are ordered by key only
    /// (kafka-mt-consumer). By default one.
    pub const fn at_once(mut self, records: u32) -> Self {
        self.at_once = records;
        self
    }

    /// How busy partitions may be, above 0 and at most 1. By default 0.7.
    pub const fn utilisation(mut self, utilisation: f64) -> Self {
        self.utilisation = utilisation;
        self
    }

    /// How many records a second one partition takes from producers, if that has been measured.
    pub const fn written_per_partition(mut self, rate: f64) -> Self {
        self.written = Some(rate);
        self
    }

    /// The share of the hottest key, from 0 to 1, as [`Skew`](crate::Skew) reports it.
    pub const fn hottest_key(mut self, share: f64) -> Self {
        self.hottest = Some(share);
        self
    }

    /// How many partitions that needs.
    ///
    /// # Errors
    /// Where a number makes no sense, or more partitions would be needed than Kafka can count.
    pub fn advice(&self) -> Result<Advice, BadDemand> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if !positive(self.rate) || self.time.is_zero() {
            return Err(BadDemand("the rate and the time of a record must be above 0"));
        }
        if self.members == 0 || self.at_once == 0 {
            return Err(BadDemand("there must be at least one member, and one record at once"));
        }
        if !share(self.utilisation) || self.utilisation <= 0.0 || !self.hottest.is_none_or(share) {
            return Err(BadDemand("the utilisation must be above 0 and at most 1, a share of a key from 0 to 1"));
        }
        if !self.written.is_none_or(positive) {
            return Err(BadDemand("what a partition takes from producers must be above 0"));
        }
        let in_work = self.rate * self.time.as_secs_f64();
        let to_read = (in_work / (f64::from(self.at_once) * self.utilisation)).ceil().max(1.0);
        let to_write = self.written.map_or(1.0, |rate| (self.rate / rate).ceil());
        let least = to_read.max(to_write).max(f64::from(self.members));
        let members = f64::from(self.members);
        let partitions = (least / members).ceil() * members;
        if partitions > f64::from(i32::MAX) {
            return Err(BadDemand(
                "no topic can have so many partitions: make the handler quicker, or work on more at once",
            ));
        }
        Ok(Advice {
            // Whole and in range, as was just seen.
            partitions: partitions as i32,
            to_read: to_read as i32,
            to_write: to_write.min(partitions) as i32,
            members: self.members,
            in_work,
            hottest_key: self.hottest.map(|share| share * in_work),
        })
    }
}

/// How many partitions are needed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Advice {
    /// The number: enough for what follows, and a multiple of the members.
    pub partitions: i32,
    /// What the handlers need.
    pub to_read: i32,
    /// What the producers need.
    pub to_write: i32,
    /// The members among whom they are shared out.
    pub members: u32,
    /// Records that are in work at any time, on average.
    pub in_work: f64,
    /// How many of them are the hottest key's. Above 1, no number of partitions is enough: in order, a key's records are
    /// worked on one at a time, so make the handler quicker, or the key finer.
    pub hottest_key: Option<f64>,
}

impl Advice {
    /// Whether the hottest key alone is more than can be worked on in order.
    #[must_use]
    pub fn too_hot(&self) -> bool {
        self.hottest_key.is_some_and(|in_work| in_work > 1.0)
    }
}

/// A demand that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct BadDemand(&'static str);

#[cfg(test)]
mod tests {
    use super::*;

    const fn demand(rate: f64, millis: u64) -> Demand {
        Demand::new(rate, Duration::from_millis(millis))
    }

    #[test]
    fn what_is_in_work_decides_then_the_members_then_the_producers() {
        let advice = demand(100.0, 100).advice().unwrap();
        assert_eq!((advice.in_work, advice.to_read, advice.partitions), (10.0, 15, 15));
        assert_eq!(demand(100.0, 100).members(4).advice().unwrap().partitions, 16);
        assert_eq!(demand(1.0, 1).members(5).advice().unwrap().partitions, 5);
        assert_eq!(demand(100.0, 100).at_once(10).advice().unwrap().partitions, 2);
        assert_eq!(demand(100.0, 1).written_per_partition(3.0).advice().unwrap().partitions, 34);
        assert_eq!(demand(100.0, 100).utilisation(1.0).advice().unwrap().partitions, 10);
    }

    #[test]
    fn a_key_that_no_number_of_partitions_can_carry_is_told() {
        assert!(!demand(100.0, 100).hottest_key(0.1).advice().unwrap().too_hot());
        assert!(demand(100.0, 100).hottest_key(0.2).advice().unwrap().too_hot());
    }

    #[test]
    fn nonsense_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(demand(rate, 1).advice().is_err(), "{rate}");
            assert!(demand(1.0, 1).written_per_partition(rate).advice().is_err(), "{rate}");
        }
        for share in [0.0, 1.1, -0.1, f64::NAN] {
            assert!(demand(1.0, 1).utilisation(share).advice().is_err(), "{share}");
        }
        assert!(demand(1.0, 0).advice().is_err());
        assert!(demand(1.0, 1).members(0).advice().is_err());
        assert!(demand(1.0, 1).at_once(0).advice().is_err());
        assert!(demand(1.0, 1).hottest_key(1.5).advice().is_err());
        assert!(demand(f64::MAX, 1000).advice().is_err());
        assert!(demand(1e12, 1000).advice().is_err());
    }
}
