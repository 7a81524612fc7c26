//! From what redis-rs and the server say to an [`Error`]: its kind, and what to do about it.
//!
//! An error raised within Lua arrives as `CODE text script: sha, on @user_script:n.`, or, where a script passed on
//! only the text of another error, with the code further inside.

use std::time::Duration;

use redis::{Cmd, RedisError, ServerErrorKind};
use turnstile_core::ErrorKind;

use crate::Error;

/// What was going on, for the text.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The server or servers, without credentials.
    pub address: &'a str,
    /// What was asked for, when it was a command; none while connecting.
    pub doing: Option<Doing<'a>>,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
    pub is_cluster: bool,
    /// Never shown.
    pub secrets: &'a [String],
}

#[derive(Clone, Copy)]
pub(crate) struct Doing<'a> {
    pub cmd: &'a Cmd,
    /// The script's name, if it is one.
    pub script: Option<&'a str>,
}

impl Doing<'_> {
    fn words(&self) -> Vec<String> {
        let simple = |arg| match arg {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        self.cmd.args_iter().take(6).map(simple).collect()
    }

    fn name(&self) -> String {
        match self.script {
            Some(script) => format!("the script `{script}`"),
            None => format!("the command {}", self.words().first().map_or("", String::as_str)),
        }
    }

    /// The keys of a script (the first few), or the first argument of a command.
    fn keys(&self) -> String {
        let words = self.words();
        if self.script.is_none() {
            return words.get(1).cloned().unwrap_or_default();
        }
        let count: usize = words.get(2).and_then(|n| n.parse().ok()).unwrap_or(0);
        let shown: Vec<_> = words.into_iter().skip(3).take(count).collect();
        let more = if shown.len() < count { ", …" } else { "" };
        shown.join(", ") + more
    }
}

pub(crate) fn classify(error: RedisError, context: Context<'_>) -> Error {
    let (kind, advice) = judge(&error, context);
    let said = said(&error);
    let leaks = context.secrets.iter().any(|secret| said.contains(secret.as_str()));
    let message = if leaks || said.is_empty() { advice } else { format!("{advice} ({said})") };
    let classified = Error::new(kind, message);
    let classified = if leaks { classified } else { classified.with_source(error) };
    if context.doing.is_some() { classified.sent() } else { classified }
}

/// The code of what the server said, looking inside of what Lua wrapped.
pub(crate) fn code(error: &RedisError) -> &str {
    const INNER: &[&str] =
        &["WRONGTYPE", "OOM", "READONLY", "NOPERM", "MISCONF", "NOREPLICAS", "LOADING", "MASTERDOWN"];
    let outer = error.code().unwrap_or("");
    match error.detail() {
        // Redis 8 does not give the code of this one.
        Some(detail) if detail.contains("ACL failure in script") => "NOPERM",
        // Not a code that the server itself gives: what a script made of an error.
        Some(detail) if outer == "ERR" || outer.contains(|c: char| !c.is_ascii_uppercase()) => {
            let words = || detail.split(|c: char| !c.is_ascii_uppercase());
            INNER.iter().find(|code| words().any(|word| word == **code)).copied().unwrap_or(outer)
        }
        _ => outer,
    }
}

/// One line of what the server or the operating system said.
fn said(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (_, Some(detail)) => detail.to_owned(),
        _ => error.to_string(),
    };
    text.replace(|c: char| c.is_control(), " ")
}

