//! A change of a topic's partitions in the order of its keys.
//!
//! 1. *planned*: the next layout is written into the log.
//! 2. *prepared*: the partitions, or the new topic, are made. Nobody's route changes: writers go by the layout.
//! 3. *carried over*: on a move, groups that read the old topic are given the beginning of the new one.
//! 4. *closed*: the old layout is closed. Who begins to write from now on sees that, and waits.
//! 5. *fenced*: each writer that was entered before is fenced by its transactional id. Dead, stopped or slow, none of them
//!    can make anything visible in the old layout any more.
//! 6. *switched*: barriers in all old partitions and the new layout's opening, in one transaction.
//!
//! Each step may be done again, so a change that was cut off anywhere is taken up by asking for it again.

use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka::admin::{AdminClient, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use crate::cluster::{Cluster, REQUEST, Topic, blocking, is_name, topic, watermarks};
use crate::error::{ChangeError, TopicError};
use crate::follower::Follower;
use crate::journal::{Journal, block_on, committed, create, options, seen};
use crate::layout::{Layout, Layouts, State};
use crate::limits::{Bearing, Limits};
use crate::partitioner::Partitioner;
use crate::producing::Transactions;

/// How many writers are fenced, and groups looked at, at the same time.
const THREADS: usize = 8;

/// What is wanted.
#[derive(Debug, Clone)]
#[must_use = "a change does nothing itself: plan it, and carry it out"]
pub struct Change {
    topic: String,
    partitions: i32,
    into: Option<String>,
    limits: Limits,
    force: bool,
    partitioner: Partitioner,
}

impl Change {
    /// More partitions for a topic.
    pub fn grow(topic: impl Into<String>, partitions: i32) -> Self {
        let (topic, limits, partitioner) = (topic.into(), Limits::default(), Partitioner::default());
        Self { topic, partitions, into: None, limits, force: false, partitioner }
    }

    /// Another topic with so many partitions, fewer or more. It must not be there yet. The old one stays, with what is in it.
    pub fn into_topic(topic: impl Into<String>, into: impl Into<String>, partitions: i32) -> Self {
        Self { into: Some(into.into()), ..Self::grow(topic, partitions) }
    }

    /// What brokers bear. By default as [`Limits`] says.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Also where the brokers would bear more than they should.
    pub const fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// How writers turn a key into a partition, for a topic that has no layouts yet: its first one keeps it. By default as
    /// Java clients do.
    pub const fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.partitioner = partitioner;
        self
    }
}

/// What would be done.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The topic whose layouts change.
    pub topic: String,
    /// Where its records go now.
    pub from: Layout,
    /// Where they would go.
    pub to: Layout,
    /// Whether the same change was begun before, and would be taken up.
    pub resumes: bool,
    /// The writers that would be fenced. Each loses at most one open transaction, which it does again.
    pub writers: Vec<String>,
    /// On a move, the groups that have read the topic.
    pub groups: Vec<String>,
    /// What the brokers would bear; `None` if that is more than they should.
    pub bearing: Option<Bearing>,
    #[serde(skip)]
    partitioner: Partitioner,
}

/// A step that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Step {
    /// The next layout is in the log.
    Planned,
    /// The partitions, or the new topic, are there.
    Prepared,
    /// Groups begin at the beginning of the new topic.
    CarriedOver,
    /// The old layout is closed.
    Closed,
    /// No writer can write to it any more.
    Fenced,
    /// The new layout is open.
    Switched,
}

impl Cluster {
    /// The layouts of a topic; none if nobody has written to it through a [`Writer`](crate::Writer) or changed it here.
    ///
    /// # Errors
    /// As the brokers say.
    pub async fn layouts(&self, topic: &str) -> Result<Layouts, TopicError> {
        let (cluster, topic) = (self.clone(), topic.to_owned());
        blocking(move || match Follower::open(&cluster, &topic)? {
            Some(mut follower) => Ok(follower.catch_up()?.clone()),
            None => Ok(Layouts::default()),
        })
        .await
    }

