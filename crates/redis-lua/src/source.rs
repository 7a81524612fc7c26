//! Where connections come from: a pool of deadpool-redis, and the server's version checked on each new one.
//!
//! A connection is taken out of its pool for good: the pool pings one that comes back, a round trip that a shared
//! connection must not pay for each command.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Cmd, ConnectionInfo, ProtocolVersion, PushKind, RedisError, RedisFuture, Value};
use tokio::time::timeout;
use turnstile_core::ErrorKind;

use crate::Error;
use crate::classify::{self, Context};
use crate::subscriber::{Events, Subscriber};

/// The oldest server that is supported.
const FLOOR: (u32, u32) = (7, 0);

/// One open connection, to one server or to a cluster. Clones share it.
#[derive(Clone)]
pub(crate) enum Link {
    Single(MultiplexedConnection),
    #[cfg(feature = "cluster")]
    Cluster(redis::cluster_async::ClusterConnection),
}

impl Link {
    /// Sends the command and waits for its reply, at most `limit` where redis-rs does not see to that.
    pub(crate) async fn send(&mut self, cmd: &Cmd, limit: Option<Duration>) -> Result<Value, RedisError> {
        let value = match self {
            Self::Single(connection) => connection.send_packed_command(cmd).await?,
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => match limit {
                Some(limit) => timeout(limit, connection.req_packed_command(cmd)).await.map_err(|_| timed_out())??,
                None => connection.req_packed_command(cmd).await?,
            },
        };
        let _ = limit;
        value.extract_error()
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmds: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(cmds, offset, count),
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => connection.req_packed_commands(cmds, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            #[cfg(feature = "cluster")]
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// How to reach the servers.
pub(crate) struct Source {
    servers: Servers,
    pub(crate) settings: Settings,
}

/// What all modes share.
pub(crate) struct Settings {
    /// Host and port, as shown in texts.
    pub(crate) address: Arc<str>,
    /// Passwords, to be kept out of texts.
    pub(crate) secrets: Box<[String]>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) is_cluster: bool,
}

impl Settings {
    /// For the text of an error while connecting.
    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            address: &self.address,
            doing: None,
            connect_timeout: self.connect_timeout,
            response_timeout: self.response_timeout,
            is_cluster: self.is_cluster,
            secrets: &self.secrets,
        }
    }
}

enum Servers {
    Standalone {
        /// Tells when its connection is lost; for the shared connection only.
        pool: deadpool_redis::Pool,
        client: Box<redis::Client>,
    },
    #[cfg(feature = "sentinel")]
    Sentinel { pool: deadpool_redis::sentinel::Pool, client: Box<tokio::sync::Mutex<redis::sentinel::SentinelClient>> },
    #[cfg(feature = "cluster")]
    Cluster { pool: deadpool_redis::cluster::Pool, seeds: Vec<ConnectionInfo> },
}

