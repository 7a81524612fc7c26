//! How leases are granted, renewed and released on one Redis: a script and a round trip each.

use std::time::Duration;

use async_trait::async_trait;
use redis_lua::{Client, Error, Key, Name, Script, process_label, redis, renew_in_batches};
use turnstile_core::quorum::QuorumNode;
use turnstile_core::{
    BackendError, ErrorKind, FencingToken, GrantReply, GrantRequest, LeaseBackend, LeaseOptions, Owner, ReleaseOutcome,
    ReleaseReply, RenewReply, Renewal,
};

use crate::holder::{self, Holder};
use crate::resource::LockResource;

static GRANT_EXCLUSIVE: Script = Script::new("grant_exclusive", include_str!("lua/grant_exclusive.lua"));
static GRANT_SHARED: Script = Script::new("grant_shared", include_str!("lua/grant_shared.lua"));
static RENEW_EXCLUSIVE: Script = Script::new("renew_exclusive", include_str!("lua/renew_exclusive.lua"));
static RENEW_SHARED: Script = Script::new("renew_shared", include_str!("lua/renew_shared.lua"));
static RELEASE_EXCLUSIVE: Script = Script::new("release_exclusive", include_str!("lua/release_exclusive.lua"));
static RELEASE_SHARED: Script = Script::new("release_shared", include_str!("lua/release_shared.lua"));
static RAISE: Script = Script::new("raise", include_str!("lua/raise.lua"));

/// How long, in ms, the mark of a waiter outlasts the time within which it asks again.
const MARK_MARGIN: u64 = 100;

/// How many replicas have to have a grant, and how long to wait for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replicas {
    pub(crate) count: u32,
    pub(crate) within: Duration,
}

/// The strategy of this crate, for a [`LeaseManager`](turnstile_core::LeaseManager).
#[derive(Debug)]
pub struct LockBackend {
    pub(crate) client: Client,
    pub(crate) label: String,
    pub(crate) replicas: Option<Replicas>,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl LeaseBackend for LockBackend {
    type Resource = LockResource;
    const STRATEGY: &'static str = "redis-lock";

    async fn grant(&self, request: GrantRequest<'_, LockResource>) -> Result<GrantReply, BackendError> {
        let (script, suffixes): (_, &[&str]) = if request.resource.is_shared() {
            (&GRANT_SHARED, &["", "fence", "readers", "waiting", "holder"])
        } else {
            (&GRANT_EXCLUSIVE, &["", "fence", "readers", "waiting"])
        };
        let asks_again =
            request.asks_again_within.map_or(0, |within| millis(within.min(LeaseOptions::MAX_TTL)) + MARK_MARGIN);
        let awaited = match self.replicas {
            Some(replicas) => Some((replicas, self.connection().await?)),
            None => None,
        };
        let (granted, number): (bool, i64) = script
            .keys_of_any_tag(request.resource.keys(suffixes))
            .arg(request.owner.to_hex().as_ref())
            .arg(millis(request.ttl))
            .arg(request.tokens.get())
            .arg(asks_again)
            .arg(self.label.as_str())
            .run(&self.client)
            .await?;
        let number = u64::try_from(number).ok();
        if !granted {
            return Ok(GrantReply::Refused { ends_within: number.map(Duration::from_millis), ahead: None });
        }
        if let Some((replicas, connection)) = awaited {
            self.acknowledged(replicas, connection).await?;
        }
        Ok(GrantReply::Granted { first_token: FencingToken::new(number.unwrap_or_default()) })
    }

    async fn renew(&self, leases: &[Renewal<LockResource>]) -> Vec<Result<RenewReply, BackendError>> {
        renew_in_batches(
            &self.client,
            leases,
            |on| (on.is_shared(), &on.names()[0]),
            |shared, batch| self.renew_together(shared, batch),
        )
        .await
    }

    async fn release(&self, resource: &LockResource, owner: Owner) -> Result<ReleaseReply, BackendError> {
        let (script, suffixes): (_, &[&str]) = if resource.is_shared() {
            (&RELEASE_SHARED, &["readers", "holder", "waiting"])
        } else {
            (&RELEASE_EXCLUSIVE, &["", "waiting"])
        };
        let call = script.keys_of_any_tag(resource.keys(suffixes)).arg(owner.to_hex().as_ref());
        let (outcome, mark): (u8, i64) = call.run(&self.client).await?;
        let outcome = match outcome {
            2 => ReleaseOutcome::Released,
            1 => ReleaseOutcome::TakenOver,
            _ => ReleaseOutcome::AlreadyExpired,
        };
        let wanted_within =
            u64::try_from(mark).ok().map(|mark| Duration::from_millis(mark.saturating_sub(MARK_MARGIN)));
        Ok(ReleaseReply::new(outcome, wanted_within))
    }
}

#[async_trait]
impl QuorumNode for LockBackend {
    fn address(&self) -> &str {
        self.client.address()
    }

