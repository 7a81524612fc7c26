//! Options of a client, and the checks of its URLs.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use turnstile_core::ErrorKind;

use crate::connection::{Connection, Current};
use crate::source::{Settings, Source};
use crate::{Client, Error};

/// Options of a [`Client`].
#[must_use = "a builder does nothing itself: use .connect() or .build()"]
#[derive(Clone)]
pub struct ClientBuilder {
    servers: Servers,
    username: Option<String>,
    password: Option<String>,
    database: Option<i64>,
    #[cfg(feature = "tls")]
    root_certificate: Option<Vec<u8>>,
    connect_timeout: Duration,
    response_timeout: Duration,
    slow_script: Duration,
}

#[derive(Clone)]
enum Servers {
    Standalone(String),
    #[cfg(feature = "sentinel")]
    Sentinel {
        urls: Vec<String>,
        master: String,
    },
    #[cfg(feature = "cluster")]
    Cluster(Vec<String>),
}

impl Servers {
    const fn is_cluster(&self) -> bool {
        match self {
            Self::Standalone(_) => false,
            #[cfg(feature = "sentinel")]
            Self::Sentinel { .. } => false,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => true,
        }
    }
}

impl ClientBuilder {
    const fn of(servers: Servers) -> Self {
        Self {
            servers,
            username: None,
            password: None,
            database: None,
            #[cfg(feature = "tls")]
            root_certificate: None,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            slow_script: Duration::from_millis(50),
        }
    }

    pub(crate) fn standalone(url: &str) -> Self {
        Self::of(Servers::Standalone(url.to_owned()))
    }

    #[cfg(feature = "sentinel")]
    pub(crate) const fn sentinel(urls: Vec<String>, master: String) -> Self {
        Self::of(Servers::Sentinel { urls, master })
    }

    #[cfg(feature = "cluster")]
    pub(crate) const fn cluster(urls: Vec<String>) -> Self {
        Self::of(Servers::Cluster(urls))
    }

    /// The user of the Redis servers, in place of the URL's.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password of the Redis servers, in place of the URL's.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The number of the database, in place of the URL's. A cluster has but 0.
    pub const fn database(mut self, number: i64) -> Self {
        self.database = Some(number);
        self
    }

