//! How many permits are held at once, told by somebody else than the semaphore: as [`Oracle`](crate::Oracle), with weights.

use anyhow::Result;
use redis_lock::{Client, Lease};
use redis_lua::redis::cmd;
use redis_lua::{Name, Script};

static ENTER: Script = Script::new(
    "enter",
    "-- KEYS  1 who is inside, 2 the most that were; ARGV  1 who, 2 until when in ms, 3 weight
     local time = redis.call('TIME')
     local now = time[1] * 1000 + math.floor(time[2] / 1000)
     redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
     local sum, inside = 0, redis.call('HGETALL', KEYS[1])
     for i = 2, #inside, 2 do
       local ends, weight = string.match(inside[i], '^(%d+) (%d+)$')
       if tonumber(ends) > now then
         sum = sum + weight
       end
     end
     if sum > tonumber(redis.call('GET', KEYS[2]) or 0) then
       redis.call('SET', KEYS[2], sum)
     end
     return sum",
);

/// The register of who is inside, and of the most that ever were.
#[derive(Clone)]
pub struct Crowd {
    client: Client,
    name: Name,
}

impl Crowd {
    /// The register of this name, other than the semaphore's.
    ///
    /// # Errors
    /// When the name is none.
    pub fn new(client: Client, name: &str) -> Result<Self> {
        Ok(Self { client, name: Name::new(name)? })
    }

    /// Enters with a lease, for as long as that is valid now, and tells how many permits are inside.
    ///
    /// # Errors
    /// When the server does not answer; then leave all the same.
    pub async fn enter(&self, lease: &Lease, weight: u32) -> Result<u64> {
        // First the server's time, then what is left from now on: so the word never reaches beyond the truth.
        let (seconds, micros): (u64, u64) = self.client.run(&cmd("TIME")).await?;
        let until = seconds * 1_000 + micros / 1_000 + u64::try_from(lease.remaining().as_millis())?;
        let keys = [self.name.key("inside"), self.name.key("most")];
        Ok(ENTER.keys(keys).arg(lease.owner().to_hex().as_ref()).arg(until).arg(weight).run(&self.client).await?)
    }

    /// Leaves, however often that has to be asked for; to be done before the lease is given back.
    pub async fn leave(&self, lease: &Lease) {
        let mut gone = cmd("HDEL");
        gone.arg(self.name.key("inside")).arg(lease.owner().to_hex().as_ref());
        while self.client.run::<()>(&gone).await.is_err() {}
    }

    /// The most permits that were inside at once, since it was last asked.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn most(&self) -> Result<u64> {
        let seen: Option<u64> = self.client.run(cmd("GETDEL").arg(self.name.key("most"))).await?;
        Ok(seen.unwrap_or_default())
    }
}
