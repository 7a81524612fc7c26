//! The orderly end of a run.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{debug, warn};
use turnstile_core::{Handler, Shutdown};

use super::Control;
use crate::desk::{Settled, Term, What};
use crate::job::Job;

impl<H: Handler<Job>> Control<H> {
    /// Nothing more is begun; what handlers are at may finish within the limit, and the rest goes back.
    pub(super) async fn finish(&mut self, shutdown: &Shutdown, orderly: bool) {
        let desk = self.desk.clone();
        desk.state().open = false;
        let limit = if orderly { shutdown.limit() } else { Duration::ZERO };
        let end = Instant::now() + limit;
        if let Err(error) = self.end_read().await {
            debug!(queue = %desk.group.queue, %error, "the last read failed");
        }
        let term = desk.term();
        let not_begun = std::mem::take(&mut desk.state().ready);
        self.hand_back(&term, not_begun);
        loop {
            if desk.state().running == 0 {
                break;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left <= limit / 5 {
                term.warn();
            }
            if left.is_zero() {
                break;
            }
            if Instant::now() >= self.beat {
                self.recover_until = None;
                if self.give_sign().await.is_err() || desk.state().fenced {
                    break;
                }
            }
            let next =
                [self.beat, end, end - limit / 5].into_iter().filter(|at| *at > Instant::now()).min().unwrap_or(end);
            let _ = timeout(
                next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
                desk.look.notified(),
            )
            .await;
        }
        // Whoever is still at it is dropped, and hands its job back.
        term.end();
        let dropped = async {
            while desk.state().running > 0 {
                let _ = timeout(Duration::from_millis(1), desk.look.notified()).await;
            }
        };
        // A handler that does not await cannot be dropped: its job goes to others all the same.
        if timeout(Duration::from_millis(500), dropped).await.is_err() {
            warn!(queue = %desk.group.queue, "handlers are still at work and do not await: others do their jobs again");
        }
        let halted = std::mem::take(&mut desk.state().halted);
        self.hand_back(&term, halted);
    }

    fn hand_back(&self, term: &Arc<Term>, jobs: impl IntoIterator<Item = Job>) {
        for job in jobs {
            let deliveries = job.deliveries.get() - 1;
            self.desk.settle(term, Settled { job, what: What::Back(deliveries) });
        }
    }
}
