//! redis-semaphore in the lab.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use redis_semaphore::{Client, LeaseOptions, Lock, Semaphores};

use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::WorkerArgs;
use crate::lab::findings::{About, Findings};
use crate::lab::locks::{self, Locks, Locksmith, arrival, left_behind, permits, speed};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::trial::Trial;

/// The strategy.
pub struct RedisSemaphore;

#[async_trait]
impl Strategy for RedisSemaphore {
    fn name(&self) -> &'static str {
        "redis-semaphore"
    }

    fn about(&self) -> About {
        About {
            complexity: "one Redis; a name and a limit that all agree on",
            guarantees: "never more than the limit, in order of arrival; permits of the dead come back",
            limits: "one server's memory; each hand-over goes over the server",
            guards: &[Break::ReleaseCompare, Break::Order, Break::Ttl],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        let (metrics, mut figures) = speed::run(&trial, "waiting for a permit").await?;
        let (crowded, stays) = permits::crowded(&trial).await?;
        figures.push(stays);
        let checks = vec![
            crowded,
            arrival::run(&trial, permits::LIMIT).await?,
            permits::killed(&trial).await?,
            // The semaphores themselves stay: they keep their limits and tokens.
            left_behind::run(&trial, |key| key.ends_with('}'), &["queue", "alive", "waiters"]).await?,
        ];
        Ok(Findings::of(self, metrics, checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        locks::soak::run(round, self.name(), 1, Some(permits::LIMIT)).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        locks::work(self, args, post).await
    }
}

#[async_trait]
impl Locksmith for RedisSemaphore {
    async fn open(&self, url: &str) -> Result<Box<dyn Locks>> {
        Ok(Box::new(Semaphores::new(Client::connect(url).await?)))
    }
}

#[async_trait]
impl Locks for Semaphores {
    fn lock(&self, name: &str, _shared: bool, options: LeaseOptions) -> Result<Arc<dyn Lock>> {
        Ok(Arc::new(self.by_set(name, permits::LIMIT)?.with_options(options)))
    }

    async fn close(&self) -> Vec<String> {
        self.manager().shutdown().await.iter().map(ToString::to_string).collect()
    }
}
