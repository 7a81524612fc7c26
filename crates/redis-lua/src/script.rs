//! Scripts: sent by their SHA1, and in full only to a server that does not know them yet.
//!
//! A server forgets its scripts when it restarts, fails over, or is told to (SCRIPT FLUSH). Then it answers NOSCRIPT,
//! having done nothing, and the same call goes out once more as EVAL, which teaches the server the script in passing.
//! On a cluster this happens for each node by itself, since both calls go where their keys live.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use redis::{Arg, Cmd, FromRedisValue, ToRedisArgs};
use turnstile_core::ErrorKind;

use crate::classify;
use crate::{Client, Error, Key, names};

/// A Lua script that Redis runs as one atomic step. Make it a `static`, its source a `.lua` file:
///
/// ```
/// # use redis_lua::Script;
/// static TRY_LOCK: Script = Script::new("try_lock", include_str!("../examples/try_lock.lua"));
/// ```
///
/// The SHA1 is computed once, at the first call.
pub struct Script {
    name: Cow<'static, str>,
    source: Cow<'static, str>,
    sha1: OnceLock<String>,
}

impl Script {
    /// A script; its name is for log lines and error texts.
    #[must_use]
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), source: Cow::Borrowed(source), sha1: OnceLock::new() }
    }

    /// A script that is read or made at run time.
    #[must_use]
    pub fn from_text(name: impl Into<String>, source: impl Into<String>) -> Self {
        Self { name: Cow::Owned(name.into()), source: Cow::Owned(source.into()), sha1: OnceLock::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The SHA1 of its source, in hexadecimal, by which the server knows it.
    #[must_use]
    pub fn sha1(&self) -> &str {
        self.sha1.get_or_init(|| redis::Script::new(&self.source).get_hash().to_owned())
    }

    /// A call of the script with these KEYS, all that it touches: of one name, or of several that share a hash tag.
    ///
    /// That they share one is checked when it [runs](Invocation::run), whatever the server, so that a script that
    /// Redis Cluster would refuse fails on a laptop already.
    pub fn keys<'a, K>(&self, keys: impl IntoIterator<Item = K, IntoIter: ExactSizeIterator>) -> Invocation<'_>
    where
        K: Into<Key<'a>>,
    {
        self.call(keys, true)
    }

    /// A call with keys of several hash tags: for batches over unrelated names, where they all live on one server.
    ///
    /// On a client of a [cluster](Client::is_cluster) they must lie in one slot all the same: group them by
    /// [`Name::slot`](crate::Name::slot) there.
    pub fn keys_of_any_tag<'a, K>(
        &self,
        keys: impl IntoIterator<Item = K, IntoIter: ExactSizeIterator>,
    ) -> Invocation<'_>
    where
        K: Into<Key<'a>>,
    {
        self.call(keys, false)
    }

    fn call<'a, K>(
        &self,
        keys: impl IntoIterator<Item = K, IntoIter: ExactSizeIterator>,
        one_tag: bool,
    ) -> Invocation<'_>
    where
        K: Into<Key<'a>>,
    {
        let keys = keys.into_iter();
        let count = keys.len();
        // Most keys and arguments are short: room for them at once, and the command grows where they are not.
        let mut cmd = Cmd::with_capacity(count * 2 + 8, count * 64 + 192);
        cmd.arg("EVALSHA").arg(self.sha1()).arg(count);
        let mut tag = None;
        let mut keys_agree = true;
        for key in keys {
            let key = key.into();
            if one_tag {
                keys_agree &= *tag.get_or_insert(key.slot_tag()) == key.slot_tag();
            }
            cmd.arg(key);
        }
        let slots = match (one_tag, keys_agree) {
            (true, true) => Slots::One,
            (true, false) => Slots::Several,
            (false, _) => Slots::Unknown,
        };
        Invocation { script: self, cmd, slots }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is known of the slots of a call's keys.
#[derive(Clone, Copy)]
enum Slots {
    One,
    Several,
    Unknown,
}

/// One call of a [`Script`]: its keys are given, its ARGV follow.
#[must_use = "a call does nothing until it is run"]
pub struct Invocation<'s> {
    script: &'s Script,
    cmd: Cmd,
    slots: Slots,
}

