//! Wake-ups for the waiters of one process, and messages for who follows a channel: one connection for all of them.
//!
//! The connection is opened when somebody first waits, made anew when it is lost, and closed when nobody has waited for
//! a while. What it brings is a hint and never the truth: messages that are published while it is away are gone, so
//! whoever waits is told once each time that a subscription stands again, and looks for itself.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use turnstile_core::{Backoff, Owner};

use crate::subscriber::{Event, Events, Subscriber};
use crate::{Client, Error, Name};

/// How long a channel that nobody waits on is kept.
const LINGER: Duration = Duration::from_secs(30);
/// How often the connection is looked after.
const TICK: Duration = Duration::from_secs(5);
/// How many messages a follower may be behind.
const BACKLOG: usize = 1024;

/// An owner in 32 hexadecimal digits.
type Digits = [u8; 32];

fn digits(owner: Owner) -> Digits {
    let mut digits = [0; 32];
    digits.copy_from_slice(owner.to_hex().as_ref());
    digits
}

/// A channel of pub/sub, as scripts are to publish to it.
///
/// On a cluster it lies under the hash tag of its name, begins with a brace, and takes `SPUBLISH`; elsewhere it begins with
/// `turnstile:` and takes `PUBLISH`. So a script knows which by looking:
/// `redis.pcall(string.sub(channel, 1, 1) == '{' and 'SPUBLISH' or 'PUBLISH', channel, message)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Channel(Arc<str>);

impl Channel {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of sharded pub/sub (`SPUBLISH`), as on a cluster.
    #[must_use]
    pub fn is_sharded(&self) -> bool {
        self.0.starts_with('{')
    }

    fn beside(name: &Name, suffix: &str, sharded: bool) -> Self {
        let key = name.as_key();
        Self(match sharded {
            false => format!("turnstile:{key}:{suffix}").into(),
            true if key.starts_with('{') => format!("{key}:{suffix}").into(),
            true => format!("{{{}}}:{key}:{suffix}", name.slot_tag()).into(),
        })
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ToRedisArgs for Channel {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg(self.0.as_bytes());
    }
}

impl ToSingleRedisArg for Channel {}

/// One process's wake-ups: one pub/sub connection and one channel a client (on a cluster, one a name), however many
/// waiters. Cheap to clone; make one for a client.
///
/// The payload of a message is the owner of the waiter that is meant, in 32 hexadecimal digits, or several of them without
/// anything in between.
#[derive(Clone)]
pub struct Inbox(Arc<Last>);

/// Ends the connection when the last handle goes away.
struct Last(Arc<Inner>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(task) = self.0.state.lock().task.take() {
            task.abort();
        }
    }
}

struct Inner {
    client: Client,
    id: String,
    /// Where there is but one channel for all names.
    plain: Channel,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiters: HashMap<Digits, Waiter>,
    channels: HashMap<Arc<str>, Wanted>,
    task: Option<AbortHandle>,
}

struct Waiter {
    channel: Channel,
    told: Arc<Notify>,
    /// Whether it is counted as one for whom the channel is kept.
    listens: bool,
}

/// A channel that somebody wants, or wanted not long ago.
struct Wanted {
    users: usize,
    unused_since: Instant,
    stands: watch::Sender<Stands>,
    heard: broadcast::Sender<Heard>,
}

#[derive(Clone)]
enum Stands {
    NotYet,
    Yes,
    Failed(Error),
}

/// What a [`Follower`] hears.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// A message.
    Message(Vec<u8>),
    /// Messages may have been missed: the connection was replaced, or the follower was slower than they came.
    Gap,
}

