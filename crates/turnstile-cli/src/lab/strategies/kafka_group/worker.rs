//! A worker process: a member of a group, whose handler writes down what it does.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use kafka_group::{
    AtLimit, Attempt, Backoff, CommitPolicy, GroupBuilder, Handler, Membership, Outcome, Record, Report, RetryPolicy,
    RunError, Shutdown, Start, StartAt, Status,
};
use kafka_mt_consumer::ParallelBuilder;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use turnstile_testkit::history::{History, How, Place, Recorder};

use super::orders::{Join, LaneOrder, Left, Order, Standing};
use super::raw::Raw;
use crate::lab::clock;
use crate::lab::crew::WorkerArgs;
use crate::lab::kafka::POISON;
use crate::lab::post::Post;

/// How often what is done is committed.
pub const COMMIT_EACH: Duration = Duration::from_millis(200);
/// How long a member may take to leave.
const LEAVING: Duration = Duration::from_secs(10);
const ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

/// Works until the lab has gone.
pub async fn work(args: WorkerArgs, mut post: Post) -> Result<()> {
    let history = History::at(&args.register);
    let mut member = None;
    post.answer(anyhow::Ok(())).await?;
    while let Some(order) = post.order().await? {
        match order {
            Order::Join(join) => {
                let joined = Member::join(&args.url, &history, join);
                let answer = joined.map(|joined| member = Some(joined));
                post.answer(answer).await?;
            }
            Order::Stand => post.answer(stand(member.as_mut()).await).await?,
            Order::Go { skip } => {
                if let Some(member) = &member {
                    member.desk.tally.lock().skip = skip;
                    member.desk.gate.send_replace(true);
                }
                post.answer(anyhow::Ok(())).await?;
            }
            Order::Leave => {
                let answer = match member.take() {
                    Some(member) => member.leave().await,
                    None => Err(anyhow!("it has not joined")),
                };
                post.answer(answer).await?;
            }
        }
    }
    Ok(())
}

async fn stand(member: Option<&mut Member>) -> Result<Standing> {
    member.context("it has not joined")?.stand().await
}

struct Member {
    desk: Arc<Desk>,
    run: Run,
}

enum Run {
    Ours { status: watch::Receiver<Status>, shutdown: Shutdown, run: Option<JoinHandle<Result<Report, RunError>>> },
    Raw(Raw),
}

impl Member {
    fn join(brokers: &str, history: &History, join: Join) -> Result<Self> {
        let recorder = join.recorded.then(|| history.recorder(&join.who)).transpose()?;
        let desk = Arc::new(Desk {
            recorder,
            work: Duration::from_millis(join.work_ms),
            swallow: join.swallow,
            hangs_at: join.lanes.as_ref().and_then(|lanes| lanes.hangs_at.clone()),
            gate: watch::Sender::new(!join.gated),
            tally: Mutex::default(),
        });
        if let Some(fault) = join.fault {
            let raw = Raw::start(brokers, &join, fault, desk.clone())?;
            return Ok(Self { desk, run: Run::Raw(raw) });
        }
        let start = Start { without_commit: StartAt::Earliest, out_of_range: StartAt::Refuse };
        let metadata = join.lanes.as_ref().map_or(4096, |lanes| lanes.metadata);
        let mut builder = GroupBuilder::new(brokers, &join.group, [&join.topic], start)
            .session_timeout(Duration::from_millis(join.session_ms))
            .commits(CommitPolicy::at_the_end().every(COMMIT_EACH).metadata_limit(metadata))
            .option("client.id", &join.who);
        if let Some(topic) = &join.dead_letters {
            let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(10));
            builder =
                builder.dead_letters(topic).retries(RetryPolicy::new(ATTEMPTS, AtLimit::DeadLetter).backoff(backoff));
        }
        let member = match join.lanes.map(|lanes| lanes.order) {
            None => builder.handler(Desked(desk.clone()))?,
            Some(order) => ParallelBuilder::new(builder)
                .order(match order {
                    LaneOrder::Key => kafka_mt_consumer::Order::default(),
                    LaneOrder::Partition => kafka_mt_consumer::Order::Partition,
                    LaneOrder::Unordered => kafka_mt_consumer::Order::Unordered,
                })
                .handler(Desked(desk.clone()))?,
        };
        let (status, shutdown) = (member.status(), Shutdown::new(LEAVING));
        let run = Some(tokio::spawn(member.run(shutdown.clone())));
        Ok(Self { desk, run: Run::Ours { status, shutdown, run } })
    }

    async fn stand(&mut self) -> Result<Standing> {
        let handled = self.desk.tally.lock().handled;
        Ok(match &mut self.run {
            Run::Ours { status, run, .. } => {
                if let Some(ended) = run.take_if(|run| run.is_finished()) {
                    let report = ended.await?.context("the member has ended")?;
                    bail!("the member has ended: {report:?}");
                }
                let status = status.borrow();
                let idle = status.membership == Membership::Idle;
                Standing { partitions: status.partitions.len(), idle, handled }
            }
            Run::Raw(raw) => Standing { partitions: raw.partitions(), idle: raw.partitions() == 0, handled },
        })
    }

    async fn leave(self) -> Result<Left> {
        match self.run {
            Run::Ours { shutdown, run, .. } => {
                shutdown.begin();
                let report = run.context("the member has ended")?.await??;
                if let Some(error) = report.stopped_by {
                    return Err(error);
                }
            }
            Run::Raw(raw) => tokio::task::spawn_blocking(move || raw.leave()).await??,
        }
        let tally = std::mem::take(&mut *self.desk.tally.lock());
        Ok(tally.left)
    }
}

