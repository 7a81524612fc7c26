//! The other side of each pair: the scripts of redis-lock, sent by hand over one multiplexed connection.
//!
//! It is what somebody in a hurry writes, at its leanest: no deadline, no renewal, no queue, keys made beforehand.

use anyhow::{Context, Result, ensure};
use redis::aio::MultiplexedConnection;
use turnstile_core::{Owner, OwnerHex};

const GRANT: &str = include_str!("../../crates/redis-lock/src/lua/grant_exclusive.lua");
const RELEASE: &str = include_str!("../../crates/redis-lock/src/lua/release_exclusive.lua");
const TTL_MS: u64 = 30_000;

/// A connection whose server knows the scripts. Clones share it.
#[derive(Clone)]
pub struct Raw {
    connection: MultiplexedConnection,
    grant: String,
    release: String,
}

impl Raw {
    /// Connects and loads the scripts.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(url: &str) -> Result<Self> {
        let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        let mut load = async |script| redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(&mut connection).await;
        let (grant, release) = (load(GRANT).await?, load(RELEASE).await?);
        Ok(Self { connection, grant, release })
    }

    /// The connection, for other commands.
    #[must_use]
    pub fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// The lock of this name.
    #[must_use]
    pub fn lock(&self, name: &str) -> RawLock {
        let key = |suffix| format!("{{{name}}}{suffix}");
        RawLock {
            raw: self.clone(),
            key: key(""),
            fence: key(":fence"),
            readers: key(":readers"),
            waiting: key(":waiting"),
        }
    }

    /// When each of these locks ends, in ms of the server's clock; negative for one that is not held.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn ends<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Result<Vec<i64>> {
        let mut pipeline = redis::pipe();
        for name in names {
            pipeline.cmd("PEXPIRETIME").arg(format!("{{{name}}}"));
        }
        Ok(pipeline.query_async(&mut self.connection).await?)
    }
}

/// One lock, by hand.
pub struct RawLock {
    raw: Raw,
    key: String,
    fence: String,
    readers: String,
    waiting: String,
}

impl RawLock {
    /// Asks once; gives the owner to release by.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn try_acquire(&mut self) -> Result<Option<OwnerHex>> {
        let owner = Owner::random().to_hex();
        let (granted, _token): (bool, i64) = redis::cmd("EVALSHA")
            .arg(&self.raw.grant)
            .arg(4)
            .arg(&self.key)
            .arg(&self.fence)
            .arg(&self.readers)
            .arg(&self.waiting)
            .arg(owner.as_ref())
            .arg(TTL_MS)
            .arg(1)
            .arg(0)
            .arg(crate::redis_lock::LABEL)
            .query_async(&mut self.raw.connection)
            .await?;
        Ok(granted.then_some(owner))
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When the server does not answer, or it was not held.
    pub async fn release(&mut self, owner: OwnerHex) -> Result<()> {
        let (outcome, _wanted): (u8, i64) = redis::cmd("EVALSHA")
            .arg(&self.raw.release)
            .arg(2)
            .arg(&self.key)
            .arg(&self.waiting)
            .arg(owner.as_ref())
            .query_async(&mut self.raw.connection)
            .await?;
        ensure!(outcome == 2, "the lock was not held any more: the measurement is void");
        Ok(())
    }

    /// Takes it and gives it back, where nobody else wants it.
    ///
    /// # Errors
    /// When the server does not answer, or somebody else has it.
    pub async fn cycle(&mut self) -> Result<()> {
        let owner = self.try_acquire().await?.context("nobody else should have it")?;
        self.release(owner).await
    }
}