impl Inbox {
    /// Wake-ups by the servers of `client`. It opens nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let id = Owner::random().to_string();
        let plain = Channel(format!("turnstile:inbox:{id}").into());
        Self(Arc::new(Last(Arc::new(Inner { client, id, plain, state: Mutex::default(), changed: Notify::new() }))))
    }

    /// The channel to which scripts are to publish for waiters of `name` in this process.
    #[must_use]
    pub fn channel(&self, name: &Name) -> Channel {
        let inner = &self.0.0;
        if inner.client.is_cluster() {
            Channel::beside(name, &format!("inbox:{}", inner.id), true)
        } else {
            inner.plain.clone()
        }
    }

    /// From now on a message to `owner` counts: [`told`](Self::told) then returns at once. It opens nothing, and doing
    /// it twice does no harm.
    pub fn expect(&self, name: &Name, owner: Owner) {
        let mut state = self.0.0.state.lock();
        state.waiters.entry(digits(owner)).or_insert_with(|| Waiter {
            channel: self.channel(name),
            told: Arc::default(),
            listens: false,
        });
    }

    /// The same, and waits until the subscription stands, if it does not stand already.
    ///
    /// # Errors
    /// There is no subscription for now, and why. It is tried again for as long as somebody listens: who checks by
    /// itself now and then need not mind.
    ///
    /// # Cancelling
    /// The owner stays listening, until it is [forgotten](Self::forget).
    pub async fn listen(&self, name: &Name, owner: Owner) -> Result<(), Error> {
        self.expect(name, owner);
        match self.start_for(owner) {
            Some((_, stands)) => settled(stands).await,
            None => Ok(()),
        }
    }

    /// Until `owner` was told something, its subscription began to stand, at first or anew, or `at_most` is over. What
    /// came since it is [expected](Self::expect), and was not waited for yet, counts. The first to wait opens the connection.
    ///
    /// Whether anything was told; of an owner that is not expected it merely sleeps.
    ///
    /// # Cancelling
    /// Nothing is lost: what came stays for the next call.
    pub async fn told(&self, owner: Owner, at_most: Duration) -> bool {
        match self.start_for(owner) {
            Some((told, _)) => timeout(at_most, told.notified()).await.is_ok(),
            None => {
                sleep(at_most).await;
                false
            }
        }
    }

    /// As if a message to `owner` had come.
    pub fn tell(&self, owner: Owner) {
        if let Some(waiter) = self.0.0.state.lock().waiters.get(&digits(owner)) {
            waiter.told.notify_one();
        }
    }

    /// No longer waits for messages to `owner`. Of one that is not expected it does nothing.
    pub fn forget(&self, owner: Owner) {
        let mut state = self.0.0.state.lock();
        if let Some(waiter) = state.waiters.remove(&digits(owner))
            && waiter.listens
        {
            state.leave(&waiter.channel);
        }
    }

    /// Follows the channel beside `name` of that suffix, and waits until the subscription stands.
    ///
    /// # Errors
    /// There is no subscription to be had.
    ///
    /// # Cancelling
    /// Nothing is left behind.
    pub async fn follow(&self, name: &Name, suffix: &str) -> Result<Follower, Error> {
        let channel = self.beside(name, suffix);
        let (heard, stands) = {
            let mut state = self.0.0.state.lock();
            let wanted = state.join(&channel);
            let both = (wanted.heard.subscribe(), wanted.stands.subscribe());
            self.start(&mut state, &both.1);
            both
        };
        let follower = Follower { heard, channel, inbox: self.clone() };
        settled(stands).await.map(|()| follower)
    }

    /// The channel beside `name` of that suffix, for messages to all who [follow](Self::follow) it.
    #[must_use]
    pub fn beside(&self, name: &Name, suffix: &str) -> Channel {
        Channel::beside(name, suffix, self.0.0.client.is_cluster())
    }

    /// Sees to it that the owner's channel is subscribed to.
    fn start_for(&self, owner: Owner) -> Option<(Arc<Notify>, watch::Receiver<Stands>)> {
        let mut state = self.0.0.state.lock();
        let waiter = state.waiters.get_mut(&digits(owner))?;
        let joins = !std::mem::replace(&mut waiter.listens, true);
        let (told, channel) = (waiter.told.clone(), waiter.channel.clone());
        let stands = if joins {
            state.join(&channel).stands.subscribe()
        } else {
            state.channels.get(&channel.0)?.stands.subscribe()
        };
        self.start(&mut state, &stands);
        Some((told, stands))
    }

    /// Starts the task where there is none, and shows it a channel that does not stand yet.
    fn start(&self, state: &mut State, stands: &watch::Receiver<Stands>) {
        if state.task.as_ref().is_none_or(AbortHandle::is_finished) {
            state.task = Some(tokio::spawn(run(self.0.0.clone())).abort_handle());
        } else if matches!(*stands.borrow(), Stands::NotYet) {
            self.0.0.changed.notify_one();
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("id", &self.0.0.id).field("client", &self.0.0.client).finish_non_exhaustive()
    }
}

