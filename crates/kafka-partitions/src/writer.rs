//! A producer that follows a topic's layouts, and whose records are written exactly once while its process lives.
//!
//! It needs no channel to learn of a change: a change fences it, its transaction comes to nothing, and it begins anew: it
//! takes its transactional id again, *then* reads the log to its end, and writes the same records under the layout that it
//! finds there. So between two changes it asks nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use crate::change::{withdraw, writer_id};
use crate::cluster::{Cluster, REQUEST, blocking, is_name, topic, watermarks};
use crate::error::{ChangeError, TopicError, WriteError, is_passing};
use crate::follower::Follower;
use crate::journal::{Journal, register};
use crate::layout::{Layout, State, is_barrier};
use crate::partitioner::Partitioner;
use crate::producing::{Failure, Outgoing, Transactions};

/// At most so many records, or so many bytes, in one transaction.
const RECORDS: usize = 10_000;
const BYTES: usize = 8 << 20;

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// The topic; another than the writer's own after a move.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The layout's epoch.
    pub epoch: u64,
}

/// How a [`Writer`] is set up.
#[derive(Debug, Clone)]
#[must_use = "options do nothing themselves, use .connect()"]
pub struct WriterOptions {
    cluster: Cluster,
    topic: String,
    name: String,
    partitioner: Partitioner,
    limit: Duration,
    change_timeout: Duration,
}

impl WriterOptions {
    /// A writer to `topic`. `name` is this writer's own: two with the same name fence one another. Best is one that stays the
    /// same when the process is started anew, so that what it left open is ended at once.
    pub fn new(cluster: &Cluster, topic: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            cluster: cluster.clone(),
            topic: topic.into(),
            name: name.into(),
            partitioner: Partitioner::default(),
            limit: Duration::from_secs(120),
            change_timeout: Duration::from_secs(30),
        }
    }

    /// How a key becomes a partition, for a topic that has no layouts yet: the first one keeps it, and all go by that. By default
    /// as Java clients do.
    pub const fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }

    /// How long to try to write a record. By default 2 minutes.
    pub const fn delivery_timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long to wait for a change that has closed the layout, and does not go on, before it is withdrawn. By default 30 s.
    /// Whoever is at it then is fenced, and has to begin it again.
    pub const fn change_timeout(mut self, change_timeout: Duration) -> Self {
        self.change_timeout = change_timeout;
        self
    }

    /// Connects. Makes the topic's first layout if it has none: the partitions that it has.
    ///
    /// # Errors
    /// When the brokers cannot be reached or refuse it, or there is no such topic.
    pub async fn connect(self) -> Result<Writer, WriteError> {
        if self.name.is_empty() || !is_name(&self.name) {
            return Err(WriteError::Name(self.name));
        }
        let (sender, queue) = mpsc::channel(RECORDS);
        let session = {
            let options = self.clone();
            blocking(move || Session::open(&options)).await?
        };
        let desk = Desk { options: self, session: Some(session), queue, waiting: VecDeque::new() };
        // Not a task of the runtime: it lives as long as the writer, and blocks.
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("turnstile-writer".to_owned()).spawn(move || {
            let _inside = runtime.enter();
            desk.run();
        });
        thread.map_err(|error| WriteError::Thread(error.to_string()))?;
        Ok(Writer { sender })
    }
}

/// A producer that follows a topic's layouts.
///
/// Records of a key are written in the order in which [`send`](Self::send) was called for them, each by one transaction
/// together with what else was waiting. Consumers see them once they are committed (`isolation.level=read_committed`, which is
/// librdkafka's default and not the Java client's).
///
/// Dropping it writes what is still waiting, in the background, and leaves it entered in the log, to be fenced; see
/// [`close`](Self::close).
#[derive(Debug)]
pub struct Writer {
    sender: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Send(Waiting),
    Close(oneshot::Sender<Result<(), TopicError>>),
}

#[derive(Debug)]
struct Waiting {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// Where it goes if it has no key.
    random: u32,
    until: Instant,
    answer: oneshot::Sender<Result<Written, WriteError>>,
}

