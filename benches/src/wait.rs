//! Work that only waits, by two clocks.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// What a record's work waits for.
#[derive(Clone)]
pub enum Wait {
    /// tokio's timer, which rounds up to its next millisecond.
    Tokio(Duration),
    /// A clock of its own, to some fifty microseconds.
    Exact(Arc<Exact>),
}

impl Wait {
    /// Waits.
    pub async fn over(&self) {
        match self {
            Self::Tokio(time) => tokio::time::sleep(*time).await,
            Self::Exact(exact) => exact.over().await,
        }
    }

    /// How often a second so many tasks that do nothing else come to its end: nobody can do more with that work.
    pub async fn at_most(&self, in_flight: usize) -> f64 {
        let (count, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let tasks: Vec<_> = (0..in_flight)
            .map(|_| {
                let (count, wait) = (count.clone(), self.clone());
                tokio::spawn(async move {
                    while begun.elapsed() < Duration::from_secs(1) {
                        wait.over().await;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            let _ = task.await;
        }
        count.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
    }
}

/// Ends waits of one length: whoever came first is due first, so that a line and a thread are enough.
pub struct Exact {
    time: Duration,
    line: Mutex<VecDeque<(Instant, Waker)>>,
    thread: OnceLock<Thread>,
}

impl Exact {
    /// Waits of this length. Its thread ends with it.
    #[must_use]
    pub fn new(time: Duration) -> Arc<Self> {
        let exact = Arc::new(Self { time, line: Mutex::default(), thread: OnceLock::new() });
        let weak = Arc::downgrade(&exact);
        std::thread::spawn(move || {
            while let Some(exact) = weak.upgrade() {
                let _ = exact.thread.set(std::thread::current());
                let next = exact.wake();
                drop(exact);
                match next {
                    Some(next) => std::thread::sleep(next.saturating_duration_since(Instant::now())),
                    None => std::thread::park_timeout(Duration::from_millis(100)),
                }
            }
        });
        exact
    }

    /// Wakes those that are due; when the next is.
    fn wake(&self) -> Option<Instant> {
        let (due, next): (Vec<_>, _) = {
            let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let due = line.partition_point(|(at, _)| *at <= now);
            (line.drain(..due).collect(), line.front().map(|(at, _)| *at))
        };
        due.into_iter().for_each(|(_, waker)| waker.wake());
        next
    }

    async fn over(&self) {
        let due = Instant::now() + self.time;
        let mut stands = false;
        poll_fn(|context| {
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut stands, true) {
                let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
                line.push_back((due, context.waker().clone()));
                if line.len() == 1
                    && let Some(thread) = self.thread.get()
                {
                    thread.unpark();
                }
            }
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_wait_is_shorter_than_it_should_be() {
        let time = Duration::from_millis(2);
        let exact = Exact::new(time);
        let waits: Vec<_> = (0..100)
            .map(|_| {
                let wait = Wait::Exact(exact.clone());
                tokio::spawn(async move {
                    let begun = Instant::now();
                    wait.over().await;
                    begun.elapsed()
                })
            })
            .collect();
        for wait in waits {
            assert!(wait.await.unwrap() >= time);
        }
    }
}