/// Hears what is published on one channel: see [`Inbox::follow`].
pub struct Follower {
    heard: broadcast::Receiver<Heard>,
    channel: Channel,
    inbox: Inbox,
}

impl Follower {
    /// The next message, or that some may have been missed.
    ///
    /// # Cancelling
    /// Nothing is lost.
    pub async fn next(&mut self) -> Heard {
        match self.heard.recv().await {
            Ok(heard) => heard,
            Err(broadcast::error::RecvError::Lagged(_)) => Heard::Gap,
            // The sender lives as long as somebody follows.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.inbox.0.0.state.lock().leave(&self.channel);
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("channel", &self.channel).finish_non_exhaustive()
    }
}

async fn settled(mut stands: watch::Receiver<Stands>) -> Result<(), Error> {
    match stands.wait_for(|stands| !matches!(stands, Stands::NotYet)).await.as_deref() {
        Ok(Stands::Failed(error)) => Err(error.clone()),
        _ => Ok(()),
    }
}

impl State {
    fn join(&mut self, channel: &Channel) -> &mut Wanted {
        let wanted = self.channels.entry(channel.0.clone()).or_insert_with(|| Wanted {
            users: 0,
            unused_since: Instant::now(),
            stands: watch::Sender::new(Stands::NotYet),
            heard: broadcast::Sender::new(BACKLOG),
        });
        wanted.users += 1;
        wanted
    }

    fn leave(&mut self, channel: &Channel) {
        if let Some(wanted) = self.channels.get_mut(&channel.0) {
            wanted.users -= 1;
            wanted.unused_since = Instant::now();
        }
    }

    /// A channel stands, or does not: waiters look for themselves when it does.
    fn settle(&mut self, channel: &str, stands: &Stands) {
        let Some(wanted) = self.channels.get(channel) else { return };
        let before = wanted.stands.send_replace(stands.clone());
        if matches!(stands, Stands::Yes) {
            self.waiters
                .values()
                .filter(|waiter| &*waiter.channel.0 == channel)
                .for_each(|waiter| waiter.told.notify_one());
        } else if matches!(before, Stands::Yes) {
            let _ = wanted.heard.send(Heard::Gap); // An error says that nobody follows.
        }
    }

    fn settle_all(&mut self, stands: &Stands) {
        let channels: Vec<_> = self.channels.keys().cloned().collect();
        channels.iter().for_each(|channel| self.settle(channel, stands));
    }

    fn deliver(&self, channel: &str, payload: Vec<u8>) {
        for owner in payload.chunks_exact(32) {
            let waiter = Digits::try_from(owner).ok().and_then(|owner| self.waiters.get(&owner));
            waiter.inspect(|waiter| waiter.told.notify_one());
        }
        if let Some(wanted) = self.channels.get(channel)
            && wanted.heard.receiver_count() > 0
        {
            let _ = wanted.heard.send(Heard::Message(payload));
        }
    }

    /// Forgets channels that were not used for long, and the task when none is left.
    fn is_over(&mut self) -> bool {
        self.channels.retain(|_, wanted| wanted.users > 0 || wanted.unused_since.elapsed() < LINGER);
        if self.channels.is_empty() {
            self.task = None;
        }
        self.channels.is_empty()
    }
}

/// However the task ends, nothing stands then.
struct Ended<'a>(&'a Inner);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.state.lock().settle_all(&Stands::NotYet);
    }
}

/// One connection after another, for as long as any channel is wanted.
async fn run(inner: Arc<Inner>) {
    let ended = Ended(&inner);
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(500));
    let (mut delays, mut told) = (backoff.delays(), false);
    loop {
        let mut stood = false;
        let Err(error) = serve(&inner, &mut stood).await else { break };
        if stood {
            (delays, told) = (backoff.delays(), false);
        }
        if stood || std::mem::replace(&mut told, true) {
            tracing::debug!(address = inner.client.address(), %error, "no subscription");
        } else {
            tracing::warn!(address = inner.client.address(), %error, "no subscription for now: waiters check by themselves");
        }
        let over = {
            let mut state = inner.state.lock();
            state.settle_all(&if stood { Stands::NotYet } else { Stands::Failed(error) });
            state.is_over()
        };
        if over {
            break;
        }
        sleep(delays.next().unwrap_or_default()).await;
    }
    drop(ended);
}

