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
use super::findings::Findings;
use super::post::Post;

/// A strategy in the lab.
#[async_trait]
pub trait Strategy: Send + Sync {
    /// Its name, as in `--only`.
    fn name(&self) -> &'static str;

    /// Puts it to the test, with worker processes on servers of its own.
    async fn run(&self, lab: &Lab) -> Result<Findings>;

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
