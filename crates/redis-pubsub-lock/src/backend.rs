//! How leases are granted, renewed and released: a script and a round trip each, and a message to who is next.

use std::time::Duration;

use async_trait::async_trait;
use redis_lua::redis::{Value, from_redis_value};
use redis_lua::{Client, Heartbeats, Inbox, Key, Script, renew_in_batches};
use turnstile_core::{
    BackendError, FencingToken, GrantReply, GrantRequest, LeaseBackend, Owner, ReleaseOutcome, ReleaseReply,
    RenewReply, Renewal, Resource,
};

use crate::OtherVersion;
use crate::resource::FairResource;

/// A script of this crate: its flags, and its parts in order.
macro_rules! script {
    ($name:literal, $flags:literal, $($part:literal),+) => {
        redis_lua::Script::new($name, concat!($flags, $(include_str!(concat!("lua/", $part, ".lua"))),+))
    };
}
pub(crate) use script;

static GRANT: Script = script!("grant", "", "confirm", "turn", "queue", "grant");
/// What gives the lock back has to work where memory is short.
static RELEASE: Script = script!("release", "#!lua flags=allow-oom\n", "turn", "give_back", "queue", "release");
static RENEW: Script = Script::new("renew", include_str!("lua/renew.lua"));

/// Waiters' signs of life, and the check that nothing was missed.
pub(crate) static BEAT: Script = script!("beat", "#!lua flags=allow-oom\n", "turn", "queue", "beat");

/// How long the scripts keep the lock's value beyond its end: `KEPT` of `queue.lua`.
const KEPT: Duration = Duration::from_secs(10);

/// The strategy of this crate, for a [`LeaseManager`](turnstile_core::LeaseManager).
#[derive(Debug)]
pub struct FairBackend {
    pub(crate) client: Client,
    pub(crate) inbox: Inbox,
    pub(crate) beats: Heartbeats<FairResource>,
    pub(crate) label: String,
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time as scripts tell it, where they have one to tell.
pub(crate) fn duration(millis: i64) -> Option<Duration> {
    u64::try_from(millis).ok().map(Duration::from_millis)
}

#[async_trait]
impl LeaseBackend for FairBackend {
    type Resource = FairResource;
    const STRATEGY: &'static str = "redis-pubsub-lock";

    async fn grant(&self, request: GrantRequest<'_, FairResource>) -> Result<GrantReply, BackendError> {
        let (resource, owner, waits) = (request.resource, request.owner, request.asks_again_within.is_some());
        if waits {
            self.inbox.expect(resource.lock_name(), owner);
        }
        let reply = self.ask(request).await;
        match &reply {
            Ok((GrantReply::Refused { ahead: Some(ahead), .. }, ends)) => {
                self.beats.enter(resource, owner, *ahead, *ends);
            }
            // It asks again, or is released.
            Err(error) if error.kind().is_transient() => {}
            _ => self.forget(resource, owner),
        }
        reply.map(|(reply, _)| reply)
    }

    async fn renew(&self, leases: &[Renewal<FairResource>]) -> Vec<Result<RenewReply, BackendError>> {
        renew_in_batches(&self.client, leases, |on| ((), on.lock_name()), |(), batch| self.renew_together(batch)).await
    }

    async fn release(&self, resource: &FairResource, owner: Owner) -> Result<ReleaseReply, BackendError> {
        self.forget(resource, owner);
        let call = RELEASE.keys(resource.keys()).arg(owner.to_hex().as_ref()).arg(resource.events());
        let outcome = match call.run::<u8>(&self.client).await? {
            2 => ReleaseOutcome::Released,
            1 => ReleaseOutcome::TakenOver,
            _ => ReleaseOutcome::AlreadyExpired,
        };
        Ok(ReleaseReply::new(outcome, None))
    }

    async fn wait(&self, _resource: &FairResource, owner: Owner, at_most: Duration) {
        self.beats.wait(owner, at_most).await;
    }

    fn ahead(&self, resource: &FairResource, owner: Owner) -> Option<u64> {
        self.beats.ahead(resource, owner)
    }
}

/// No limit: one in the queue is told when it is to ask, and is checked upon by its signs of life.
const UNTIL_TOLD: Duration = Duration::MAX;

impl FairBackend {
    /// Asks once. With a refusal, when the lock ends unless it is renewed.
    async fn ask(
        &self,
        request: GrantRequest<'_, FairResource>,
    ) -> Result<(GrantReply, Option<Duration>), BackendError> {
        let resource = request.resource;
        let waits = request.asks_again_within.is_some();
        let reply: Vec<Value> = GRANT
            .keys(resource.keys())
            .arg(request.owner.to_hex().as_ref())
            .arg(millis(request.ttl))
            .arg(request.tokens.get())
            .arg(if waits { millis(self.beats.every()) } else { 0 })
            .arg(self.inbox.channel(resource.lock_name()))
            .arg(self.label.as_str())
            .arg(resource.events())
            .arg(millis(KEPT))
            .run(&self.client)
            .await?;
        let mut reply = reply.into_iter();
        let outcome = reply.next().and_then(number);
        if outcome == Some(-1) {
            let version = reply.next().and_then(|version| from_redis_value(version).ok()).unwrap_or_default();
            return Err(OtherVersion { name: resource.name().to_string(), version }.into());
        }
        let first = reply.next().and_then(number).unwrap_or(-1);
        if outcome == Some(1) {
            let first_token = FencingToken::new(u64::try_from(first).unwrap_or_default());
            return Ok((GrantReply::Granted { first_token }, None));
        }
        let ahead = reply.next().and_then(number).and_then(|ahead| u64::try_from(ahead).ok());
        let ends = duration(first);
        let ends_within = if ahead.is_some() { Some(UNTIL_TOLD) } else { ends };
        Ok((GrantReply::Refused { ends_within, ahead }, ends))
    }

    async fn renew_together(&self, leases: Vec<&Renewal<FairResource>>) -> Result<Vec<bool>, BackendError> {
        let keys: Vec<Key<'_>> = leases.iter().flat_map(|lease| lease.resource.held_keys()).collect();
        let mut call = RENEW.keys_of_any_tag(keys).arg(millis(KEPT));
        for lease in leases {
            call = call.arg(lease.owner.to_hex().as_ref()).arg(millis(lease.ttl));
        }
        Ok(call.run(&self.client).await?)
    }

    /// No longer waits.
    fn forget(&self, resource: &FairResource, owner: Owner) {
        self.beats.leave(resource, owner);
        self.inbox.forget(owner);
    }
}

fn number(value: Value) -> Option<i64> {
    from_redis_value(value).ok()
}
