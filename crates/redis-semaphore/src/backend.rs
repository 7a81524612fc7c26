//! How permits are granted, renewed and released: a script and a round trip each, and a message to who is next.

use std::time::Duration;

use async_trait::async_trait;
use redis_lua::redis::{FromRedisValue, Value, from_redis_value};
use redis_lua::{Client, Heartbeats, Inbox, Key, Script, renew_in_batches};
use turnstile_core::{
    BackendError, FencingToken, GrantReply, GrantRequest, LeaseBackend, Owner, ReleaseOutcome, ReleaseReply,
    RenewReply, Renewal,
};

use crate::SemaphoreError;
use crate::resource::SemaphoreResource;

/// A script of this crate: its flags, and its parts in order.
macro_rules! script {
    ($name:literal, $flags:literal, $($part:literal),+) => {
        redis_lua::Script::new($name, concat!($flags, $(include_str!(concat!("lua/", $part, ".lua"))),+))
    };
}
pub(crate) use script;

static GRANT: Script = script!("grant", "", "confirm", "common", "queue", "grant");
/// What gives permits back has to work where memory is short.
static RELEASE: Script = script!("release", "#!lua flags=allow-oom\n", "time", "common", "release");
static RENEW: Script = Script::new("renew", include_str!("lua/renew.lua"));
/// Waiters' signs of life, and the check that nothing was missed.
static BEAT: Script = script!("beat", "#!lua flags=allow-oom\n", "time", "common", "queue", "beat");

/// No limit: one in the queue is told when it is to ask, and is checked upon by its signs of life.
const UNTIL_TOLD: Duration = Duration::MAX;

/// The strategy of this crate, for a [`LeaseManager`](turnstile_core::LeaseManager).
#[derive(Debug)]
pub struct SemaphoreBackend {
    pub(crate) client: Client,
    inbox: Inbox,
    beats: Heartbeats<SemaphoreResource>,
    label: String,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A part of a reply, where it is one of that type.
pub(crate) fn part<T: FromRedisValue>(reply: &[Value], at: usize) -> Option<T> {
    from_redis_value(reply.get(at)?.clone()).ok()
}

/// The refusals that scripts answer with a negative number.
pub(crate) fn checked(resource: &SemaphoreResource, reply: Vec<Value>) -> Result<Vec<Value>, SemaphoreError> {
    let name = resource.title.clone();
    let limit = || part(&reply, 1).unwrap_or_default();
    match part::<i64>(&reply, 0) {
        Some(-1) => {
            let form = part::<String>(&reply, 2).unwrap_or_default();
            Err(if form == resource.form.as_str() {
                SemaphoreError::OtherLimit { name, theirs: limit(), yours: resource.limit }
            } else {
                SemaphoreError::OtherForm { name, theirs: form.into() }
            })
        }
        Some(-2) => {
            let version = part::<String>(&reply, 1).unwrap_or_default().into();
            Err(SemaphoreError::OtherVersion { name, version })
        }
        Some(-3) => Err(SemaphoreError::TooHeavy { weight: resource.weight, limit: limit() }),
        _ => Ok(reply),
    }
}

impl SemaphoreBackend {
    pub(crate) fn new(client: Client, label: String, heartbeat: Duration) -> Self {
        let inbox = Inbox::new(client.clone());
        let beats = Heartbeats::new(client.clone(), inbox.clone(), heartbeat, &BEAT);
        Self { client, inbox, beats, label }
    }

    /// Asks once. With a refusal, when the first permit ends unless it is renewed.
    async fn ask(
        &self,
        request: GrantRequest<'_, SemaphoreResource>,
        waits: bool,
    ) -> Result<(GrantReply, Option<Duration>), SemaphoreError> {
        let resource = request.resource;
        let reply: Vec<Value> = GRANT
            .keys(resource.keys())
            .arg(request.owner.to_hex().as_ref())
            .arg(millis(request.ttl))
            .arg(resource.weight)
            .arg(resource.limit)
            .arg(u8::from(resource.any_limit))
            .arg(resource.form.as_str())
            .arg(u8::from(resource.fair))
            .arg(if waits { millis(self.beats.every()) } else { 0 })
            .arg(self.inbox.channel(&resource.name))
            .arg(self.label.as_str())
            .arg(u8::from(resource.passing_limit))
            .run(&self.client)
            .await?;
        let reply = checked(resource, reply)?;
        let number = |at| part::<i64>(&reply, at).and_then(|n| u64::try_from(n).ok());
        if number(0) == Some(1) {
            let first_token = FencingToken::new(number(1).unwrap_or_default());
            return Ok((GrantReply::Granted { first_token }, None));
        }
        let (ends, ahead) = (number(1).map(Duration::from_millis), number(2));
        let ends_within = if ahead.is_some() { Some(UNTIL_TOLD) } else { ends };
        Ok((GrantReply::Refused { ends_within, ahead }, ends))
    }

    async fn renew_together(&self, leases: Vec<&Renewal<SemaphoreResource>>) -> Result<Vec<bool>, BackendError> {
        let keys: Vec<Key<'_>> = leases.iter().flat_map(|lease| lease.resource.held_keys()).collect();
        let mut call = RENEW.keys_of_any_tag(keys);
        for lease in leases {
            call = call.arg(lease.owner.to_hex().as_ref()).arg(millis(lease.ttl));
        }
        Ok(call.run(&self.client).await?)
    }

    /// No longer waits.
    fn forget(&self, resource: &SemaphoreResource, owner: Owner) {
        self.beats.leave(resource, owner);
        self.inbox.forget(owner);
    }
}

#[async_trait]
impl LeaseBackend for SemaphoreBackend {
    type Resource = SemaphoreResource;
    const STRATEGY: &'static str = "redis-semaphore";

    async fn grant(&self, request: GrantRequest<'_, SemaphoreResource>) -> Result<GrantReply, BackendError> {
        let (resource, owner) = (request.resource, request.owner);
        let waits = resource.fair && request.asks_again_within.is_some();
        if waits {
            self.inbox.expect(&resource.name, owner);
        }
        let reply = self.ask(request, waits).await;
        match &reply {
            Ok((GrantReply::Refused { ahead: Some(ahead), .. }, ends)) => {
                self.beats.enter(resource, owner, *ahead, *ends);
            }
            // It asks again, or is released.
            Err(SemaphoreError::Redis(error)) if error.is_transient() => {}
            _ => self.forget(resource, owner),
        }
        Ok(reply?.0)
    }

    async fn renew(&self, leases: &[Renewal<SemaphoreResource>]) -> Vec<Result<RenewReply, BackendError>> {
        renew_in_batches(&self.client, leases, |on| ((), &on.name), |(), batch| self.renew_together(batch)).await
    }

    async fn release(&self, resource: &SemaphoreResource, owner: Owner) -> Result<ReleaseReply, BackendError> {
        self.forget(resource, owner);
        let held: bool = RELEASE.keys(resource.keys()).arg(owner.to_hex().as_ref()).run(&self.client).await?;
        let outcome = if held { ReleaseOutcome::Released } else { ReleaseOutcome::AlreadyExpired };
        Ok(ReleaseReply::new(outcome, None))
    }

    async fn wait(&self, resource: &SemaphoreResource, owner: Owner, at_most: Duration) {
        if resource.fair {
            self.beats.wait(owner, at_most).await;
        } else {
            tokio::time::sleep(at_most).await;
        }
    }

    fn ahead(&self, resource: &SemaphoreResource, owner: Owner) -> Option<u64> {
        self.beats.ahead(resource, owner)
    }
}
