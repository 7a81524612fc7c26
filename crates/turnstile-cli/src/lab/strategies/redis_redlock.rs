//! redis-redlock in the lab: over five servers.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use redis_redlock::{Client, LeaseOptions, Lock, Redlock};

use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::WorkerArgs;
use crate::lab::findings::{About, Findings};
use crate::lab::locks::{self, Locks, Locksmith, deaths, exclusion, hung, left_behind, speed};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::trial::Trial;

/// The strategy.
pub struct RedisRedlock;

#[async_trait]
impl Strategy for RedisRedlock {
    fn name(&self) -> &'static str {
        "redis-redlock"
    }

    fn about(&self) -> About {
        About {
            complexity: "three or five Redis that are independent of each other; a name",
            guarantees: "one holder, though a minority of the servers is down or hangs; tokens fence",
            limits: "all servers are asked for each grant; no order among processes; their clocks must run at about one speed",
            guards: &[Break::ReleaseCompare, Break::Token, Break::Fence, Break::Notice, Break::Ttl, Break::Nodes],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::over(lab, self.name(), 5).await?;
        let (metrics, mut figures) = speed::run(&trial, "waiting for the lock").await?;
        let (exclusion, stays) = exclusion::run(&trial).await?;
        figures.push(stays);
        let mut checks = Vec::from(exclusion);
        checks.push(hung::run(&trial).await?);
        checks.push(deaths::killed(&trial).await?);
        checks.extend(deaths::stopped(&trial).await?);
        checks.push(left_behind::run(&trial, |key| key.ends_with(":fence"), &["waiting"]).await?);
        Ok(Findings::of(self, metrics, checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        locks::soak::run(round, self.name(), 5, None).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        locks::work(self, args, post).await
    }
}

#[async_trait]
impl Locksmith for RedisRedlock {
    async fn open(&self, urls: &str) -> Result<Box<dyn Locks>> {
        let clients = urls.split(',').map(Client::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(Redlock::builder(clients).build()?))
    }
}

#[async_trait]
impl Locks for Redlock {
    fn lock(&self, name: &str, shared: bool, options: LeaseOptions) -> Result<Arc<dyn Lock>> {
        let lock = if shared { self.read(name)? } else { Redlock::lock(self, name)? };
        Ok(Arc::new(lock.with_options(options)))
    }

    async fn close(&self) -> Vec<String> {
        self.shutdown().await.iter().map(ToString::to_string).collect()
    }
}
