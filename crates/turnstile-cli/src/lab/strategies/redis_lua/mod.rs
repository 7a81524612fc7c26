//! redis-lua in the lab: it grants nothing, so what is measured are calls of a script.

mod atomic;
mod guarded;
mod orders;
mod reconnect;
mod soak;
mod worker;

use anyhow::Result;
use async_trait::async_trait;

use super::Strategy;
use crate::lab::Lab;
use crate::lab::breaks::Break;
use crate::lab::crew::WorkerArgs;
use crate::lab::findings::{About, Findings};
use crate::lab::post::Post;
use crate::lab::soak::{Round, Soaked};
use crate::lab::trial::Trial;

/// How many processes call scripts, and how many tasks in each.
const PROCESSES: u32 = 4;
const TASKS: u32 = 8;

/// The strategy.
pub struct RedisLua;

#[async_trait]
impl Strategy for RedisLua {
    fn name(&self) -> &'static str {
        "redis-lua"
    }

    fn about(&self) -> About {
        About {
            complexity: "one Redis; scripts that name all their keys",
            guarantees: "a script is all or nothing; a guarded write refuses older tokens",
            limits: "one server's memory; on a cluster, all keys of a script under one hash tag; a call whose reply was lost may have run",
            guards: &[Break::Atomic, Break::ScriptFlush, Break::Reconnect, Break::GuardedWrite],
        }
    }

    async fn run(&self, lab: &Lab) -> Result<Findings> {
        let trial = Trial::start(lab, self.name()).await?;
        let (metrics, figures) = atomic::speed(&trial).await?;
        let mut checks = Vec::from(atomic::run(&trial).await?);
        checks.push(reconnect::run(&trial).await?);
        checks.push(guarded::run(&trial).await?);
        Ok(Findings::of(self, metrics, checks, figures))
    }

    async fn soak(&self, round: &Round<'_>) -> Result<Soaked> {
        soak::run(round).await
    }

    async fn work(&self, args: WorkerArgs, post: Post) -> Result<()> {
        worker::work(args, post).await
    }
}