impl Writer {
    /// Writes a record, and returns once it is committed. An empty key is a key; `None` for no key, or for a tombstone.
    ///
    /// To write many, call it for many and await them together: they share transactions. Waits for room where much waits
    /// already. Cancelled after it was polled, the record may be written all the same.
    ///
    /// # Errors
    /// [`WriteError`]; except for [`WriteError::Limit`], the record is not and will not be there.
    pub async fn send(&self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Written, WriteError> {
        if is_barrier(key) {
            return Err(WriteError::Reserved);
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            random: rand::random(),
            until: Instant::now(),
            answer,
        };
        self.sender.send(Command::Send(waiting)).await.map_err(|_| WriteError::Closed)?;
        answered.await.map_err(|_| WriteError::Closed)?
    }

    /// Writes what is waiting, and takes the writer out of the log, so that no change has to fence it any more.
    ///
    /// # Errors
    /// When the log cannot be written; then it stays entered, which costs changes a moment.
    pub async fn close(self) -> Result<(), WriteError> {
        let (answer, answered) = oneshot::channel();
        self.sender.send(Command::Close(answer)).await.map_err(|_| WriteError::Closed)?;
        Ok(answered.await.map_err(|_| WriteError::Closed)??)
    }
}

/// Partitions and offsets, in the order of the records.
type Places = Vec<(i32, i64)>;

/// One producer under one layout, until it is fenced.
struct Session {
    transactions: Transactions,
    layout: Layout,
    topic: Arc<str>,
}

impl Session {
    fn open(options: &WriterOptions) -> Result<Self, WriteError> {
        let WriterOptions { cluster, topic: name, .. } = options;
        let mut follower = loop {
            if let Some(mut follower) = Follower::open(cluster, name)?
                && follower.catch_up()?.current().is_some()
            {
                break follower;
            }
            // The first of all: there is nobody to be fenced.
            let found = topic(&cluster.consumer(None)?, name)?;
            unless_taken_over(Journal::take(cluster, &found, options.partitioner))?;
        };
        // The order of these is what a change relies on: entered, then the id taken, then the log read to its end.
        register(cluster, name, &options.name, true)?;
        let transactions = Transactions::take(cluster, &writer_id(name, &options.name))
            .map_err(|error| TopicError::of(format!("the writer {} cannot begin", options.name), error))?;
        follower.catch_up()?;
        let since = Instant::now();
        while follower.layouts.pending().is_some_and(|pending| pending.state == State::Closing) {
            follower.poll(Duration::from_millis(50));
            if since.elapsed() > options.change_timeout {
                tracing::warn!(topic = %name, "a change that does not go on is withdrawn");
                unless_taken_over(withdraw(cluster, name))?;
                follower.catch_up()?;
            }
        }
        let layout = follower.layouts.current().cloned().ok_or_else(|| TopicError::UnknownTopic(name.clone()))?;
        Ok(Self { transactions, topic: layout.topic.as_str().into(), layout })
    }

