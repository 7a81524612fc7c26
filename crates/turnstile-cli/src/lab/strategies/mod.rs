//! The strategies that the lab knows: a file each, and a line in [`all`].

mod kafka_group;
mod kafka_mt_consumer;
mod kafka_offsets;
mod kafka_partitions;
mod kafka_txn;
mod redis_lock;
mod redis_lua;
mod redis_pubsub_lock;
mod redis_redlock;
mod redis_semaphore;
mod redis_streams;

use anyhow::Result;
use async_trait::async_trait;

use super::Lab;
use super::crew::WorkerArgs;
use super::findings::{About, Findings};
use super::post::Post;
use super::soak::{Round, Soaked};

/// A strategy in the lab.
#[async_trait]
pub trait Strategy: Send + Sync {
    /// Its name, as in `--only`.
    fn name(&self) -> &'static str;

    /// What can be said of it in a line each.
    fn about(&self) -> About;

    /// Puts it to the test, with worker processes on servers of its own.
    async fn run(&self, lab: &Lab) -> Result<Findings>;

    /// Lets a round of random faults come over it, and judges what happened.
    async fn soak(&self, round: &Round<'_>) -> Result<Soaked>;

    /// What one of its worker processes does.
    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()>;
}

/// All of them, in the order in which they run.
pub fn all() -> Vec<Box<dyn Strategy>> {
    vec![
        Box::new(redis_lua::RedisLua),
        Box::new(redis_lock::RedisLock),
        Box::new(redis_pubsub_lock::RedisPubsubLock),
        Box::new(redis_redlock::RedisRedlock),
        Box::new(redis_semaphore::RedisSemaphore),
        Box::new(redis_streams::RedisStreams),
        Box::new(kafka_offsets::KafkaOffsets),
        Box::new(kafka_group::KafkaGroup),
        Box::new(kafka_mt_consumer::KafkaMtConsumer),
        Box::new(kafka_txn::KafkaTxn),
        Box::new(kafka_partitions::KafkaPartitions),
    ]
}

/// Their names.
pub fn names() -> Vec<&'static str> {
    all().iter().map(|strategy| strategy.name()).collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::lab::breaks::Break;

    #[test]
    fn every_guard_is_one_of_some_strategy_and_every_strategy_has_some() {
        let all = all();
        for guard in Break::value_variants() {
            assert!(all.iter().any(|strategy| strategy.about().guards.contains(guard)), "{guard:?} is nobody's");
        }
        assert!(all.iter().all(|strategy| strategy.about().guards.len() >= 3));
    }
}
