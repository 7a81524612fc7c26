//! Who holds a lock, as the server has it.

use std::time::Duration;

use redis_lua::{Client, Error, Name, Script, redis};
use turnstile_core::FencingToken;

static WHO: Script = Script::new("who", include_str!("lua/who.lua"));

/// What PTTL says of a key that is not there.
const NO_KEY: i64 = -2;

/// One holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The owner of the lease: 32 hexadecimal digits. Empty for a key that this crate did not write.
    pub owner: String,
    /// What the holder calls itself: see [`RedisLocksBuilder::holder`](crate::RedisLocksBuilder::holder). Empty for a
    /// key that this crate did not write.
    pub label: String,
    /// How long its process has held it, by the server's clock. Hand-overs within the process do not count anew.
    pub held_for: Duration,
    /// How long until it ends unless it is renewed; `None` for a key that never ends by itself.
    pub remaining: Option<Duration>,
    /// The first fencing token of the grant. After hand-overs within the process, it works with a higher one.
    pub token: FencingToken,
    /// Whether it is a reader's share.
    pub shared: bool,
}

pub(crate) async fn who(client: &Client, name: &Name) -> Result<Vec<Holder>, Error> {
    let call = WHO.keys([name.into(), name.key("readers"), name.key("holder")]);
    let mut reply = call.run::<Vec<redis::Value>>(client).await?.into_iter();
    let mut text = || reply.next().and_then(|value| redis::from_redis_value::<String>(value).ok());
    let mut number = || text().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();

    let now = number();
    let value = text().unwrap_or_default();
    let left = text().and_then(|text| text.parse::<i64>().ok()).unwrap_or(NO_KEY);
    let mut holders = Vec::new();
    if left != NO_KEY {
        let ours = value.split_once(' ').filter(|(owner, _)| owner.len() == 32);
        let (owner, details) = ours.unwrap_or_default();
        let left = u64::try_from(left).ok().map(Duration::from_millis);
        holders.push(Holder::new(owner, details, now, left, false));
    }
    while let (Some(owner), Some(end), Some(details)) = (text(), text(), text()) {
        let left = end.parse::<f64>().unwrap_or_default() - now;
        holders.push(Holder::new(&owner, &details, now, Some(Duration::from_millis(left.max(0.0) as u64)), true));
    }
    Ok(holders)
}

impl Holder {
    /// `details` as the grant scripts write them: token, since when, label.
    fn new(owner: &str, details: &str, now: f64, remaining: Option<Duration>, shared: bool) -> Self {
        let mut parts = details.splitn(3, ' ');
        let token = parts.next().and_then(|token| token.parse().ok()).unwrap_or_default();
        let since = parts.next().and_then(|since| since.parse().ok()).unwrap_or(now);
        Self {
            owner: owner.to_owned(),
            label: parts.next().unwrap_or_default().to_owned(),
            held_for: Duration::from_millis((now - since).max(0.0) as u64),
            remaining,
            token: FencingToken::new(token),
            shared,
        }
    }
}
