//! redis-lock in the lab.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use redis_lock::{Client, LeaseOptions, Lock, RedisLocks};

use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::WorkerArgs;
use crate::lab::findings::{About, Findings};
use crate::lab::locks::{self, Locks, Locksmith, deaths, exclusion, left_behind, lost_reply, queue, sharing, speed};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::trial::Trial;

/// The strategy.
pub struct RedisLock;

#[async_trait]
impl Strategy for RedisLock {
    fn name(&self) -> &'static str {
        "redis-lock"
    }

    fn about(&self) -> About {
        About {
            complexity: "one Redis; a name, and a time to live",
            guarantees: "one holder while its lease lasts, or readers together; a late one is refused by its token",
            limits: "one server's memory; no order among processes; who waits asks again",
            guards: &[
                Break::ReleaseCompare,
                Break::Token,
                Break::Fence,
                Break::Notice,
                Break::Ttl,
                Break::Retry,
                Break::Share,
                Break::Queue,
            ],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        let (metrics, mut figures) = speed::run(&trial, "waiting for the lock").await?;
        let (exclusion, stays) = exclusion::run(&trial).await?;
        figures.push(stays);
        let mut checks = Vec::from(exclusion);
        checks.push(sharing::run(&trial).await?);
        checks.push(deaths::killed(&trial).await?);
        checks.extend(deaths::stopped(&trial).await?);
        checks.push(lost_reply::run(&trial).await?);
        checks.push(queue::run(&trial).await?);
        checks.push(left_behind::run(&trial, |key| key.ends_with(":fence"), &["waiting"]).await?);
        Ok(Findings::of(self, metrics, checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        locks::soak::run(round, self.name(), 1, None).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        locks::work(self, args, post).await
    }
}

#[async_trait]
impl Locksmith for RedisLock {
    async fn open(&self, url: &str) -> Result<Box<dyn Locks>> {
        Ok(Box::new(RedisLocks::new(Client::connect(url).await?)))
    }
}

#[async_trait]
impl Locks for RedisLocks {
    fn lock(&self, name: &str, shared: bool, options: LeaseOptions) -> Result<Arc<dyn Lock>> {
        let lock = if shared { self.read(name)? } else { self.lock(name)? };
        Ok(Arc::new(lock.with_options(options)))
    }

    async fn close(&self) -> Vec<String> {
        self.manager().shutdown().await.iter().map(ToString::to_string).collect()
    }
}
