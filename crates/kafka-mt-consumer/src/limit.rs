//! How many may be at work at a time, over all partitions.
//!
//! A permit that comes free goes to whoever waits longest: to a partition that has more to begin, or to one unit of work
//! that has waited for its next attempt. A partition that is not above its fair share keeps its own for what it has to begin
//! next, which spares both sides a switch of tasks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A partition that has something to begin, once it is given a permit.
pub(crate) trait Parked: Send + Sync {
    /// Whether it stands in the queue; for the limit to keep.
    fn queued(&self) -> &AtomicBool;

    /// Goes on with the permit, or gives it back where there is nothing to go on with.
    fn resume(self: Arc<Self>, permit: Permit) -> Option<Permit>;
}

pub(crate) struct Limit {
    state: Mutex<State>,
}

struct State {
    max: usize,
    used: usize,
    /// Of how many partitions there may be something to begin.
    partitions: usize,
    /// Nobody waits while there is a permit to be had.
    waiting: VecDeque<Waiting>,
}

enum Waiting {
    Partition(Arc<dyn Parked>),
    One(oneshot::Sender<Permit>),
}

/// Leave to be at work; given back when dropped.
pub(crate) struct Permit(Option<Arc<Limit>>);

impl Limit {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { max, used: 0, partitions: 0, waiting: VecDeque::new() }) })
    }

    /// A permit, if there is one.
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.state.lock();
        (state.used < state.max).then(|| {
            state.used += 1;
            Permit(Some(self.clone()))
        })
    }

    /// A permit, when it is our turn.
    pub async fn wait(self: &Arc<Self>) -> Permit {
        loop {
            let given = {
                let mut state = self.state.lock();
                if state.used < state.max {
                    state.used += 1;
                    return Permit(Some(self.clone()));
                }
                let (give, given) = oneshot::channel();
                state.waiting.push_back(Waiting::One(give));
                given
            };
            if let Ok(permit) = given.await {
                return permit;
            }
        }
    }

    /// Puts a partition in the queue, or gives a permit that has come free meanwhile.
    pub fn park(self: &Arc<Self>, parked: Arc<dyn Parked>) -> Option<Permit> {
        let mut state = self.state.lock();
        if state.used < state.max {
            state.used += 1;
            return Some(Permit(Some(self.clone())));
        }
        if !parked.queued().swap(true, Ordering::Relaxed) {
            state.waiting.push_back(Waiting::Partition(parked));
        }
        None
    }

    /// Whether a partition that has so many at work may go on with a permit of its own, before others.
    pub fn may_keep(&self, at_work: usize) -> bool {
        let state = self.state.lock();
        state.used <= state.max && (state.waiting.is_empty() || at_work * state.partitions <= state.max)
    }

    /// One partition more, or less.
    pub fn partition(&self, comes: bool) {
        let mut state = self.state.lock();
        state.partitions = if comes { state.partitions + 1 } else { state.partitions.saturating_sub(1) };
    }

    /// Another limit from now on.
    pub fn set(self: &Arc<Self>, max: usize) {
        self.state.lock().max = max;
        while let Some(permit) = self.next_in_line() {
            self.hand_over(permit);
        }
    }

    /// How many are at work, and how many may be.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.used, state.max)
    }

    /// A permit for somebody who waits, if both are there.
    fn next_in_line(self: &Arc<Self>) -> Option<Permit> {
        let mut state = self.state.lock();
        (state.used < state.max && !state.waiting.is_empty()).then(|| {
            state.used += 1;
            Permit(Some(self.clone()))
        })
    }

    /// Gives it to the first in line who can use it, or back.
    fn hand_over(&self, mut permit: Permit) {
        loop {
            let next = {
                let mut state = self.state.lock();
                let next = if state.used <= state.max { state.waiting.pop_front() } else { None };
                match &next {
                    Some(Waiting::Partition(parked)) => parked.queued().store(false, Ordering::Relaxed),
                    Some(Waiting::One(_)) => {}
                    None => {
                        state.used -= 1;
                        permit.0 = None;
                        return;
                    }
                }
                next
            };
            let back = match next {
                Some(Waiting::Partition(parked)) => parked.resume(permit),
                Some(Waiting::One(give)) => give.send(permit).err(),
                None => None,
            };
            match back {
                Some(unused) => permit = unused,
                None => return,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(limit) = self.0.take() {
            limit.hand_over(Permit(Some(limit.clone())));
        }
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, max) = self.usage();
        write!(f, "{used} of {max}")
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