    /// What a change would do. Changes nothing.
    ///
    /// # Errors
    /// When it cannot be: a number that makes no sense, an unknown topic, brokers that would bear too much, another change
    /// that is under way.
    pub async fn plan(&self, change: Change) -> Result<Plan, ChangeError> {
        let cluster = self.clone();
        blocking(move || plan(&cluster, &change)).await
    }

    /// Carries it out, and tells of each step that is done. Cut off at any point, it is taken up when the same change is
    /// planned and carried out again; until then writers wait, if it was cut off between `Closed` and `Switched`, and after
    /// their patience withdraw it. Dropping the future does not stop it.
    ///
    /// # Errors
    /// When the brokers refuse it or are lost, or when somebody else takes the change over.
    pub async fn carry_out(
        &self,
        plan: Plan,
        on_step: impl FnMut(Step) + Send + 'static,
    ) -> Result<Layout, ChangeError> {
        let cluster = self.clone();
        blocking(move || carry_out(&cluster, plan, on_step)).await
    }

    /// Gives up a change that was begun and not brought to its end: records go on where they went. Whoever is at it finds out,
    /// and stops. Partitions that it made stay.
    ///
    /// # Errors
    /// As the brokers say.
    pub async fn withdraw(&self, topic: &str) -> Result<Option<Layout>, ChangeError> {
        let (cluster, name) = (self.clone(), topic.to_owned());
        blocking(move || withdraw(&cluster, &name)).await
    }
}

pub(crate) fn withdraw(cluster: &Cluster, name: &str) -> Result<Option<Layout>, ChangeError> {
    let mut journal = Journal::take(cluster, &topic(&cluster.consumer(None)?, name)?, Partitioner::default())?;
    let Some(mut pending) = journal.read()?.pending().cloned() else { return Ok(None) };
    pending.state = State::Withdrawn;
    journal.write(pending.clone())?;
    Ok(Some(pending))
}

fn plan(cluster: &Cluster, change: &Change) -> Result<Plan, ChangeError> {
    let client = cluster.consumer(None)?;
    let now = topic(&client, &change.topic)?;
    let layouts = match Follower::open(cluster, &change.topic)? {
        Some(mut follower) => follower.catch_up()?.clone(),
        None => Layouts::default(),
    };
    let from = layouts.current().cloned().unwrap_or_else(|| Layout {
        epoch: 1,
        topic: now.name.clone(),
        partitions: now.count(),
        partitioner: change.partitioner,
        state: State::Open,
        barriers: Vec::new(),
    });
    let count = |why| {
        Err(ChangeError::Count { topic: change.topic.clone(), asked: change.partitions, has: from.partitions, why })
    };
    if change.partitions < 1 {
        return count("a topic has at least one");
    }
    let target = change.into.clone().unwrap_or_else(|| from.topic.clone());
    if !is_name(&target) {
        return Err(TopicError::UnknownTopic(target).into());
    }
    let to = Layout {
        epoch: from.epoch + 1,
        topic: target,
        partitions: change.partitions,
        partitioner: from.partitioner,
        state: State::Planned,
        barriers: Vec::new(),
    };
    let same = |other: &Layout| other.topic == to.topic && other.partitions == to.partitions;
    let resumes = layouts.pending().is_some_and(same);
    if let Some(other) = layouts.pending().filter(|other| !same(other)) {
        return Err(ChangeError::UnderWay {
            topic: change.topic.clone(),
            into: other.topic.clone(),
            partitions: other.partitions,
        });
    }
    let current = topic(&client, &from.topic)?;
    let more = if to.topic == from.topic {
        if change.partitions == from.partitions {
            return count("it has as many; ask for more");
        }
        if change.partitions < from.partitions {
            return count("Kafka cannot take partitions away; move it to a topic with fewer (shrink)");
        }
        change.partitions - current.count()
    } else {
        match topic(&client, &to.topic) {
            Ok(_) if !resumes => return Err(ChangeError::Exists(to.topic)),
            Ok(_) | Err(TopicError::UnknownTopic(_)) => {}
            Err(error) => return Err(error.into()),
        }
        change.partitions
    };
    let load = crate::cluster::load(&client)?;
    let more = u64::try_from(more).unwrap_or(0);
    let bearing = match change.limits.check(&load, more, current.replication().unsigned_abs().into()) {
        Ok(bearing) => Some(bearing),
        Err(_) if change.force => None,
        Err(overload) => return Err(ChangeError::Overload(overload)),
    };
    let groups = if to.topic == from.topic { Vec::new() } else { readers(cluster, &from)? };
    let writers = layouts.writers.iter().cloned().collect();
    let partitioner = from.partitioner;
    Ok(Plan { topic: change.topic.clone(), from, to, resumes, writers, groups, bearing, partitioner })
}

