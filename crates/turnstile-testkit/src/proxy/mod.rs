//! A TCP proxy in this process that does to a connection what networks do, when told to.
//!
//! It carries bytes and knows no protocol. It never breaks TCP's promise by itself: what is delivered was sent, in
//! order, without gaps. So bytes that are swallowed leave that direction of that connection dead for good, also after
//! [`Proxy::pass`]; a client gets out of it as in life, by its own time limit and a new connection.
//!
//! It runs on the testkit's own thread: a test's paused clock does not move its delays, and a test that blocks does
//! not block it.

mod carry;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::{ports, runtime};

/// How long [`Proxy::until`] and [`CutReply::happened`] wait before they say that it did not happen.
const LIMIT: Duration = Duration::from_secs(30);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From clients to the server: requests.
    ToServer,
    /// From the server to clients: replies.
    ToClient,
    /// Both ways.
    Both,
}

/// What has happened at a proxy since it was made; only ever rises, but for `open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were accepted and carried to the server.
    pub connections: u64,
    /// Those of them that are open now.
    pub open: u64,
    /// Connections refused by [`Proxy::refuse`].
    pub refused: u64,
    /// Connections reset because the server did not take them.
    pub unreachable: u64,
    /// Connections ended by [`Proxy::cut`].
    pub cut: u64,
    /// Connections ended by [`Proxy::cut_reply`], each with the reply lost.
    pub replies_cut: u64,
    /// Bytes handed to the server.
    pub to_server: u64,
    /// Bytes handed to clients.
    pub to_client: u64,
    /// Bytes from clients that were swallowed.
    pub swallowed_to_server: u64,
    /// Bytes from the server that were swallowed; a reply lost by [`Proxy::cut_reply`] is not among them.
    pub swallowed_to_client: u64,
}

/// What becomes of bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lane {
    #[default]
    Pass,
    Hold,
    Swallow,
}

/// The faults in force; index 0 is to the server, 1 to the client.
#[derive(Clone, Debug, Default)]
struct Faults {
    lanes: [Lane; 2],
    delays: [Duration; 2],
    refuse: bool,
    /// How often all connections were cut; one that sees it rise ends.
    cuts: u64,
}

/// What connections share with the proxy.
#[derive(Debug)]
struct Shared {
    stats: watch::Sender<Stats>,
    /// When set: the next request with these bytes in it loses its reply.
    armed: Mutex<Option<Vec<u8>>>,
}

impl Shared {
    fn arm(&self, with: Option<Vec<u8>>) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = with;
    }

    /// Whether the request in `chunk` is the one to lose its reply; true for one request only.
    fn fires(&self, chunk: &[u8]) -> bool {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let fires = |needle: &Vec<u8>| needle.is_empty() || chunk.windows(needle.len()).any(|part| part == needle);
        armed.take_if(|needle| fires(needle)).is_some()
    }

    fn count(&self, change: impl FnOnce(&mut Stats)) {
        self.stats.send_modify(change);
    }
}

