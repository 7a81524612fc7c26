//! Free ports on loopback, chosen below the range that the kernel gives to outgoing connections.
//!
//! A port of that range (32768 and up) that is polled while nothing listens on it can connect to itself. Servers get
//! 10000 to 19999, so that a Redis node's cluster bus (its port + 10000) is below 32768 and nobody else's too; proxies
//! get 30000 to 32767.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

use anyhow::{Result, anyhow};

/// For servers; each may also use the port 10000 above its own.
pub(crate) const SERVERS: Range<u16> = 10_000..20_000;
/// For proxies.
pub(crate) const PROXIES: Range<u16> = 30_000..32_768;

/// A listener on a free port of `range`, or why there is none.
pub(crate) fn listen(range: Range<u16>) -> Result<TcpListener> {
    let mut last = None;
    for _ in 0..200 {
        let port = rand::random_range(range.clone());
        match TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(anyhow!("no free port on 127.0.0.1 between {} and {}: {last:?}", range.start, range.end - 1))
}

/// A port of `range` that was free a moment ago; who starts a server on it must be ready to choose again.
pub(crate) fn free(range: Range<u16>) -> Result<u16> {
    Ok(listen(range)?.local_addr()?.port())
}

/// As many different ones; they too were free a moment ago.
#[cfg(feature = "kafka")]
pub(crate) fn some(range: Range<u16>, count: usize) -> Result<Vec<u16>> {
    let held = (0..count).map(|_| listen(range.clone())).collect::<Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
