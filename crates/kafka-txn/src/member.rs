//! A member with transactions, and its run.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use kafka_group::{Member, Shutdown, Status};
use tokio::sync::watch;

use crate::error::{RunError, TransactionError};
use crate::producer::{Plan, Producer};
use crate::shared::Shared;
use crate::{commit, write};

/// A member of a consumer group whose outputs and offsets commit in transactions, not running yet.
#[must_use = "a member does nothing until it runs"]
pub struct TxnMember {
    pub(crate) member: Member,
    pub(crate) shared: Arc<Shared>,
    pub(crate) plan: Arc<Plan>,
}

/// What a run did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// What became of the records. `done` counts those only whose transaction is committed.
    pub records: kafka_group::Report,
    /// Transactions that were committed.
    pub transactions: u64,
    /// Transactions that were aborted; what they had was tried again, or delivered again elsewhere.
    pub aborted: u64,
    /// Outputs of those that were committed, dead letters included.
    pub outputs: u64,
}

impl TxnMember {
    /// Where the member stands, while it runs.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.member.status()
    }

    /// Joins the group and works until `shutdown` begins, or until it cannot go on. Then it finishes what its handlers are at,
    /// commits it, and leaves, within the shutdown's limit; what was not committed by then is aborted, and delivered again.
    ///
    /// To be called in a tokio runtime with time enabled: the handlers run there. Polling, writing and committing have threads of
    /// their own.
    ///
    /// Outages are waited for: brokers that do not answer are trouble in the [`status`](Self::status), and no error, once they
    /// have answered at the start.
    ///
    /// Dropping the future begins the shutdown; it then goes on without anyone waiting, and its report is lost.
    ///
    /// # Errors
    /// See [`RunError`]. An error that a handler stops with is no error of the run: it is in the report.
    pub async fn run(self, shutdown: Shutdown) -> Result<Report, RunError> {
        let Self { member, shared, plan } = self;
        // Its drop tells the threads that nobody is there any more, should this future be dropped before the member runs.
        let unless_run = Unless(shared.clone());
        let (of_threads, of_plan) = (shared.clone(), plan.clone());
        let mut connecting = tokio::task::spawn_blocking(move || connect(&of_plan, &of_threads));
        let connected = tokio::select! {
            connected = &mut connecting => connected,
            () = shutdown.begun() => {
                shared.close();
                connecting.await
            }
        };
        let Some(producers) = connected.map_err(|error| RunError::Thread(error.to_string()))?? else {
            return Ok(Report::default());
        };
        producers.into_iter().for_each(|producer| shared.give_back(producer));
        let threads = start(&shared)?;
        let ended = {
            let run = member.run(shutdown);
            std::mem::forget(unless_run);
            run.await
        };
        shared.close();
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).collect::<Result<Vec<_>, _>>()
        });
        if !matches!(joined.await, Ok(Ok(_))) {
            return Err(RunError::Thread("it panicked".to_owned()));
        }
        if let Some(failure) = shared.failure() {
            return Err(failure);
        }
        let mut records = ended?;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let refused = count(&shared.counts.refused);
        records.dead_letters += refused;
        records.done = records.done.saturating_sub(refused);
        Ok(Report {
            records,
            transactions: count(&shared.counts.transactions),
            aborted: count(&shared.counts.aborted),
            outputs: count(&shared.counts.outputs),
        })
    }
}

impl fmt::Debug for TxnMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxnMember").field("member", &self.member).field("id", &self.plan.id).finish_non_exhaustive()
    }
}

struct Unless(Arc<Shared>);

impl Drop for Unless {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn connect(plan: &Arc<Plan>, shared: &Shared) -> Result<Option<Vec<Producer>>, TransactionError> {
    let wanted = || shared.is_open();
    (0..2).map(|number| Producer::connect(plan, number, &wanted)).collect()
}

fn start(shared: &Arc<Shared>) -> Result<[JoinHandle<()>; 2], RunError> {
    let thread = |name: &str| std::thread::Builder::new().name(format!("{name} {}", shared.group));
    // The one hands over to the other: what is written waits for nobody.
    let (to_commit, written) = sync_channel(0);
    let (of_commit, of_write) = (shared.clone(), shared.clone());
    let failed = |error: std::io::Error| {
        shared.close();
        RunError::Thread(error.to_string())
    };
    let commit = thread("commit").spawn(move || commit::run(&of_commit, &written)).map_err(failed)?;
    let write = thread("write").spawn(move || write::run(&of_write, &to_commit)).map_err(failed)?;
    Ok([commit, write])
}
