//! redis-pubsub-lock in the lab.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use redis_pubsub_lock::{Client, FairLocks, LeaseOptions, Lock};

use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::WorkerArgs;
use crate::lab::findings::{About, Findings};
use crate::lab::locks::{self, Locks, Locksmith, arrival, deaths, exclusion, left_behind, lost_reply, speed};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::trial::Trial;

/// The strategy.
pub struct RedisPubsubLock;

#[async_trait]
impl Strategy for RedisPubsubLock {
    fn name(&self) -> &'static str {
        "redis-pubsub-lock"
    }

    fn about(&self) -> About {
        About {
            complexity: "one Redis; a name, and a time to live",
            guarantees: "one holder, first come first served over all processes; tokens fence",
            limits: "one server's memory; a hand-over costs a message and two scripts",
            guards: &[
                Break::ReleaseCompare,
                Break::Token,
                Break::Fence,
                Break::Notice,
                Break::Ttl,
                Break::Retry,
                Break::Order,
            ],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        let (metrics, mut figures) = speed::run(&trial, "waiting for the lock").await?;
        let (exclusion, stays) = exclusion::run(&trial).await?;
        figures.push(stays);
        let mut checks = Vec::from(exclusion);
        checks.push(arrival::run(&trial, 1).await?);
        checks.push(deaths::killed(&trial).await?);
        checks.extend(deaths::stopped(&trial).await?);
        checks.push(lost_reply::run(&trial).await?);
        let marks = ["holder", "queue", "alive", "waiting"];
        checks.push(left_behind::run(&trial, |key| key.ends_with(":fence"), &marks).await?);
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
impl Locksmith for RedisPubsubLock {
    async fn open(&self, url: &str) -> Result<Box<dyn Locks>> {
        Ok(Box::new(FairLocks::new(Client::connect(url).await?)))
    }
}

#[async_trait]
impl Locks for FairLocks {
    fn lock(&self, name: &str, _shared: bool, options: LeaseOptions) -> Result<Arc<dyn Lock>> {
        Ok(Arc::new(FairLocks::lock(self, name)?.with_options(options)))
    }

    async fn close(&self) -> Vec<String> {
        self.manager().shutdown().await.iter().map(ToString::to_string).collect()
    }
}
