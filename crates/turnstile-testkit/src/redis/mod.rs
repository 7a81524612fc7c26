//! Redis servers: one shared by all tests of a process, and private ones that a test may stop and kill.

mod container;
mod find;
mod ping;
mod process;
mod server;

pub use self::find::shared;
pub use self::server::{Builder, Server};

use std::fmt;
use std::ops::Deref;

use anyhow::{Result, bail};

use crate::proxy::Proxy;

/// Where a Redis answers. It cannot be stopped or killed through this; a private [`Server`] can.
#[derive(Clone)]
pub struct Redis {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What stands before the host in the address: the scheme and, if need be, user and password.
    pub(crate) before: String,
    /// What follows the port: a database number, parameters.
    pub(crate) after: String,
}

impl Redis {
    /// Starts a private server with no options of its own; see [`Redis::builder`].
    ///
    /// # Errors
    /// When no server can be had; the text says what was tried and what to install.
    pub async fn start() -> Result<Server> {
        Self::builder().start().await
    }

    /// Options for a private server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The server's address as clients take it: `redis://127.0.0.1:12345`, with the password if it wants one.
    pub fn url(&self) -> String {
        self.url_at(&self.host, self.port)
    }

    /// The host on which it answers.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port on which it answers.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new fault proxy in front of this server. Only who connects to the proxy's address meets its faults, so this
    /// is for shared servers too.
    ///
    /// # Errors
    /// When no port is free, or the server is reached by TLS, through which a proxy cannot look.
    pub async fn proxy(&self) -> Result<RedisProxy> {
        if !self.before.starts_with("redis://") {
            bail!(
                "a proxy needs a redis:// address: with TLS, the server's certificate would not fit the proxy's name"
            );
        }
        let proxy = Proxy::start((self.host.clone(), self.port)).await?;
        let url = self.url_at(&proxy.addr().ip().to_string(), proxy.addr().port());
        Ok(RedisProxy { url, proxy })
    }

    fn url_at(&self, host: &str, port: u16) -> String {
        format!("{}{host}:{port}{}", self.before, self.after)
    }

    /// Takes apart an address as `redis-cli -u` takes it.
    pub(crate) fn at(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "redis" | "rediss"))
        else {
            bail!("the address of a Redis begins with redis:// or rediss://");
        };
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, place) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse()?),
            _ => (place, 6379),
        };
        let (before, after) = (format!("{scheme}://{user}"), after.to_owned());
        Ok(Self { host: host.to_owned(), port, before, after })
    }
}

/// A fault [`Proxy`] with a Redis behind it.
pub struct RedisProxy {
    url: String,
    proxy: Proxy,
}

impl RedisProxy {
    /// The address to give to a client so that it goes through the proxy.
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

// By hand, here and below: the address may hold a password.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({}:{})", self.host, self.port)
    }
}

impl fmt::Debug for RedisProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.proxy.fmt(f)
    }
}

impl Deref for RedisProxy {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}

#[cfg(test)]
mod tests {
    use super::Redis;

    #[test]
    fn an_address_is_taken_apart_and_put_together_again() {
        for url in [
            "redis://127.0.0.1:7000",
            "redis://:p%40ss@db.example:7000/3?protocol=resp3",
            "rediss://user:secret@[::1]:7000/#insecure",
        ] {
            let redis = Redis::at(url).unwrap();
            assert_eq!((redis.port(), redis.url().as_str()), (7000, url));
        }
        assert_eq!(Redis::at("redis://db.example").unwrap().url(), "redis://db.example:6379");
        assert_eq!(Redis::at("redis://[::1]/0").unwrap().url(), "redis://[::1]:6379/0");
        Redis::at("http://db.example").unwrap_err();
        Redis::at("redis://db.example:port").unwrap_err();
    }

    #[test]
    fn a_password_is_not_in_debug_output() {
        let redis = Redis::at("redis://user:secret@db.example:7000").unwrap();
        assert_eq!(format!("{redis:?}"), "Redis(db.example:7000)");
    }
}