impl Invocation<'_> {
    /// Adds to ARGV: one argument, or as many as the value has.
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    /// Runs the script, and gives its reply as the type asked for.
    ///
    /// The script runs as a whole or not at all, and nothing runs between its commands. It is no transaction that
    /// rolls back: a script that raises an error keeps what it had written before. A round trip of
    /// [`slow_script`](crate::ClientBuilder::slow_script) or longer is told as a `tracing` warning.
    ///
    /// # Errors
    /// See [`Error`]. Where [`Error::outcome_unknown`] holds the script may have run: write scripts so that running
    /// them twice does no harm. (A cluster's client itself sends again what a lost connection left unanswered.)
    ///
    /// # Cancelling
    /// A call that was sent is carried out all the same, its reply dropped. What follows on the same client comes
    /// after it, unless the connection was replaced in between.
    pub async fn run<T: FromRedisValue>(self, client: &Client) -> Result<T, Error> {
        let Self { script, cmd, slots } = self;
        match slots {
            Slots::One => {}
            Slots::Unknown if !client.is_cluster() || in_one_slot(&cmd) => {}
            Slots::Several | Slots::Unknown => {
                let what = format!("the script `{}`", script.name);
                return Err(Error::new(ErrorKind::Invalid, classify::cross_slot(&what)));
            }
        }
        client.run_script(script, &cmd).await
    }
}

impl fmt::Debug for Invocation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation").field("script", &self.script.name).finish_non_exhaustive()
    }
}

/// The same call, with the script's source in place of its SHA1.
pub(crate) fn in_full(script: &Script, cmd: &Cmd) -> Cmd {
    let mut full = Cmd::new();
    full.arg("EVAL").arg(script.source());
    for arg in bytes(cmd).skip(2) {
        full.arg(arg);
    }
    full
}

fn in_one_slot(cmd: &Cmd) -> bool {
    let count = bytes(cmd).nth(2).and_then(|n| std::str::from_utf8(n).ok()).and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut slots = bytes(cmd).skip(3).take(count).map(names::slot);
    let first = slots.next();
    slots.all(|slot| Some(slot) == first)
}

fn bytes(cmd: &Cmd) -> impl Iterator<Item = &[u8]> {
    cmd.args_iter().filter_map(|arg| match arg {
        Arg::Simple(bytes) => Some(bytes),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Name;

    fn text(cmd: &Cmd) -> Vec<String> {
        bytes(cmd).map(|arg| String::from_utf8(arg.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_call_is_sent_by_sha1_and_in_full_only_when_asked() {
        let script = Script::new("one", "return 1");
        let name = Name::new("a").unwrap();
        let call = script.keys([(&name).into(), name.key("fence")]).arg("x").arg(7);
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(text(&call.cmd), ["EVALSHA", sha, "2", "{a}", "{a}:fence", "x", "7"]);
        assert_eq!(text(&in_full(&script, &call.cmd)), ["EVAL", "return 1", "2", "{a}", "{a}:fence", "x", "7"]);
    }

    #[test]
    fn keys_share_a_tag_or_the_call_knows_it() {
        let script = Script::new("one", "return 1");
        let names = ["{t}:a", "{t}:b", "c"].map(|name| Name::new(name).unwrap());
        assert!(matches!(script.keys(&names[..2]).slots, Slots::One));
        assert!(matches!(script.keys(&names).slots, Slots::Several));
        let any = script.keys_of_any_tag(&names);
        assert!(matches!(any.slots, Slots::Unknown) && !in_one_slot(&any.cmd));
        assert!(in_one_slot(&script.keys_of_any_tag(&names[..2]).cmd));
        assert!(in_one_slot(&script.keys::<&Name>([]).cmd));
    }
}