    async fn raise(&self, resource: &LockResource, token: FencingToken) -> Result<(), BackendError> {
        Ok(RAISE.keys_of_any_tag(resource.keys(&["fence"])).arg(token.get()).run(&self.client).await?)
    }
}

impl LockBackend {
    /// Locks on the servers of `client`, for whoever builds on them: [`RedisLocks`](crate::RedisLocks) is the front door.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, label: process_label(), replicas: None }
    }

    /// The same by another label than host name and process id: see
    /// [`RedisLocksBuilder::holder`](crate::RedisLocksBuilder::holder).
    #[must_use]
    pub fn holder(mut self, label: impl Into<String>) -> Self {
        self.label = label.into().replace(char::is_control, " ");
        self
    }

    /// The client that it asks.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Who holds the lock of this name: see [`RedisLocks::who`](crate::RedisLocks::who).
    ///
    /// # Errors
    /// When the server does not answer or refuses.
    pub async fn who(&self, name: &Name) -> Result<Vec<Holder>, Error> {
        holder::who(&self.client, name).await
    }

    async fn renew_together(
        &self,
        shared: bool,
        leases: Vec<&Renewal<LockResource>>,
    ) -> Result<Vec<bool>, BackendError> {
        let (script, suffixes): (_, &[&str]) =
            if shared { (&RENEW_SHARED, &["readers", "holder"]) } else { (&RENEW_EXCLUSIVE, &[""]) };
        let mut keys: Vec<Key<'_>> = Vec::with_capacity(leases.len() * suffixes.len());
        for lease in &leases {
            keys.extend(lease.resource.keys(suffixes));
        }
        let mut call = script.keys_of_any_tag(keys);
        for lease in leases {
            call = call.arg(lease.owner.to_hex().as_ref()).arg(millis(lease.ttl));
            if !shared {
                call = call.arg(lease.resource.names().len());
            }
        }
        Ok(call.run(&self.client).await?)
    }

    /// Before a grant that replicas have to confirm: the connection that it goes over.
    async fn connection(&self) -> Result<u64, BackendError> {
        if self.client.is_cluster() {
            return Err(BackendError::new(
                ErrorKind::Unsupported,
                "replicas cannot be waited for on a cluster, where WAIT goes to any node: leave `replicas` out",
            ));
        }
        self.client.ready().await?;
        Ok(self.client.connection_number())
    }

    /// Waits for the replicas that were asked for. A grant that they do not have is asked for again by its owner, or
    /// undone.
    async fn acknowledged(&self, Replicas { count, within }: Replicas, connection: u64) -> Result<(), BackendError> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(count).arg(millis(within).max(1)); // 0 would be for ever
        let confirmed: u32 = self.client.run(&wait).await?;
        // WAIT answers for its own connection: over a new one, on which nothing was written, it confirms anything.
        let remedy = if self.client.connection_number() != connection {
            "the connection was replaced meanwhile; ask again"
        } else if confirmed < count {
            "see that they are up and connected, wait longer, or ask for fewer"
        } else {
            return Ok(());
        };
        let text = format!("{confirmed} of {count} replicas confirmed the grant within {within:?}: {remedy}");
        Err(BackendError::new(ErrorKind::NotReady, text))
    }
}
