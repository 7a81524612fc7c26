//! What a worker does for its group besides new jobs: signs of life, and with each a look at the others; what is to be
//! tried, and what is due.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};
use turnstile_core::{Clock, Handler, SystemClock};

use super::reading::BLOCK;
use super::{Control, millis};
use crate::desk::Term;
use crate::error::RunError;
use crate::job::{Job, Jobs};
use crate::runner;
use crate::scripts::{BEAT, MOVE, RECOVER, REPAIR, TAKE};
use crate::worker::Order;

/// Delayed jobs, and entries of lanes, in one call.
const BATCH: usize = 100;
/// What a sign of life gets for an answer where another sees to delayed jobs.
const NOT_OURS: i64 = -2;

impl<H: Handler<Job>> Control<H> {
    /// A sign of life, and what comes with it.
    pub(super) async fn give_sign(&mut self) -> Result<(), RunError> {
        let desk = self.desk.clone();
        let every = desk.settings.alive / 3;
        let (term, order) = (desk.term(), desk.settings.order.word());
        let sent = SystemClock.now();
        let call = desk.group.call(&BEAT, &term.consumer, order, std::iter::empty()).arg(millis(desk.settings.alive));
        let (alive, due, delayed, orphans, gone): (i64, i64, i64, u64, u64) = match call.run(&desk.client).await {
            Ok(reply) => reply,
            Err(error) => {
                self.beat = Instant::now() + self.beat_failed.next().min(every);
                return self.failed(error, "no sign of life for now");
            }
        };
        self.beat_failed.reset();
        self.beat = Instant::now() + every;
        if alive != 1 {
            if alive < 0 {
                warn!(queue = %desk.group.queue, group = &*desk.group.name, "the group was deleted: it is made anew, and what the stream still holds is read from its oldest on");
            }
            desk.state().fenced = true;
            return Ok(());
        }
        term.prolong(sent + desk.settings.alive);
        runner::kick(&desk);
        desk.note_gone(gone);
        if orphans > 0 {
            info!(queue = %desk.group.queue, jobs = orphans, "left behind by workers that are dead");
            desk.metrics.taken_over.increment(orphans);
        }
        if let Ok(due) = u64::try_from(due) {
            desk.due_in(Duration::from_millis(due));
        }
        self.moves = delayed != NOT_OURS;
        self.delayed = u64::try_from(delayed).ok().map(|delay| Instant::now() + Duration::from_millis(delay));
        if desk.settings.order != Order::None {
            self.repair(&term).await;
        }
        if desk.state().lost_reply {
            desk.state().lost_reply = false;
            self.recover_until = Some(Instant::now() + BLOCK + desk.client.response_timeout() * 2);
        }
        if let Some(until) = self.recover_until {
            self.recover(&term).await?;
            if Instant::now() >= until {
                self.recover_until = None;
            }
        }
        Ok(())
    }

    /// Looks for jobs that were given to this worker and never arrived.
    async fn recover(&mut self, term: &Term) -> Result<(), RunError> {
        self.end_read().await?;
        let desk = &self.desk;
        // Nor may a reply be under way that brings the next jobs of lanes.
        let _none_under_way = desk.exchange.lock().await;
        let in_hand: Vec<String> = desk.state().in_hand.keys().map(ToString::to_string).collect();
        let call = desk.group.call(&RECOVER, &term.consumer, desk.settings.order.word(), std::iter::empty());
        match in_hand.iter().fold(call, |call, id| call.arg(id)).run::<u64>(&desk.client).await {
            Ok(0) => {}
            Ok(found) => {
                info!(queue = %desk.group.queue, jobs = found, "found jobs that were given to this worker in a reply that was lost");
                desk.due_in(Duration::ZERO);
            }
            Err(error) => {
                debug!(queue = %desk.group.queue, %error, "could not look for jobs whose reply was lost");
                desk.state().lost_reply = true;
            }
        }
        Ok(())
    }

    async fn repair(&mut self, term: &Term) {
        let desk = &self.desk;
        let call = desk.group.call(&REPAIR, &term.consumer, desk.settings.order.word(), std::iter::empty());
        match call.arg(&self.lane[..]).arg(BATCH).run::<(Vec<u8>, u64)>(&desk.client).await {
            Ok((lane, gone)) => {
                self.lane = lane;
                desk.note_gone(gone);
            }
            Err(error) => debug!(queue = %desk.group.queue, %error, "the lanes were not looked at"),
        }
    }

    /// Takes what is to be tried. Whether it did anything.
    pub(super) async fn take(&mut self) -> Result<bool, RunError> {
        let desk = self.desk.clone();
        let (room, term) = {
            let mut state = desk.state();
            let room = desk.room(&state, self.rate.ahead);
            if room > 0 {
                state.due = None;
            }
            (room, state.term.clone())
        };
        if room == 0 {
            return Ok(false);
        }
        let call = desk.group.call(&TAKE, &term.consumer, desk.settings.order.word(), std::iter::empty());
        let (alive, gone, next, moves, jobs): (bool, u64, i64, bool, Jobs) =
            match call.arg(room.min(BATCH)).run(&desk.client).await {
                Ok(reply) => reply,
                Err(error) => {
                    desk.due_in(self.beat_failed.next());
                    return self.failed(error, "what is to be tried again cannot be taken for now").map(|()| true);
                }
            };
        desk.state().fenced |= !alive;
        desk.note_gone(gone);
        if let Ok(next) = u64::try_from(next) {
            desk.due_in(Duration::from_millis(next));
        }
        desk.receive(&term, jobs.0);
        runner::kick(&desk);
        // Whoever saw to delayed jobs has left them to us.
        if moves && !self.moves {
            (self.moves, self.delayed) = (true, Some(Instant::now()));
        }
        Ok(true)
    }

    pub(super) async fn move_delayed(&mut self) -> Result<(), RunError> {
        let desk = self.desk.clone();
        let term = desk.term();
        let call = desk.group.call(&MOVE, &term.consumer, desk.settings.order.word(), std::iter::empty());
        match call.arg(BATCH).run::<(u64, i64)>(&desk.client).await {
            Ok((_, next)) => {
                let next = u64::try_from(next).map_or(desk.settings.alive / 3, Duration::from_millis);
                self.delayed = Some(Instant::now() + next);
                Ok(())
            }
            Err(error) => {
                self.delayed = Some(Instant::now() + Duration::from_millis(250));
                self.failed(error, "delayed jobs cannot be moved for now")
            }
        }
    }
}