fn carry_out(cluster: &Cluster, plan: Plan, mut on_step: impl FnMut(Step)) -> Result<Layout, ChangeError> {
    let client = cluster.consumer(None)?;
    let logical = topic(&client, &plan.topic)?;
    let mut journal = Journal::take(cluster, &logical, plan.partitioner)?;
    let layouts = journal.read()?;
    let same = |other: &Layout| other.topic == plan.to.topic && other.partitions == plan.to.partitions;
    let current = layouts.current().cloned().unwrap_or_else(|| plan.from.clone());
    if current.epoch == plan.to.epoch && same(&current) {
        return Ok(current);
    }
    if current.epoch != plan.from.epoch || layouts.pending().is_some_and(|other| !same(other)) {
        return Err(ChangeError::TakenOver(plan.topic));
    }
    let closed = layouts.pending().is_some_and(|pending| pending.state == State::Closing);
    if layouts.pending().is_none() {
        journal.write(plan.to.clone())?;
    }
    on_step(Step::Planned);
    prepare(cluster, &plan)?;
    on_step(Step::Prepared);
    if plan.to.topic != plan.from.topic {
        for group in readers(cluster, &plan.from)? {
            carry_over(cluster, &journal, &group, &plan.to)?;
        }
        on_step(Step::CarriedOver);
    }
    if !closed {
        journal.write(Layout { state: State::Closing, ..plan.to.clone() })?;
    }
    on_step(Step::Closed);
    // Read after it was closed: who entered later sees that it is.
    let writers: Vec<_> = journal.read()?.writers.iter().cloned().collect();
    fence(cluster, &plan.topic, &writers)?;
    on_step(Step::Fenced);
    let opened = journal.switch(&current, plan.to)?;
    on_step(Step::Switched);
    Ok(opened)
}

/// Makes the partitions, or the topic.
fn prepare(cluster: &Cluster, plan: &Plan) -> Result<(), ChangeError> {
    let client = cluster.consumer(None)?;
    let old = topic(&client, &plan.from.topic)?;
    let to = &plan.to;
    if to.topic != plan.from.topic {
        let settings = settings(cluster, &old)?;
        let settings: Vec<_> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        create(cluster, &to.topic, to.partitions, old.replication(), &settings)?;
        if topic(&client, &to.topic)?.count() != to.partitions {
            return Err(ChangeError::Exists(to.topic.clone()));
        }
        return Ok(());
    }
    if old.count() < to.partitions {
        let what = format!("{} cannot be given {} partitions", to.topic, to.partitions);
        let admin: AdminClient<DefaultClientContext> =
            cluster.config().create().map_err(|error| TopicError::of(&*what, error))?;
        let more = NewPartitions::new(&to.topic, to.partitions.unsigned_abs() as usize);
        let done = block_on(admin.create_partitions([&more], &options()));
        for one in done.map_err(|error| TopicError::of(&*what, error))? {
            one.map_err(|(_, code)| TopicError::of_code(&*what, code))?;
        }
    }
    Ok(seen(cluster, &to.topic, to.partitions)?)
}

