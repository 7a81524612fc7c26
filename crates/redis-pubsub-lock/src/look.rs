//! Who holds a lock and who waits for it, as the server has it.

use std::time::Duration;

use redis_lua::redis::{self, Value};
use redis_lua::{Client, Script};
use turnstile_core::{FencingToken, Resource};

use crate::backend::{duration, script};
use crate::resource::FairResource;
use crate::{LookError, OtherVersion};

static LOOK: Script = script!("look", "", "turn", "look");

/// The holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The owner of the lease: 32 hexadecimal digits. Empty for a key that this crate did not write.
    pub owner: String,
    /// What its process calls itself: see [`FairLocksBuilder::holder`](crate::FairLocksBuilder::holder).
    pub label: String,
    /// How long ago it was granted, by the server's clock.
    pub held_for: Duration,
    /// How long until it ends unless it is renewed; `None` for a key that never ends by itself.
    pub remaining: Option<Duration>,
    /// The fencing token of the grant.
    pub token: FencingToken,
    /// Whether it knows: who was next when the lock was released has it until it says so, or shows no sign of life.
    pub confirmed: bool,
}

/// One who waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiter {
    /// The owner of the lease to be: 32 hexadecimal digits.
    pub owner: String,
    /// What its process calls itself.
    pub label: String,
    /// How long it has waited, by the server's clock.
    pub waited: Duration,
}

/// The holder, and the waiters in their order.
pub(crate) async fn look(client: &Client, resource: &FairResource) -> Result<(Option<Holder>, Vec<Waiter>), LookError> {
    let mut reply = LOOK.keys(resource.keys()).run::<Vec<Value>>(client).await?.into_iter();
    let mut text = || reply.next().and_then(|value| redis::from_redis_value::<String>(value).ok());
    let mut number = || text().and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
    let now = number();
    let value = text().unwrap_or_default();
    let mut number = || text().and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
    let (left, confirmed) = (number(), number() == 1);
    let version = text().unwrap_or_default();
    if !version.is_empty() && version != "1" {
        return Err(OtherVersion { name: resource.name().to_string(), version }.into());
    }
    let holder = (left != NO_KEY).then(|| Holder::read(&value, now, left, confirmed));
    let mut waiters = Vec::new();
    while let (Some(owner), Some(about)) = (text(), text()) {
        let mut lines = about.splitn(5, '\n').skip(2);
        let waited = since(lines.next(), now);
        waiters.push(Waiter { owner, label: lines.nth(1).unwrap_or_default().to_owned(), waited });
    }
    Ok((holder, waiters))
}

/// What PTTL says of a key that is not there.
const NO_KEY: i64 = -2;

fn since(then: Option<&str>, now: i64) -> Duration {
    let then = then.and_then(|then| then.parse::<i64>().ok()).unwrap_or(now);
    duration(now - then).unwrap_or_default()
}

impl Holder {
    fn read(value: &str, now: i64, left: i64, confirmed: bool) -> Self {
        let ours = value.split_once(' ').filter(|(owner, _)| owner.len() == 32);
        let (owner, details) = ours.unwrap_or_default();
        let mut parts = details.splitn(3, ' ');
        let token = parts.next().and_then(|token| token.parse().ok()).unwrap_or_default();
        let held_for = since(parts.next(), now);
        Self {
            owner: owner.to_owned(),
            label: parts.next().unwrap_or_default().to_owned(),
            held_for,
            remaining: duration(left),
            token: FencingToken::new(token),
            confirmed,
        }
    }
}