/// A fault proxy in front of one server. Dropping it closes its port and resets its connections.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    faults: watch::Sender<Faults>,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and carries each connection to `server`, a host and a port. The server need
    /// not be there yet.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(server: (String, u16)) -> Result<Self> {
        Self::on(ports::listen(ports::PROXIES)?, server).await
    }

    /// The same on a port that is ours already.
    pub(crate) async fn on(listener: std::net::TcpListener, server: (String, u16)) -> Result<Self> {
        runtime::run(async move {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let addr = listener.local_addr()?;
            let shared = Arc::new(Shared { stats: watch::Sender::default(), armed: Mutex::default() });
            let (faults, seen) = watch::channel(Faults::default());
            tokio::spawn(carry::serve(listener, server, seen, shared.clone()));
            Ok(Self { addr, faults, shared })
        })
        .await
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on delays bytes that arrive by `delay`; zero for no delay. Bytes stay in order, and the delay is of
    /// latency, not of bandwidth: what was sent together arrives together.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.set(direction, |faults, way| faults.delays[way] = delay);
    }

    /// From now on holds bytes back; [`Proxy::pass`] delivers them, late. A partition that heals: a request may be
    /// carried out long after its sender has given up.
    pub fn hold(&self, direction: Direction) {
        self.set(direction, |faults, way| faults.lanes[way] = Lane::Hold);
    }

    /// From now on swallows bytes, while connections stay open and new ones are accepted. A connection that has lost
    /// bytes in a direction gets none through in it ever again, nor is the end of the one side told to the other.
    pub fn swallow(&self, direction: Direction) {
        self.set(direction, |faults, way| faults.lanes[way] = Lane::Swallow);
    }

    /// [`Proxy::swallow`] in both directions: connections that look open, with nobody at the other end.
    pub fn half_open(&self) {
        self.swallow(Direction::Both);
    }

    /// From now on resets each new connection at once; those that are open stay. (A client sees its connect succeed
    /// and the first read or write fail: so the proxy can count the tries.)
    pub fn refuse(&self) {
        self.faults.send_modify(|faults| faults.refuse = true);
    }

    /// Resets all connections that are open now. What was on its way is lost.
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// Lets the next request through, and when bytes come back on its connection, ends that connection instead of
    /// delivering them: the server has done the work, and the client cannot know. The server sees an orderly end.
    ///
    /// A request is what one client writes at a time; where requests are pipelined, use [`Proxy::cut_reply_to`] on a
    /// quiet connection, since the first bytes that come back may answer an earlier request.
    pub fn cut_reply(&self) -> CutReply<'_> {
        self.cut_reply_to("")
    }

    /// [`Proxy::cut_reply`] for the next request that contains `needle`, such as a command's or a key's name.
    pub fn cut_reply_to(&self, needle: impl AsRef<[u8]>) -> CutReply<'_> {
        let before = self.stats().replies_cut;
        self.shared.arm(Some(needle.as_ref().to_vec()));
        CutReply { proxy: self, before }
    }

    /// No faults any more: delivers what was held back, accepts connections again, and forgets a [`Proxy::cut_reply`]
    /// that was not reached.
    pub fn pass(&self) {
        self.shared.arm(None);
        self.faults.send_modify(|faults| *faults = Faults { cuts: faults.cuts, ..Faults::default() });
    }

    /// What has happened until now.
    pub fn stats(&self) -> Stats {
        *self.shared.stats.borrow()
    }

    /// Waits until `reached` holds of the [`Stats`]: the way to know that a fault was met, without sleeping.
    ///
    /// # Errors
    /// When it does not hold within 30 seconds; the text says what has happened until then.
    pub async fn until(&self, reached: impl Fn(&Stats) -> bool + Send + 'static) -> Result<Stats> {
        let mut seen = self.shared.stats.subscribe();
        runtime::run(async move {
            let waited = timeout(LIMIT, seen.wait_for(reached)).await.map(|found| found.map(|stats| *stats));
            let stats = *seen.borrow();
            waited.with_context(|| format!("not reached within {LIMIT:?}: {stats:?}"))?.context("the proxy is gone")
        })
        .await
    }

    fn set(&self, direction: Direction, change: impl Fn(&mut Faults, usize)) {
        self.faults.send_modify(|faults| {
            if direction != Direction::ToClient {
                change(faults, 0);
            }
            if direction != Direction::ToServer {
                change(faults, 1);
            }
        });
    }
}

/// A reply that is going to be lost.
#[derive(Debug)]
#[must_use = "a test that does not know whether the reply was lost proves nothing: use .happened()"]
pub struct CutReply<'a> {
    proxy: &'a Proxy,
    before: u64,
}

impl CutReply<'_> {
    /// Waits until the reply has been lost.
    ///
    /// # Errors
    /// When no request, or no reply, came within 30 seconds.
    pub async fn happened(self) -> Result<()> {
        let before = self.before;
        self.proxy.until(move |stats| stats.replies_cut > before).await.context("no reply was cut")?;
        Ok(())
    }
}