fn judge(error: &RedisError, context: Context<'_>) -> (ErrorKind, String) {
    let at = context.address;
    let what = context.doing.map_or_else(|| "connecting".to_owned(), |doing| doing.name());
    let detail = error.detail().unwrap_or("");

    if error.is_timeout() {
        return match context.doing {
            Some(_) => {
                let limit = context.response_timeout;
                (
                    ErrorKind::TimedOut,
                    format!(
                        "{at} did not answer {what} within {limit:?}; it may have carried it out all the same. See \
                         whether the server hangs or runs a long script (SLOWLOG GET); if it is just slow, raise \
                         ClientBuilder::response_timeout"
                    ),
                )
            }
            None => (ErrorKind::TimedOut, no_connection(at, context.connect_timeout)),
        };
    }
    match code(error) {
        "NOAUTH" => (
            ErrorKind::Denied,
            format!(
                "{at} wants a password: give it in the URL, redis://:PASSWORD@HOST or redis://USER:PASSWORD@HOST, or by ClientBuilder::password"
            ),
        ),
        "WRONGPASS" => (
            ErrorKind::Denied,
            format!(
                "{at} does not take this user name and password: correct them in the URL (percent-encode /, @, : and #) or in ClientBuilder"
            ),
        ),
        "NOPERM" => (ErrorKind::Denied, denied(at, &what, context)),
        "DENIED" => (
            ErrorKind::Denied,
            format!(
                "{at} is in protected mode, and serves only its own machine: set a password or `bind` on the server"
            ),
        ),
        "WRONGTYPE" => {
            let keys = context.doing.map_or_else(String::new, |doing| doing.keys());
            (
                ErrorKind::WrongType,
                format!(
                    "{what} met a key that holds another type, among: {keys}. Something else uses that name: choose another, or delete the key"
                ),
            )
        }
        "OOM" => (
            ErrorKind::OutOfMemory,
            format!("{at} is out of memory and takes no writes: raise `maxmemory`, or delete data"),
        ),
        "READONLY" => (
            ErrorKind::NotReady,
            format!(
                "{at} is a read-only replica: connect to the master, or through Sentinel (Client::sentinel); while it fails over, try again"
            ),
        ),
        "LOADING" => (ErrorKind::NotReady, format!("{at} is loading its data set: try again soon")),
        "BUSY" => (
            ErrorKind::NotReady,
            format!("{at} is busy with a long-running script, and answers nobody: wait, or end it with SCRIPT KILL"),
        ),
        "MISCONF" => {
            (ErrorKind::NotReady, format!("{at} takes no writes since it cannot save its data: see its disk and log"))
        }
        "NOREPLICAS" => (
            ErrorKind::NotReady,
            format!("{at} takes no writes without enough replicas (min-replicas-to-write): bring them back"),
        ),
        "MOVED" | "ASK" if !context.is_cluster => (
            ErrorKind::Unsupported,
            format!("{at} is a node of a Redis Cluster: connect by Client::cluster (feature `cluster`)"),
        ),
        "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" => {
            (ErrorKind::NotReady, format!("{at} is failing over or moving keys: try again soon"))
        }
        "CROSSSLOT" => (ErrorKind::Invalid, cross_slot(&what)),
        "NOPROTO" => (ErrorKind::Unsupported, format!("{at} does not speak RESP3: add ?protocol=resp2 to the URL")),
        "UNKILLABLE" | "NOTBUSY" | "EXECABORT" => (ErrorKind::Other, format!("{what} was refused by {at}")),
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => (
            ErrorKind::Denied,
            format!(
                "{at} does not take this user name and password: correct them in the URL, redis://USER:PASSWORD@HOST, or in ClientBuilder"
            ),
        ),
        _ if error.kind() == redis::ErrorKind::RESP3NotSupported => (
            ErrorKind::Unsupported,
            format!(
                "{at} is older than Redis 7.0, or a proxy: RESP3 is wanted; for a proxy, add ?protocol=resp2 to the URL"
            ),
        ),
        "ERR" if detail.contains("max number of clients") => (
            ErrorKind::NotReady,
            format!("{at} has no room for another connection: raise `maxclients`, or close idle clients"),
        ),
        // Redis 7.0 says so from within a script; later ones say NOPERM.
        "ERR" if detail.contains("user executing the script") => (ErrorKind::Denied, denied(at, &what, context)),
        "ERR" if detail.starts_with("unknown command") || detail.contains("Unknown Redis command") => (
            ErrorKind::Unsupported,
            format!(
                "{at} lacks a command that {what} needs: Redis 7.0 or later is wanted, with no command renamed away"
            ),
        ),
        "ERR" if context.doing.is_none() && detail.contains("AUTH") => {
            (ErrorKind::Denied, format!("{at} does not take this user name and password: correct or remove them"))
        }
        "" => local(error, at, &what),
        _ => (ErrorKind::Other, format!("{what} failed on {at}")),
    }
}

