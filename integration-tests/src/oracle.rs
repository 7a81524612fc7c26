//! Whether two hold the same thing at once, told by somebody else than the lock.
//!
//! Each visitor enters in a register on a server until when its lease is valid by its own word, and leaves it again
//! before it gives the lease back. Whoever enters while another's word still stands is counted as an overlap. A
//! visitor that is killed or stopped leaves nothing: its word simply ends.

use anyhow::Result;
use redis_lock::{Client, Lease};
use redis_lua::redis::cmd;
use redis_lua::{Name, Script};

static ENTER: Script = Script::new(
    "enter",
    "-- KEYS  1 who is inside, 2 how often they overlapped; ARGV  1 who, 2 until when in ms
     local time = redis.call('TIME')
     local now = time[1] * 1000 + math.floor(time[2] / 1000)
     local inside = redis.call('HGETALL', KEYS[1])
     local overlaps = 0
     for i = 1, #inside, 2 do
       if tonumber(inside[i + 1]) > now then
         overlaps = overlaps + 1
       end
     end
     redis.call('INCRBY', KEYS[2], overlaps)
     redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
     return overlaps",
);

/// The register of who is inside.
#[derive(Clone)]
pub struct Oracle {
    client: Client,
    name: Name,
}

impl Oracle {
    /// The register of this name, other than the lock's.
    ///
    /// # Errors
    /// When the name is none.
    pub fn new(client: Client, name: &str) -> Result<Self> {
        Ok(Self { client, name: Name::new(name)? })
    }

    /// Enters with a lease, for as long as that is valid now, and tells whether nobody else is inside.
    ///
    /// # Errors
    /// When the server does not answer; then leave all the same.
    pub async fn enter(&self, lease: &Lease) -> Result<bool> {
        // First the server's time, then what is left from now on: so the word never reaches beyond the truth.
        let (seconds, micros): (u64, u64) = self.client.run(&cmd("TIME")).await?;
        let until = seconds * 1_000 + micros / 1_000 + u64::try_from(lease.remaining().as_millis())?;
        let keys = [self.name.key("readers"), self.name.key("meta")];
        let overlaps: u64 = ENTER.keys(keys).arg(lease.fencing_token().get()).arg(until).run(&self.client).await?;
        Ok(overlaps == 0)
    }

    /// Leaves, however often that has to be asked for; to be done before the lease is given back.
    pub async fn leave(&self, lease: &Lease) {
        let mut gone = cmd("HDEL");
        gone.arg(self.name.key("readers")).arg(lease.fencing_token().get());
        while self.client.run::<()>(&gone).await.is_err() {}
    }

    /// How many overlaps were seen.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn overlaps(&self) -> Result<u64> {
        let seen: Option<u64> = self.client.run(cmd("GET").arg(self.name.key("meta"))).await?;
        Ok(seen.unwrap_or_default())
    }
}