    /// A certificate in PEM that is trusted to sign the server's, in place of the system's, for `rediss://` URLs.
    ///
    /// Not for Sentinel and Cluster: there, add it to the system's, or name its file in SSL_CERT_FILE.
    #[cfg(feature = "tls")]
    pub fn tls_root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificate = Some(pem.into());
        self
    }

    /// The longest that a connection may take, and that a caller waits for one: 1 s by default.
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// The longest that a reply on the shared connection may take: 1 s by default.
    pub const fn response_timeout(mut self, limit: Duration) -> Self {
        self.response_timeout = limit;
        self
    }

    /// From when on a script is told as slow, by a `tracing` warning: 50 ms by default.
    ///
    /// Measured is the round trip as this client sees it: the network, and whatever the server did before, count too.
    pub const fn slow_script(mut self, limit: Duration) -> Self {
        self.slow_script = limit;
        self
    }

    /// A client that is connected.
    ///
    /// # Errors
    /// The URL or the options make no sense, the server does not answer within the connect timeout, refuses, or is
    /// older than Redis 7.0.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.build()?;
        client.ready().await?;
        Ok(client)
    }

    /// A client that connects when it is first used.
    ///
    /// # Errors
    /// The URL or the options make no sense.
    pub fn build(self) -> Result<Client, Error> {
        let current = Arc::new(Current::empty());
        let source = match &self.servers {
            Servers::Standalone(url) => {
                let info = self.with_own_settings(self.read(url)?, is_resp2(url));
                let shared = Arc::downgrade(&current);
                let on_loss = move || {
                    // Should the connection be another's already, then that one is merely made anew too.
                    Weak::upgrade(&shared).inspect(|current| current.store(None));
                };
                Source::standalone(info.clone(), self.settings([info]), on_loss)?
            }
            #[cfg(feature = "sentinel")]
            Servers::Sentinel { urls, master } => {
                self.refuse_root_certificate()?;
                let sentinels = self.read_all(urls)?;
                let node = self.own(RedisConnectionInfo::default());
                let mut settings = self.settings(sentinels.clone());
                settings.address = format!("{master} by Sentinel {}", settings.address).into();
                let tls = urls.iter().any(|url| is_tls(url));
                Source::sentinel(sentinels, master, node, tls, settings)?
            }
            #[cfg(feature = "cluster")]
            Servers::Cluster(urls) => {
                self.refuse_root_certificate()?;
                let seeds = self.read_all(urls)?.into_iter();
                let seeds: Vec<_> = seeds.map(|info| self.with_own_settings(info, true)).collect();
                Source::cluster(seeds.clone(), self.settings(seeds))?
            }
        };
        let connection = Connection::new(source, current);
        Ok(Client::from_parts(Arc::new(connection), self.slow_script))
    }

    #[cfg(any(feature = "sentinel", feature = "cluster"))]
    fn read_all(&self, urls: &[String]) -> Result<Vec<ConnectionInfo>, Error> {
        if urls.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "no URL is given: name at least one server"));
        }
        urls.iter().map(|url| self.read(url)).collect()
    }

    #[cfg(any(feature = "sentinel", feature = "cluster"))]
    fn refuse_root_certificate(&self) -> Result<(), Error> {
        #[cfg(feature = "tls")]
        if self.root_certificate.is_some() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a root certificate of one's own works with a single server only: for Sentinel and Cluster add it to \
                 the system's, or name its file in SSL_CERT_FILE",
            ));
        }
        Ok(())
    }

    /// Checks a URL. No text has it in it, as it may hold a password.
    fn read(&self, url: &str) -> Result<ConnectionInfo, Error> {
        if is_tls(url) {
            #[cfg(not(feature = "tls"))]
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a rediss:// URL asks for TLS, which is not built in: turn on the feature `tls` of redis-lua",
            ));
            #[cfg(feature = "tls")]
            install_crypto();
        }
        let bad = |_| {
            Error::new(
                ErrorKind::Invalid,
                "the Redis URL makes no sense: write redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or \
                 unix:///PATH; percent-encode /, @, :, ? and # in a password",
            )
        };
        #[cfg(feature = "tls")]
        if let Some(pem) = &self.root_certificate {
            let misfit = || {
                Error::new(
                    ErrorKind::Invalid,
                    "the root certificate does not go with the URL: it must be PEM, and the URL rediss://HOST[:PORT]",
                )
            };
            // redis-rs takes a text without any certificate for a trust in nobody.
            if !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----") {
                return Err(misfit());
            }
            let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) };
            let client = redis::Client::build_with_tls(url, certificates).map_err(|_| misfit())?;
            return Ok(client.get_connection_info().clone());
        }
        url.into_connection_info().map_err(bad)
    }

    fn own(&self, redis: RedisConnectionInfo) -> RedisConnectionInfo {
        // CLIENT SETINFO: users whose rights are few may not do it, and each try would be in the server's log of denials.
        let mut redis = redis.set_skip_set_lib_name();
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password);
        }
        if let Some(number) = self.database {
            redis = redis.set_db(number);
        }
        redis
    }

    /// RESP3, since it tells of a lost connection even while no reply is waited for; unless the URL says otherwise.
    fn with_own_settings(&self, info: ConnectionInfo, resp2: bool) -> ConnectionInfo {
        let mut redis = self.own(info.redis_settings().clone());
        if !resp2 {
            redis = redis.set_protocol(ProtocolVersion::RESP3);
        }
        info.set_redis_settings(redis)
    }

    fn settings(&self, servers: impl IntoIterator<Item = ConnectionInfo>) -> Settings {
        let mut addresses = Vec::new();
        let mut secrets: Vec<_> = self.password.iter().cloned().collect();
        for server in servers {
            addresses.push(server.addr().to_string());
            secrets.extend(server.redis_settings().password().map(str::to_owned));
        }
        secrets.retain(|secret| !secret.is_empty());
        Settings {
            address: addresses.join(", ").into(),
            secrets: secrets.into(),
            connect_timeout: self.connect_timeout,
            response_timeout: self.response_timeout,
            is_cluster: self.servers.is_cluster(),
        }
    }
}

/// Shows neither URLs nor user nor password.
impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("slow_script", &self.slow_script)
            .finish_non_exhaustive()
    }
}

fn is_tls(url: &str) -> bool {
    ["rediss:", "valkeys:"].iter().any(|scheme| url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme)))
}

fn is_resp2(url: &str) -> bool {
    url.split_once('?').is_some_and(|(_, query)| query.split('&').any(|q| q == "protocol=2" || q == "protocol=resp2"))
}

/// rustls takes its cryptography from the process; where the program has chosen none, ring.
#[cfg(feature = "tls")]
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that another thread was faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