impl Source {
    /// `on_loss` is called when a shared connection is lost, even while nobody waits for a reply (RESP3 only).
    pub(crate) fn standalone(
        info: ConnectionInfo,
        settings: Settings,
        on_loss: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let bad = |error| classify::classify(error, settings.context());
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.response_timeout));
        if info.redis_settings().protocol() != ProtocolVersion::RESP2 {
            config = config.set_push_sender(move |push: redis::PushInfo| {
                if push.kind == PushKind::Disconnection {
                    on_loss();
                }
                Ok::<_, redis::aio::SendError>(())
            });
        }
        let client = Box::new(redis::Client::open(info.clone()).map_err(bad)?);
        let manager = deadpool_redis::Manager::new_with_config(info, config).map_err(bad)?;
        let pool = deadpool_redis::Pool::builder(manager).build().map_err(|why| no_pool(&why))?;
        Ok(Self { servers: Servers::Standalone { pool, client }, settings })
    }

    #[cfg(feature = "sentinel")]
    pub(crate) fn sentinel(
        sentinels: Vec<ConnectionInfo>,
        master: &str,
        node: redis::RedisConnectionInfo,
        tls: bool,
        settings: Settings,
    ) -> Result<Self, Error> {
        use deadpool_redis::sentinel::{Manager, Pool, SentinelNodeConnectionInfo, SentinelServerType, TlsMode};
        let bad = |error| classify::classify(error, settings.context());
        let node = SentinelNodeConnectionInfo {
            tls_mode: tls.then_some(TlsMode::Secure),
            redis_connection_info: Some(deadpool_redis::RedisConnectionInfo::from(node)),
        };
        let client = redis::sentinel::SentinelClient::build(
            sentinels.clone(),
            String::from(master),
            Some(node.clone().into()),
            redis::sentinel::SentinelServerType::Master,
        )
        .map_err(bad)?;
        let manager =
            Manager::new(sentinels, master.to_owned(), Some(node), SentinelServerType::Master).map_err(bad)?;
        let pool = Pool::builder(manager).build().map_err(|why| no_pool(&why))?;
        Ok(Self { servers: Servers::Sentinel { pool, client: Box::new(client.into()) }, settings })
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn cluster(seeds: Vec<ConnectionInfo>, settings: Settings) -> Result<Self, Error> {
        use deadpool_redis::cluster::{Manager, Pool};
        let bad = |error| classify::classify(error, settings.context());
        let manager = Manager::new(seeds.clone(), false).map_err(bad)?;
        let pool = Pool::builder(manager).build().map_err(|why| no_pool(&why))?;
        Ok(Self { servers: Servers::Cluster { pool, seeds }, settings })
    }

    pub(crate) fn mode(&self) -> &'static str {
        match self.servers {
            Servers::Standalone { .. } => "standalone",
            #[cfg(feature = "sentinel")]
            Servers::Sentinel { .. } => "sentinel",
            #[cfg(feature = "cluster")]
            Servers::Cluster { .. } => "cluster",
        }
    }

    /// A new connection to be shared.
    pub(crate) async fn open(&self) -> Result<Link, Error> {
        self.within(async {
            let mut link = match &self.servers {
                Servers::Standalone { pool, .. } => {
                    let pooled = pool.get().await.map_err(from_pool)?;
                    Link::Single(deadpool_redis::Connection::take(pooled))
                }
                #[cfg(feature = "sentinel")]
                Servers::Sentinel { pool, .. } => {
                    let pooled = pool.get().await.map_err(from_pool)?;
                    let mut connection = deadpool_redis::sentinel::Connection::take(pooled);
                    connection.set_response_timeout(self.settings.response_timeout);
                    Link::Single(connection)
                }
                #[cfg(feature = "cluster")]
                Servers::Cluster { pool, .. } => {
                    let pooled = pool.get().await.map_err(from_pool)?;
                    Link::Cluster(deadpool_redis::cluster::Connection::take(pooled))
                }
            };
            let version = version(&mut link).await?;
            Ok((link, version))
        })
        .await
        .and_then(|(link, version)| match version {
            Some(found) if !is_recent_enough(&found) => Err(self.too_old(&found)),
            Some(_) => Ok(link),
            None => {
                tracing::debug!(address = %self.settings.address, "the server does not tell its version: not checked");
                Ok(link)
            }
        })
    }

    /// A new connection for one user alone, on which a reply may take `limit`, or as long as it takes.
    pub(crate) async fn open_dedicated(&self, limit: Option<Duration>) -> Result<Link, Error> {
        self.within(async {
            match &self.servers {
                Servers::Standalone { client, .. } => {
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(self.settings.connect_timeout))
                        .set_response_timeout(limit);
                    client.get_multiplexed_async_connection_with_config(&config).await.map(Link::Single)
                }
                #[cfg(feature = "sentinel")]
                Servers::Sentinel { client, .. } => {
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(self.settings.connect_timeout))
                        .set_response_timeout(limit);
                    client.lock().await.get_async_connection_with_config(&config).await.map(Link::Single)
                }
                #[cfg(feature = "cluster")]
                Servers::Cluster { pool, .. } => {
                    let pooled = pool.get().await.map_err(from_pool)?;
                    Ok(Link::Cluster(deadpool_redis::cluster::Connection::take(pooled)))
                }
            }
        })
        .await
    }

    /// A new connection that subscribes. On a cluster, to any of its nodes: they pass messages on to each other.
    pub(crate) async fn open_pubsub(&self) -> Result<PubSub, Error> {
        self.within(async {
            match &self.servers {
                Servers::Standalone { client, .. } => client.get_async_pubsub().await,
                #[cfg(feature = "sentinel")]
                Servers::Sentinel { client, .. } => {
                    client.lock().await.async_get_client().await?.get_async_pubsub().await
                }
                #[cfg(feature = "cluster")]
                Servers::Cluster { seeds, .. } => {
                    let mut result = Err(timed_out());
                    for seed in seeds {
                        result = redis::Client::open(seed.clone())?.get_async_pubsub().await;
                        if result.is_ok() {
                            break;
                        }
                    }
                    result
                }
            }
        })
        .await
    }

    /// A new connection that subscribes. On a cluster to all its nodes, by sharded pub/sub.
    pub(crate) async fn open_subscriber(&self) -> Result<(Subscriber, Events), Error> {
        #[cfg(feature = "cluster")]
        if let Servers::Cluster { seeds, .. } = &self.servers {
            let (sender, pushes) = tokio::sync::mpsc::unbounded_channel();
            let settings = &self.settings;
            return self
                .within(async {
                    let client = redis::cluster::ClusterClientBuilder::new(seeds.clone())
                        .use_protocol(ProtocolVersion::RESP3)
                        .connection_timeout(settings.connect_timeout)
                        .response_timeout(settings.response_timeout)
                        .push_sender(sender)
                        .build()?;
                    Ok(Subscriber::cluster(client.get_async_connection().await?, pushes))
                })
                .await;
        }
        self.open_pubsub().await.map(Subscriber::single)
    }

    async fn within<T>(&self, opening: impl Future<Output = Result<T, RedisError>>) -> Result<T, Error> {
        let opened = timeout(self.settings.connect_timeout, opening).await.unwrap_or_else(|_| Err(timed_out()));
        opened.map_err(|error| classify::classify(error, self.settings.context()))
    }

    fn too_old(&self, found: &str) -> Error {
        let (major, minor) = FLOOR;
        let text = format!(
            "{} runs Redis {found}: {major}.{minor} or later is wanted; upgrade the server",
            self.settings.address
        );
        Error::new(ErrorKind::Unsupported, text)
    }
}