    fn write(&self, waiting: &VecDeque<Waiting>) -> Result<Places, (Failure, Places)> {
        let layout = &self.layout;
        let any = |random: u32| (random % layout.partitions.unsigned_abs()).cast_signed();
        let outgoing = |one: &'_ Waiting| layout.partition(one.key.as_deref()).unwrap_or_else(|| any(one.random));
        let records: Vec<_> = waiting
            .iter()
            .map(|one| Outgoing {
                topic: &layout.topic,
                partition: outgoing(one),
                key: one.key.as_deref(),
                value: one.value.as_deref(),
            })
            .collect();
        let mut placed = Vec::new();
        let noted = |places: &[(i32, i64)]| {
            placed = places.to_vec();
            None
        };
        let written = self.transactions.write(&records, noted, |_| Ok(()));
        written.map_err(|failure| (failure, placed))
    }
}

/// Whoever has taken over does the same, or something newer.
fn unless_taken_over<T>(done: Result<T, ChangeError>) -> Result<(), ChangeError> {
    match done {
        Ok(_) | Err(ChangeError::TakenOver(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The thread behind a writer.
struct Desk {
    options: WriterOptions,
    session: Option<Session>,
    queue: mpsc::Receiver<Command>,
    /// Those of the next transaction, or of the one that is to be done again.
    waiting: VecDeque<Waiting>,
}

impl Desk {
    fn run(mut self) {
        while let Some(command) = self.queue.blocking_recv() {
            let mut close = self.take(command);
            let mut bytes = 0;
            while close.is_none() && self.waiting.len() < RECORDS && bytes < BYTES {
                let Ok(command) = self.queue.try_recv() else { break };
                close = self.take(command);
                bytes += self
                    .waiting
                    .back()
                    .map_or(0, |one| one.key.as_ref().map_or(0, Vec::len) + one.value.as_ref().map_or(0, Vec::len));
            }
            self.deliver();
            if let Some(answer) = close {
                self.session = None;
                let WriterOptions { cluster, topic, name, .. } = &self.options;
                let _ = answer.send(register(cluster, topic, name, false));
                return;
            }
        }
    }

    fn take(&mut self, command: Command) -> Option<oneshot::Sender<Result<(), TopicError>>> {
        match command {
            Command::Send(mut waiting) => {
                waiting.until = Instant::now() + self.options.limit;
                self.waiting.push_back(waiting);
                None
            }
            Command::Close(answer) => Some(answer),
        }
    }

    /// Writes what is waiting, as often as it takes.
    fn deliver(&mut self) {
        // A transaction that may have been committed, and where its records went.
        let mut doubt: Option<(Session, Places)> = None;
        while !self.waiting.is_empty() {
            let session = match self.session.take() {
                Some(session) => session,
                None => match Session::open(&self.options) {
                    Ok(session) => session,
                    Err(error) => {
                        self.give_up(doubt.is_some(), error);
                        std::thread::sleep(Duration::from_millis(100));
                        continue;
                    }
                },
            };
            if let Some((old, places)) = doubt.take() {
                // The id is taken anew, so the old transaction is over, one way or the other.
                match is_visible(&self.options.cluster, &old.topic, places[0]) {
                    Ok(true) => {
                        self.answer(&old, places);
                        self.session = Some(session);
                        continue;
                    }
                    Ok(false) => {}
                    Err(error) => {
                        doubt = Some((old, places));
                        self.session = Some(session);
                        self.give_up(true, error.into());
                        continue;
                    }
                }
            }
            match session.write(&self.waiting) {
                Ok(places) => {
                    self.answer(&session, places);
                    self.session = Some(session);
                }
                Err((Failure::Refused(index, error), _)) => {
                    self.session = Some(session);
                    if let Some(one) = self.waiting.remove(index) {
                        let _ = one.answer.send(Err(WriteError::Refused(error.to_string())));
                    }
                }
                Err((Failure::Fenced, _)) => tracing::debug!(topic = %self.options.topic, "fenced; begins anew"),
                Err((Failure::Again(error), _)) => {
                    tracing::debug!(topic = %self.options.topic, %error, "a transaction came to nothing");
                    self.give_up(false, TopicError::of("the records cannot be written", error).into());
                }
                Err((Failure::Unknown(error), places)) => {
                    tracing::debug!(topic = %self.options.topic, %error, "it is not known whether it was committed");
                    // There is no commit before all records have their places.
                    doubt = (!places.is_empty()).then_some((session, places));
                }
            }
        }
    }

    fn answer(&mut self, session: &Session, places: Places) {
        for (one, (partition, offset)) in self.waiting.drain(..).zip(places) {
            let written = Written { topic: session.topic.clone(), partition, offset, epoch: session.layout.epoch };
            // Who does not wait any more does not want to know.
            let _ = one.answer.send(Ok(written));
        }
    }

    /// Answers those whose time is over.
    fn give_up(&mut self, doubtful: bool, error: WriteError) {
        let now = Instant::now();
        let hopeless = matches!(&error, WriteError::Topic(TopicError::Denied { .. } | TopicError::UnknownTopic(_)));
        if hopeless || self.waiting.iter().all(|one| one.until <= now) {
            let why = error.to_string();
            for one in self.waiting.drain(..) {
                let _ = one.answer.send(Err(WriteError::Limit { doubtful, why: why.clone() }));
            }
        }
    }
}

/// Whether the record at this place is committed. What lies there, or not, does not change any more, once those who had
/// written before it are done.
fn is_visible(cluster: &Cluster, topic: &str, (partition, offset): (i32, i64)) -> Result<bool, TopicError> {
    let what = || format!("it cannot be seen whether {topic}/{partition} has a record at {offset}");
    let client = cluster.clone().option("isolation.level", "read_committed").consumer(None)?;
    let until = Instant::now() + REQUEST * 2;
    let late = || TopicError::Unreachable { what: what(), source: Box::new(KafkaError::NoMessageReceived) };
    // Other writers' open transactions may hide it, until they end or are too old.
    while watermarks(&client, topic, partition)?.1 <= offset {
        if Instant::now() > until {
            return Err(late());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut list = TopicPartitionList::new();
    let added = list.add_partition_offset(topic, partition, Offset::Offset(offset)).and_then(|()| client.assign(&list));
    added.map_err(|error| TopicError::of(what(), error))?;
    while Instant::now() < until {
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => return Ok(record.offset() == offset),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(false),
            Some(Err(error)) if !is_passing(&error) => {
                return Err(TopicError::of(what(), error));
            }
            _ => {}
        }
    }
    Err(late())
}
