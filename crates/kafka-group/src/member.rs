//! A member of a group, and its run.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use turnstile_core::{Report, Shutdown};

use crate::builder::Settings;
use crate::dead_letters::DeadLetters;
use crate::engine::Engine;
use crate::error::RunError;
use crate::pulse::Pulse;
use crate::scheduler::{Control, Scheduler};
use crate::status::Status;
use crate::work::Counts;

/// A member of a consumer group that is not running yet.
#[must_use = "a member does nothing until it runs"]
pub struct Member {
    settings: Settings,
    scheduler: Box<dyn Scheduler>,
    counts: Arc<Counts>,
    dead_letters: Option<DeadLetters>,
    status: watch::Sender<Status>,
}

impl Member {
    pub(crate) fn new(
        settings: Settings,
        scheduler: Box<dyn Scheduler>,
        counts: Arc<Counts>,
        dead_letters: Option<DeadLetters>,
    ) -> Self {
        Self { settings, scheduler, counts, dead_letters, status: watch::Sender::default() }
    }

    /// Where the member stands, while it runs.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Joins the group and works until `shutdown` begins, or until it cannot go on. Then it finishes what its handlers
    /// are at, within the shutdown's limit, commits what is done, and leaves; what waits behind is not begun.
    ///
    /// To be called in a tokio runtime with time enabled: the handlers run there. Polling has a thread of its own.
    ///
    /// Outages are waited for: brokers that do not answer are trouble in the [`status`](Self::status), and no error,
    /// once they have answered at the start.
    ///
    /// Dropping the future begins the shutdown; it then goes on without anyone waiting, and its report is lost.
    ///
    /// # Errors
    /// See [`RunError`]; what was done is committed where the brokers allow it. An error that a handler stops with is no
    /// error of the run: it is in the report.
    pub async fn run(self, shutdown: Shutdown) -> Result<Report, RunError> {
        // Past seven tenths of it without a sign of life, the session may be over when the next heartbeat goes out.
        let pulse = Arc::new(Pulse::new(self.settings.session_timeout.mul_f64(0.7)));
        let control = Control::new(pulse.clone(), tokio::runtime::Handle::current());
        // Its drop is the sign to end, also when this future is dropped.
        let ending = tokio_util::sync::CancellationToken::new();
        let dropped = ending.clone().drop_guard();
        let ends = Shutdown::when(ending, shutdown.limit());
        self.counts.started(&control);
        let name = format!("group {}", self.settings.group);
        let engine = Engine::new(self.settings, pulse.clone(), control, self.counts, ends, self.status);
        let (told, mut ended) = oneshot::channel();
        let (scheduler, dead_letters) = (self.scheduler, self.dead_letters);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let _ = told.send(engine.run(scheduler));
            if let Some(dead_letters) = dead_letters {
                dead_letters.flush(std::time::Duration::from_secs(5));
            }
        });
        let thread = thread.map_err(|error| RunError::Thread(error.to_string()))?;
        let report = tokio::select! {
            report = &mut ended => report,
            () = shutdown.begun() => {
                drop(dropped);
                pulse.wake();
                ended.await
            }
        };
        // It has nothing left to do but to end.
        let over = tokio::task::spawn_blocking(move || thread.join()).await;
        report.unwrap_or_else(|_| {
            let panic = over.ok().and_then(Result::err).and_then(|panic| panic.downcast::<String>().ok());
            Err(RunError::Thread(panic.map_or_else(|| "it panicked".to_owned(), |text| *text)))
        })
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("group", &self.settings.group)
            .field("topics", &self.settings.topics)
            .finish_non_exhaustive()
    }
}
