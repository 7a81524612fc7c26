//! Paths to the brokers through fault proxies. A broker tells clients the proxy's address only on a listener made for
//! that, and listeners are fixed when it starts: so there is a pool of paths, each with ports that are ours from the
//! start, and a test has one for itself as long as it likes.

use std::fmt;
use std::net::TcpListener;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::settings::PATHS;
use crate::ports;
use crate::proxy::Proxy;

/// One path: for each broker the proxy's port, and where the broker listens.
type Path = Vec<(TcpListener, (String, u16))>;

/// The paths that nobody uses now; none for brokers that are not ours.
#[derive(Default)]
pub(crate) struct Pool {
    ours: bool,
    free: Mutex<Vec<Path>>,
}

impl Pool {
    pub(crate) fn new(paths: Vec<Path>) -> Arc<Self> {
        Arc::new(Self { ours: true, free: Mutex::new(paths) })
    }

    pub(super) async fn take(pool: &Arc<Self>) -> Result<KafkaProxy> {
        if !pool.ours {
            bail!("a proxy needs a broker that tells its address, which this one does not: use Kafka::start()");
        }
        let path = pool.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let path =
            path.with_context(|| format!("all {PATHS} proxies of this Kafka are in use; drop one, or start a Kafka"))?;
        let mut taken = KafkaProxy { pool: pool.clone(), path, proxies: Vec::new() };
        for (listener, target) in &taken.path {
            // Whoever still tries to reach an earlier test's proxy is not ours.
            listener.set_nonblocking(true)?;
            while listener.accept().is_ok() {}
            taken.proxies.push(Proxy::on(listener.try_clone()?, target.clone()).await?);
        }
        Ok(taken)
    }
}

/// Free ports for the proxies of so many brokers, kept from others: for each path one a broker.
pub(crate) fn listen(brokers: usize) -> Result<Vec<Vec<TcpListener>>> {
    (0..PATHS).map(|_| (0..brokers).map(|_| ports::listen(ports::PROXIES)).collect()).collect()
}

/// A path to a Kafka through fault proxies, one in front of each broker. It derefs to that of the first, which is the
/// only one where there is one broker. Dropping it resets its connections.
pub struct KafkaProxy {
    pool: Arc<Pool>,
    path: Path,
    proxies: Vec<Proxy>,
}

impl KafkaProxy {
    /// The addresses to give to a client so that it goes through the proxies, now and whatever it learns later.
    pub fn brokers(&self) -> String {
        self.proxies.iter().map(|proxy| proxy.addr().to_string()).collect::<Vec<_>>().join(",")
    }

    /// The proxies, in the brokers' order.
    pub fn each(&self) -> &[Proxy] {
        &self.proxies
    }
}

impl fmt::Debug for KafkaProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaProxy").field(&self.proxies).finish()
    }
}

impl Deref for KafkaProxy {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxies[0]
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.proxies.clear();
        let path = std::mem::take(&mut self.path);
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }
}
