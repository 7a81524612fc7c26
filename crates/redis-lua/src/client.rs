//! The client: one shared connection that all tasks' commands pipeline over, and others for who needs one alone.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionLike, PubSub};
use redis::{Cmd, FromRedisValue, RedisError, RedisFuture, Value};

use crate::classify::{self, Context, Doing};
use crate::connection::{Connection, Live};
use crate::script::in_full;
use crate::source::Link;
use crate::subscriber::{Events, Subscriber};
use crate::{ClientBuilder, Error, Script};

/// A client of one Redis server, of the master that Sentinel names, or of a cluster. Cheap to clone.
///
/// All commands of all tasks share one connection, where they pipeline by themselves: what was sent first is carried
/// out first. When the connection is lost another is made by itself, by one attempt at a time with a back-off between
/// attempts; the commands that were under way then fail, with [`Error::outcome_unknown`], and later ones wait for the
/// new connection, at most the connect timeout. So a call ends within the connect timeout and the response timeout
/// together.
///
/// When replies are late, or the server has become a read-only replica, the connection is replaced in the background.
/// A command that was sent on the old one may then be carried out after one that was sent on the new.
#[derive(Clone)]
pub struct Client {
    connection: Arc<Connection>,
    slow_script: Duration,
}

impl Client {
    /// A client that is connected, to `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, `unix:///PATH`, or, with the
    /// feature `tls`, `rediss://…`.
    ///
    /// # Errors
    /// The URL makes no sense, the server does not answer within the connect timeout, refuses, or is older than 7.0.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// A client that connects when it is first used: the server need not be up yet.
    ///
    /// # Errors
    /// The URL makes no sense.
    pub fn new(url: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// A client with other options than the defaults.
    pub fn builder(url: impl AsRef<str>) -> ClientBuilder {
        ClientBuilder::standalone(url.as_ref())
    }

    /// A client of the master that these Sentinels name, asked for anew at each (re)connection.
    ///
    /// User and password in the URLs are the Sentinels'; those of the Redis servers are given to the builder.
    #[cfg(feature = "sentinel")]
    pub fn sentinel<U: AsRef<str>>(urls: impl IntoIterator<Item = U>, master: impl Into<String>) -> ClientBuilder {
        ClientBuilder::sentinel(urls.into_iter().map(|url| url.as_ref().to_owned()).collect(), master.into())
    }

    /// A client of the cluster that these nodes belong to; one that answers is enough.
    #[cfg(feature = "cluster")]
    pub fn cluster<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> ClientBuilder {
        ClientBuilder::cluster(urls.into_iter().map(|url| url.as_ref().to_owned()).collect())
    }

    pub(crate) const fn from_parts(connection: Arc<Connection>, slow_script: Duration) -> Self {
        Self { connection, slow_script }
    }

    /// Waits for the shared connection; there is no need to, other than to learn early that there is none.
    ///
    /// # Errors
    /// The server does not answer within the connect timeout, refuses, or is older than 7.0.
    ///
    /// # Cancelling
    /// The attempt goes on for others.
    pub async fn ready(&self) -> Result<(), Error> {
        self.connection.get().await.map(drop)
    }

    /// Whether the shared connection is there, as far as is known: no promise that the server answers.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_open()
    }

    /// Which shared connection there is now: a number that changes when it is replaced, and zero while there is none.
    /// What a command like `WAIT` tells concerns what was sent over the same connection.
    #[must_use]
    pub fn connection_number(&self) -> u64 {
        self.connection.number()
    }