/// What did not come from the server.
fn local(error: &RedisError, at: &str, what: &str) -> (ErrorKind, String) {
    use redis::ErrorKind as Redis;
    match error.kind() {
        Redis::InvalidClientConfig | Redis::EmptySentinelList => {
            (ErrorKind::Invalid, format!("the settings for {at} make no sense: correct the URL"))
        }
        Redis::MasterNameNotFoundBySentinel | Redis::NoValidReplicasFoundBySentinel => (
            ErrorKind::Unreachable,
            format!("no Sentinel of {at} knows a master that answers: see the master's name, and SENTINEL MASTERS"),
        ),
        Redis::Parse => (ErrorKind::Unreachable, format!("{at} does not speak Redis's protocol: see host and port")),
        Redis::Client | Redis::Io if what == "connecting" && error.to_string().contains("certificate") => (
            ErrorKind::Unreachable,
            format!(
                "no TLS connection to {at}: its certificate must be signed by an authority that is trusted here (see \
                 ClientBuilder::tls_root_certificate), and name the host of the URL"
            ),
        ),
        Redis::Io if what == "connecting" && error.is_connection_dropped() && !error.is_connection_refusal() => (
            ErrorKind::Unreachable,
            format!(
                "{at} closes the connection at once: it may have no room for another (raise `maxclients`), or want TLS \
                 (rediss://); its log says"
            ),
        ),
        Redis::Io | Redis::ClusterConnectionNotFound if what == "connecting" => (
            ErrorKind::Unreachable,
            format!(
                "{at} cannot be reached: see that the server runs there, and that host, port and TLS (rediss://) are right"
            ),
        ),
        Redis::Io | Redis::ClusterConnectionNotFound => (
            ErrorKind::Unreachable,
            format!(
                "the connection to {at} was lost during {what}, which may have been carried out all the same; a new \
                 connection is made by itself: try again"
            ),
        ),
        _ => (ErrorKind::Other, format!("{what} failed on {at}")),
    }
}

pub(crate) fn no_connection(at: &str, limit: Duration) -> String {
    format!(
        "no connection to {at} within {limit:?}: see that the server runs and answers there; if it is just far away, \
         raise ClientBuilder::connect_timeout"
    )
}

pub(crate) fn cross_slot(what: &str) -> String {
    format!(
        "{what} got keys of different hash tags, which Redis Cluster may keep on different servers: give all names \
         the same tag in braces, as in \"{{tenant7}}:a\" and \"{{tenant7}}:b\""
    )
}

fn denied(at: &str, what: &str, context: Context<'_>) -> String {
    let rules = if context.doing.is_some_and(|doing| doing.script.is_some()) {
        "+evalsha +eval (or +@scripting), the commands that the script calls, and the keys (~PATTERN), to its user by ACL SETUSER"
    } else {
        "the command (+NAME) and its keys (~PATTERN) or channels (&PATTERN) to its user by ACL SETUSER"
    };
    format!("the access rules of {at} forbid {what}: allow {rules}")
}

/// Whether the connection is gone, so that the next command needs another.
pub(crate) fn is_broken(error: &RedisError) -> bool {
    !error.is_timeout()
        && matches!(
            error.kind(),
            redis::ErrorKind::Io
                | redis::ErrorKind::Parse
                | redis::ErrorKind::AuthenticationFailed
                | redis::ErrorKind::ClusterConnectionNotFound
        )
}

/// Whether another connection may do better than this one, which still serves meanwhile.
pub(crate) fn is_suspect(error: &RedisError) -> bool {
    error.is_timeout() || code(error) == "READONLY"
}

pub(crate) fn is_no_script(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The reply is there, but not of the type that the caller wants.
pub(crate) fn wrong_reply(why: &redis::ParsingError, context: Context<'_>) -> Error {
    let what = context.doing.map_or_else(String::new, |doing| doing.name());
    Error::new(ErrorKind::Other, format!("{what} was carried out, but its reply is not of the type asked for: {why}"))
        .sent()
}
