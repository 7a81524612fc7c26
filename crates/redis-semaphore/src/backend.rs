//! How permits are granted, renewed and released: a script and a round trip each.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis_lua::redis::{Value, from_redis_value};
use redis_lua::{Client, Key, Script};
use turnstile_core::{
    BackendError, FencingToken, GrantReply, GrantRequest, LeaseBackend, Owner, ReleaseOutcome, ReleaseReply,
    RenewReply, Renewal,
};

use crate::SemaphoreError;
use crate::resource::SemaphoreResource;
use crate::wakes::Wakes;

macro_rules! script {
    ($name:literal) => {
        Script::new($name, concat!(include_str!("lua/common.lua"), include_str!(concat!("lua/", $name, ".lua"))))
    };
}

static GRANT: Script = script!("grant");
static RELEASE: Script = script!("release");
static RENEW: Script = Script::new("renew", include_str!("lua/renew.lua"));
pub(crate) static SET_LIMIT: Script = script!("set_limit");
pub(crate) static REVIEW: Script = script!("review");
pub(crate) static LOOK: Script = script!("look");

/// How long a waiter keeps its place without asking.
const PLACE_TTL: Duration = Duration::from_secs(3);
/// How often a waiter asks unless it is told to: more rarely the further back it stands.
const ASKS_EVERY: Duration = Duration::from_millis(50);
const ASKS_AT_LEAST: Duration = Duration::from_secs(1);

/// The strategy of this crate, for a [`LeaseManager`](turnstile_core::LeaseManager).
#[derive(Debug)]
pub struct SemaphoreBackend {
    pub(crate) client: Client,
    pub(crate) label: String,
    pub(crate) wakes: Wakes,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn part<T: redis_lua::redis::FromRedisValue>(reply: &[Value], at: usize) -> Option<T> {
    from_redis_value(reply.get(at)?.clone()).ok()
}

/// The refusals that scripts answer with a negative number.
pub(crate) fn checked(resource: &SemaphoreResource, reply: Vec<Value>) -> Result<Vec<Value>, SemaphoreError> {
    let name = resource.title.clone();
    match part::<i64>(&reply, 0) {
        Some(-1) => {
            let form = part::<String>(&reply, 2).unwrap_or_default();
            let theirs = part(&reply, 1).unwrap_or_default();
            Err(if form == resource.form.as_str() {
                SemaphoreError::OtherLimit { name, theirs, yours: resource.limit }
            } else {
                SemaphoreError::OtherForm { name, theirs: form.into() }
            })
        }
        Some(-2) => {
            let version = part::<String>(&reply, 1).unwrap_or_default().into();
            Err(SemaphoreError::OtherVersion { name, version })
        }
        _ => Ok(reply),
    }
}

impl SemaphoreBackend {
    async fn ask(&self, request: GrantRequest<'_, SemaphoreResource>) -> Result<GrantReply, SemaphoreError> {
        let resource = request.resource;
        let queues = resource.fair && request.asks_again_within.is_some();
        let reply: Vec<Value> = GRANT
            .keys(resource.keys())
            .arg(request.owner.to_hex().as_ref())
            .arg(millis(request.ttl))
            .arg(resource.weight)
            .arg(resource.limit)
            .arg(resource.form.as_str())
            .arg(if queues { millis(PLACE_TTL) } else { 0 })
            .arg(u8::from(resource.fair))
            .arg(self.wakes.channel.as_str())
            .arg(self.label.as_str())
            .run(&self.client)
            .await?;
        let reply = checked(resource, reply)?;
        let number = |at| part::<i64>(&reply, at).and_then(|n| u64::try_from(n).ok());
        if part::<i64>(&reply, 0) == Some(1) {
            return Ok(GrantReply::Granted { first_token: FencingToken::new(number(1).unwrap_or_default()) });
        }
        let (ends, ahead) = (number(1).map(Duration::from_millis), number(2));
        let ends_within = ahead.map_or(ends, |ahead| {
            let turns = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
            let asks = ASKS_EVERY.saturating_mul(turns).min(ASKS_AT_LEAST);
            // Only the head has a use for the first end.
            Some(if ahead == 0 { ends.unwrap_or(asks).min(asks) } else { asks })
        });
        Ok(GrantReply::Refused { ends_within, ahead })
    }

    async fn renew_together(
        &self,
        leases: impl Iterator<Item = &Renewal<SemaphoreResource>> + Clone,
    ) -> Result<Vec<bool>, BackendError> {
        let keys: Vec<Key<'_>> = leases
            .clone()
            .flat_map(|lease| [lease.resource.name.key("permits"), lease.resource.name.key("holder")])
            .collect();
        let mut call = RENEW.keys_of_any_tag(keys);
        for lease in leases {
            call = call.arg(lease.owner.to_hex().as_ref()).arg(millis(lease.ttl));
        }
        Ok(call.run(&self.client).await?)
    }
}

#[async_trait]
impl LeaseBackend for SemaphoreBackend {
    type Resource = SemaphoreResource;

    async fn grant(&self, request: GrantRequest<'_, SemaphoreResource>) -> Result<GrantReply, BackendError> {
        let (owner, waits) = (request.owner, request.resource.fair && request.asks_again_within.is_some());
        if waits {
            self.wakes.expect(owner);
        }
        let reply = self.ask(request).await;
        // Whoever goes away otherwise is forgotten by the release that follows; errors that end the wait have none.
        let over = match &reply {
            Ok(reply) => matches!(reply, GrantReply::Granted { .. }),
            Err(SemaphoreError::Redis(error)) => !error.is_transient(),
            Err(_) => true,
        };
        if waits && over {
            self.wakes.forget(owner);
        }
        Ok(reply?)
    }

    async fn renew(&self, leases: &[Renewal<SemaphoreResource>]) -> Vec<Result<RenewReply, BackendError>> {
        // On a cluster, one call for each slot.
        let mut calls: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (at, lease) in leases.iter().enumerate() {
            let slot = if self.client.is_cluster() { lease.resource.name.slot() } else { 0 };
            calls.entry(slot).or_default().push(at);
        }
        let calls = calls.into_values().map(|places| async move {
            let replies = self.renew_together(places.iter().map(|&at| &leases[at])).await;
            (places, replies)
        });
        let mut replies = vec![Ok(RenewReply::NotHeld); leases.len()];
        for (places, answer) in join_all(calls).await {
            for (nth, at) in places.into_iter().enumerate() {
                replies[at] = answer.as_ref().map_err(Clone::clone).map(|renewed| match renewed.get(nth) {
                    Some(true) => RenewReply::Renewed,
                    _ => RenewReply::NotHeld,
                });
            }
        }
        replies
    }

    async fn release(&self, resource: &SemaphoreResource, owner: Owner) -> Result<ReleaseReply, BackendError> {
        self.wakes.forget(owner);
        let held: bool = RELEASE.keys(resource.keys()).arg(owner.to_hex().as_ref()).run(&self.client).await?;
        let outcome = if held { ReleaseOutcome::Released } else { ReleaseOutcome::AlreadyExpired };
        Ok(ReleaseReply::new(outcome, None))
    }

    async fn wait(&self, resource: &SemaphoreResource, owner: Owner, at_most: Duration) {
        if resource.fair {
            self.wakes.told(owner, at_most).await;
        } else {
            tokio::time::sleep(at_most).await;
        }
    }
}