/// Where records are handled, whoever brings them.
pub struct Desk {
    recorder: Option<Recorder>,
    pub work: Duration,
    swallow: bool,
    hangs_at: Option<String>,
    gate: watch::Sender<bool>,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    skip: u64,
    handled: u64,
    left: Left,
}

impl Desk {
    /// Writes down that work on a record begins; the end is to be told to what this gives.
    pub fn begin(&self, place: Place, key: Option<&str>, epoch: u64, attempt: u32) -> Result<Begun> {
        let start = |recorder: &Recorder| recorder.start(place, key, epoch, attempt);
        Ok(Begun(self.recorder.as_ref().map(start).transpose()?))
    }

    /// It is done.
    pub fn done(&self, begun: Begun, value: Option<&[u8]>) -> Result<()> {
        let now = clock::now();
        let produced = value.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
        let mut tally = self.tally.lock();
        tally.handled += 1;
        tally.left.tally.note(now);
        if let Some(produced) = produced.filter(|at| *at > 0) {
            tally.left.times.record(now.saturating_sub(produced));
        }
        if tally.handled > tally.skip {
            tally.left.measured += 1;
            tally.left.last = now;
            if tally.left.measured == 1 {
                tally.left.first = now;
            }
        }
        drop(tally);
        begun.0.map_or(Ok(()), |working| working.end(How::Done))
    }

    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Result<Outcome> {
        // It fails only when there is no gate any more.
        let _ = self.gate.subscribe().wait_for(|open| *open).await;
        let key = record.key().and_then(|key| std::str::from_utf8(key).ok());
        let place = || Place::new(record.topic().clone(), record.partition(), record.offset());
        let begun = match &self.recorder {
            Some(_) => self.begin(place(), key, record.epoch().get(), attempt.number().get())?,
            None => Begun(None),
        };
        if !self.work.is_zero() {
            tokio::time::sleep(self.work).await;
        }
        if self.hangs_at.is_some() && key == self.hangs_at.as_deref() {
            std::future::pending::<()>().await;
        }
        if key == Some(POISON) {
            if let Some(working) = begun.0 {
                working.end(How::Failed)?;
            }
            return Ok(if self.swallow {
                Outcome::Skip("nobody can handle this".to_owned())
            } else {
                Outcome::retry(anyhow!("nobody can handle this"))
            });
        }
        self.done(begun, record.value())?;
        Ok(Outcome::Done)
    }
}

/// Work on a record, under way.
pub struct Begun(Option<turnstile_testkit::history::Working>);

struct Desked(Arc<Desk>);

#[async_trait]
impl Handler<Record> for Desked {
    async fn handle(&self, record: &Record, attempt: Attempt<'_>) -> Outcome {
        self.0.handle(record, attempt).await.unwrap_or_else(Outcome::Stop)
    }
}