/// The version that the server tells, if it tells one: access rules may forbid INFO.
async fn version(link: &mut Link) -> Result<Option<String>, RedisError> {
    let mut info = redis::cmd("INFO");
    info.arg("server");
    let reply = match link {
        Link::Single(connection) => connection.send_packed_command(&info).await,
        #[cfg(feature = "cluster")]
        Link::Cluster(connection) => {
            use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
            connection.route_command(info, RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random)).await
        }
    };
    match reply.and_then(Value::extract_error) {
        Ok(reply) => {
            let text: String = redis::from_redis_value(reply).unwrap_or_default();
            Ok(text.lines().find_map(|line| line.strip_prefix("redis_version:")).map(|found| found.trim().to_owned()))
        }
        Err(error) if classify::code(&error) == "NOPERM" => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_recent_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= FLOOR
}

fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn from_pool(error: deadpool_redis::PoolError) -> RedisError {
    match error {
        deadpool_redis::PoolError::Backend(error) => error,
        other => std::io::Error::other(other.to_string()).into(),
    }
}

fn no_pool(why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, format!("no pool of connections: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seven_is_the_floor() {
        for (version, fine) in [("7.0.15", true), ("7.2.4", true), ("8.2.0", true), ("10.0", true), ("6.2.14", false)] {
            assert_eq!(is_recent_enough(version), fine, "{version}");
        }
        assert!(is_recent_enough("255.255.255"), "what a build of Redis from its development branch says");
    }
}