    /// Whether keys of different hash tags may be on different servers.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.connection.source.settings.is_cluster
    }

    /// The servers' host and port, for log lines; no credentials.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.connection.source.settings.address
    }

    /// The longest that a reply on the shared connection is waited for.
    #[must_use]
    pub fn response_timeout(&self) -> Duration {
        self.connection.source.settings.response_timeout
    }

    /// Sends one command over the shared connection. It must not block on the server: see [`Client::dedicated`].
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancelling
    /// A command that was sent is carried out all the same, its reply dropped.
    pub async fn run<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, Error> {
        let doing = Doing { cmd, script: None };
        let mut live = self.connection.get().await?;
        self.told(self.send(&mut live, cmd).await, doing)
    }

    /// EVALSHA, then EVAL if the server does not know the script.
    pub(crate) async fn run_script<T: FromRedisValue>(&self, script: &Script, cmd: &Cmd) -> Result<T, Error> {
        let doing = Doing { cmd, script: Some(script.name()) };
        let mut live = self.connection.get().await?;
        let sent = Instant::now();
        let mut result = self.send(&mut live, cmd).await;
        if matches!(&result, Err(error) if classify::is_no_script(error)) {
            result = self.send(&mut live, &in_full(script, cmd)).await;
        }
        let took = sent.elapsed();
        if took >= self.slow_script {
            tracing::warn!(
                script = script.name(),
                took_ms = took.as_millis(),
                limit_ms = self.slow_script.as_millis(),
                address = self.address(),
                "a script took long, as seen from here; while a script runs the server serves nobody else"
            );
        }
        self.told(result, doing)
    }

    async fn send(&self, live: &mut Live, cmd: &Cmd) -> Result<Value, RedisError> {
        let reply = live.link.send(cmd, Some(self.response_timeout())).await;
        if let Err(error) = &reply {
            self.connection.failed(live, error);
        }
        reply
    }

    fn told<T: FromRedisValue>(&self, reply: Result<Value, RedisError>, doing: Doing<'_>) -> Result<T, Error> {
        let value = reply.map_err(|error| classify::classify(error, self.context(Some(doing))))?;
        self.convert(value, doing)
    }

    fn convert<T: FromRedisValue>(&self, value: Value, doing: Doing<'_>) -> Result<T, Error> {
        redis::from_redis_value(value).map_err(|why| classify::wrong_reply(&why, self.context(Some(doing))))
    }

    fn context<'a>(&'a self, doing: Option<Doing<'a>>) -> Context<'a> {
        Context { doing, ..self.connection.source.settings.context() }
    }

    /// A new connection for this caller alone, for commands that block on the server (BLPOP, XREADGROUP BLOCK).
    ///
    /// A reply may take `limit`, or as long as it takes: without a limit, give the command itself one, and expect to
    /// wait for long on a server that has gone without a word.
    ///
    /// # Errors
    /// The server does not answer within the connect timeout, or refuses.
    pub async fn dedicated(&self, limit: Option<Duration>) -> Result<Dedicated, Error> {
        self.ready().await?;
        let link = self.connection.source.open_dedicated(limit).await?;
        Ok(Dedicated { link, limit, client: self.clone() })
    }

    /// A new connection that subscribes to channels. It is not made anew when it is lost: its stream of messages ends.
    ///
    /// # Errors
    /// The server does not answer within the connect timeout, or refuses.
    pub async fn pubsub(&self) -> Result<PubSub, Error> {
        self.ready().await?;
        self.connection.source.open_pubsub().await
    }

    /// A new connection that subscribes; on a cluster, by sharded pub/sub.
    pub(crate) async fn subscriber(&self) -> Result<(Subscriber, Events), Error> {
        self.ready().await?;
        self.connection.source.open_subscriber().await
    }

    pub(crate) fn subscriber_error(&self, error: RedisError) -> Error {
        classify::classify(error, self.context(None))
    }

    pub(crate) fn subscriber_lost(&self) -> Error {
        self.subscriber_error(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address())
            .field("mode", &self.connection.source.mode())
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// A connection of one's own, for commands that block. Closed when dropped; not made anew when it is lost.
///
/// It takes redis-rs's typed commands too.
pub struct Dedicated {
    link: Link,
    limit: Option<Duration>,
    client: Client,
}

impl Dedicated {
    /// Sends one command, and waits for its reply.
    ///
    /// # Errors
    /// See [`Error`]. After [`Unreachable`](turnstile_core::ErrorKind::Unreachable) open another connection.
    ///
    /// # Cancelling
    /// The command stays under way, and what is sent next on this connection waits behind it.
    pub async fn run<T: FromRedisValue>(&mut self, cmd: &Cmd) -> Result<T, Error> {
        let doing = Doing { cmd, script: None };
        let reply = self.link.send(cmd, self.limit).await;
        let value = reply.map_err(|error| {
            let context = self.client.context(Some(doing));
            let response_timeout = self.limit.unwrap_or(context.response_timeout);
            classify::classify(error, Context { response_timeout, ..context })
        })?;
        self.client.convert(value, doing)
    }
}

impl ConnectionLike for Dedicated {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.link.req_packed_command(cmd)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmds: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.link.req_packed_commands(cmds, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.link.get_db()
    }
}

impl fmt::Debug for Dedicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedicated").field("address", &self.client.address()).finish_non_exhaustive()
    }
}