/// One connection, until it is lost (an error) or nobody wants it.
async fn serve(inner: &Inner, stood: &mut bool) -> Result<(), Error> {
    let (mut subscriber, mut events) = inner.client.subscriber().await?;
    let limit = inner.client.response_timeout();
    // What stands, and what was refused and is tried again with the next tick.
    let (mut standing, mut refused) = (HashSet::new(), HashSet::new());
    let mut tick = Instant::now() + TICK;
    let (mut quiet, mut changed) = (true, true);
    loop {
        if std::mem::take(&mut changed) {
            let (join, leave) = {
                let mut state = inner.state.lock();
                if state.is_over() {
                    return Ok(());
                }
                let new = |channel: &&Arc<str>| !standing.contains(*channel) && !refused.contains(*channel);
                let join: Vec<_> = state.channels.keys().filter(new).cloned().collect();
                let gone = |channel: &&Arc<str>| !state.channels.contains_key(*channel);
                (join, standing.iter().filter(gone).cloned().collect::<Vec<Arc<str>>>())
            };
            for channel in leave {
                standing.remove(&channel);
                within(inner, limit, subscriber.unsubscribe(&channel)).await?;
            }
            if !join.is_empty() {
                subscribe(inner, &mut subscriber, join, &mut standing, &mut refused).await?;
                *stood = true;
            }
        }
        tokio::select! {
            heard = hear(inner, &mut events, &standing) => {
                heard?;
                quiet = false;
            }
            () = inner.changed.notified() => changed = true,
            () = sleep_until(tick) => {
                if std::mem::replace(&mut quiet, true) {
                    within(inner, limit, subscriber.ping()).await?;
                }
                refused.clear();
                changed = true;
                tick = Instant::now() + TICK;
            }
        }
    }
}

/// Subscribes to new channels. On one server a failure of one is that of all; on a cluster, of its node alone.
async fn subscribe(
    inner: &Inner,
    subscriber: &mut Subscriber,
    channels: Vec<Arc<str>>,
    standing: &mut HashSet<Arc<str>>,
    refused: &mut HashSet<Arc<str>>,
) -> Result<(), Error> {
    let done =
        within(inner, inner.client.response_timeout(), async { Ok(subscriber.subscribe(&channels).await) }).await?;
    for (channel, done) in channels.into_iter().zip(done) {
        match done {
            Ok(()) => {
                inner.state.lock().settle(&channel, &Stands::Yes);
                standing.insert(channel);
            }
            Err(error) => {
                let error = inner.client.subscriber_error(error);
                if !inner.client.is_cluster() {
                    return Err(error);
                }
                tracing::debug!(%channel, %error, "no subscription");
                inner.state.lock().settle(&channel, &Stands::Failed(error));
                refused.insert(channel);
            }
        }
    }
    Ok(())
}

/// Hands on what is heard next, and all that came with it.
async fn hear(inner: &Inner, events: &mut Events, standing: &HashSet<Arc<str>>) -> Result<(), Error> {
    let lost = || Err(inner.client.subscriber_lost());
    match events.next().await {
        Some(Event::Message { channel, payload }) => {
            inner.state.lock().deliver(&channel, payload);
            Ok(())
        }
        #[cfg(feature = "cluster")]
        Some(Event::Left { channel }) if !standing.contains(&*channel) => Ok(()),
        #[cfg(feature = "cluster")]
        Some(Event::Left { .. }) => lost(),
        None => {
            let _ = standing;
            lost()
        }
    }
}

async fn within<T>(
    inner: &Inner,
    limit: Duration,
    work: impl Future<Output = Result<T, redis::RedisError>>,
) -> Result<T, Error> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| inner.client.subscriber_error(error)),
        Err(_) => Err(inner.client.subscriber_lost()),
    }
}
