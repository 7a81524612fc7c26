//! Writes that a holder from the past cannot make.
//!
//! A lock cannot stop a holder that was paused past its deadline and wakes up in the midst of a write. The data can: it
//! remembers the newest fencing token that wrote to it, and refuses an older one.
//! (Kleppmann, *How to do distributed locking*, 2016.)

use redis::ToSingleRedisArg;
use turnstile_core::{ErrorKind, FencingToken};

use crate::{Client, Error, Invocation, Name, Script};

static SET: Script = Script::new("guarded_set", include_str!("lua/guarded_set.lua"));
static HSET: Script = Script::new("guarded_hset", include_str!("lua/guarded_hset.lua"));

/// A value in Redis that takes writes only with a fencing token that is not older than the newest seen.
///
/// The data lies at the name's main key, `{name}`, where any client may read it; the newest token beside it, at
/// `{name}:token`, with no time to live. The check and the write are one atomic script. An equal token is accepted: a
/// holder writes many times, and may write again what it has had no answer to.
///
/// Take care that the name is not the lock's own: the lock lives at `{name}` too.
///
/// ```no_run
/// # use redis_lua::{Client, GuardedWrite, Name, Written};
/// # use turnstile_core::FencingToken;
/// # async fn f(client: Client, token: FencingToken) -> Result<(), Box<dyn std::error::Error>> {
/// let report = GuardedWrite::new(Name::new("report/2026")?);
/// match report.set(&client, token, "done").await? {
///     Written::Done => {}
///     Written::Refused { newest } => println!("somebody with token {newest} has taken over: stop"),
///     _ => {}
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct GuardedWrite {
    name: Name,
}

/// What became of a guarded write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a write that was refused has not happened"]
#[non_exhaustive]
pub enum Written {
    /// The data is written, and older tokens are refused from now on.
    Done,
    /// A newer token has been seen: nothing was written, and the lock is another's by now.
    Refused {
        /// The newest token seen.
        newest: FencingToken,
    },
}

impl Written {
    /// Whether the data was written.
    #[must_use]
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }
}

impl GuardedWrite {
    /// The value of this name.
    #[must_use]
    pub const fn new(name: Name) -> Self {
        Self { name }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Sets the value, a string, in place of what was there.
    ///
    /// # Errors
    /// See [`Error`]. Where the outcome is unknown, write again with the same token.
    ///
    /// # Cancelling
    /// A write that was sent is carried out all the same.
    pub async fn set(
        &self,
        client: &Client,
        token: FencingToken,
        value: impl ToSingleRedisArg,
    ) -> Result<Written, Error> {
        run(self.call(&SET, token)?.arg(value), client).await
    }

    /// Sets fields of the value, a hash, all of them or none. Other fields stay.
    ///
    /// # Errors
    /// See [`Error`]; [`ErrorKind::Invalid`] if there is no field. Where the outcome is unknown, write again with the
    /// same token.
    ///
    /// # Cancelling
    /// A write that was sent is carried out all the same.
    pub async fn set_fields<F: ToSingleRedisArg, V: ToSingleRedisArg>(
        &self,
        client: &Client,
        token: FencingToken,
        fields: impl IntoIterator<Item = (F, V)>,
    ) -> Result<Written, Error> {
        let mut fields = fields.into_iter().peekable();
        if fields.peek().is_none() {
            let text = format!("a guarded write of {:?} sets no field: give at least one", self.name);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let call = self.call(&HSET, token)?;
        run(fields.fold(call, |call, (field, value)| call.arg(field).arg(value)), client).await
    }

    /// Writes nothing, and has older tokens refused from now on. Claim before you read what your write will depend on:
    /// else a holder from the past may still write between your read and your first write.
    ///
    /// # Errors
    /// See [`Error`]. Where the outcome is unknown, claim again.
    ///
    /// # Cancelling
    /// A claim that was sent is carried out all the same.
    pub async fn claim(&self, client: &Client, token: FencingToken) -> Result<Written, Error> {
        run(self.call(&HSET, token)?, client).await
    }

    fn call<'s>(&self, script: &'s Script, token: FencingToken) -> Result<Invocation<'s>, Error> {
        if token > FencingToken::MAX {
            let text = format!("the fencing token {token} is beyond the largest, {}", FencingToken::MAX);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        Ok(script.keys([(&self.name).into(), self.name.key("token")]).arg(token.get()))
    }
}

async fn run(call: Invocation<'_>, client: &Client) -> Result<Written, Error> {
    let (written, newest): (bool, u64) = call.run(client).await?;
    Ok(if written { Written::Done } else { Written::Refused { newest: FencingToken::new(newest) } })
}