/// What was set for a topic by hand.
fn settings(cluster: &Cluster, old: &Topic) -> Result<Vec<(String, String)>, TopicError> {
    let what = format!("the settings of {} cannot be read", old.name);
    let admin: AdminClient<DefaultClientContext> =
        cluster.config().create().map_err(|error| TopicError::of(&*what, error))?;
    let asked = [ResourceSpecifier::Topic(&old.name)];
    let answer = block_on(admin.describe_configs(&asked, &options())).map_err(|error| TopicError::of(&*what, error))?;
    let mut settings = Vec::new();
    for one in answer {
        let one = one.map_err(|code| TopicError::of_code(&*what, code))?;
        let own = one.entries.into_iter().filter(|entry| entry.source == rdkafka::admin::ConfigSource::DynamicTopic);
        settings.extend(own.filter_map(|entry| Some((entry.name, entry.value?))));
    }
    Ok(settings)
}

/// The groups that have committed anything of a layout's topic.
fn readers(cluster: &Cluster, of: &Layout) -> Result<Vec<String>, TopicError> {
    let client = cluster.consumer(None)?;
    let list = crate::cluster::retry(|| client.fetch_group_list(None, REQUEST / 4));
    let list = list.map_err(|error| TopicError::of("the groups cannot be listed", error))?;
    let names = list.groups().iter().map(|group| group.name()).filter(|name| !name.is_empty());
    let names: Vec<_> = names.map(str::to_owned).collect();
    let reads = |group: &String| {
        let client = cluster.consumer(Some(group))?;
        let reads = committed(&client, &of.topic, of.partitions)?.iter().any(Option::is_some);
        Ok(reads.then(|| group.clone()))
    };
    let mut readers: Vec<_> = side_by_side(&names, reads)?.into_iter().flatten().collect();
    readers.sort();
    Ok(readers)
}

/// Lets a group begin with the first record of each new partition, wherever it would begin by itself.
fn carry_over(cluster: &Cluster, journal: &Journal, group: &str, to: &Layout) -> Result<(), ChangeError> {
    let client = cluster.consumer(Some(group))?;
    let mut offsets = TopicPartitionList::new();
    for (partition, committed) in (0..).zip(committed(&client, &to.topic, to.partitions)?) {
        if committed.is_none() {
            let (first, _) = watermarks(&client, &to.topic, partition)?;
            let added = offsets.add_partition_offset(&to.topic, partition, Offset::Offset(first));
            added.map_err(|error| TopicError::of("a group's offsets cannot be carried over", error))?;
        }
    }
    if offsets.count() > 0 { journal.commit_for(&client, &offsets) } else { Ok(()) }
}

/// Takes all writers' transactional ids, so that they can commit nothing any more that they have begun.
fn fence(cluster: &Cluster, topic: &str, writers: &[String]) -> Result<(), ChangeError> {
    let take = |writer: &String| {
        let taken = Transactions::take(cluster, &writer_id(topic, writer));
        taken.map(drop).map_err(|error| TopicError::of(format!("the writer {writer} cannot be fenced"), error))
    };
    side_by_side(writers, take)?;
    Ok(())
}

/// Does it for all, for a few at the same time.
fn side_by_side<T: Sync, R: Send>(
    all: &[T],
    work: impl Fn(&T) -> Result<R, TopicError> + Sync,
) -> Result<Vec<R>, TopicError> {
    let next = AtomicUsize::new(0);
    let some = || -> Result<Vec<R>, TopicError> {
        let mut done = Vec::new();
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(work(one)?);
        }
        Ok(done)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(all.len())).map(|_| scope.spawn(some)).collect();
        let mut done = Vec::with_capacity(all.len());
        for thread in threads {
            done.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(done)
    })
}

/// The transactional id of a writer.
pub(crate) fn writer_id(topic: &str, writer: &str) -> String {
    format!("turnstile.{topic}.writer.{writer}")
}
