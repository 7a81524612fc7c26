//! What the lab is doing, on standard error: a moving line on a terminal, else a plain line for each phase.

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Tells of each phase as it begins.
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Which strategy it is, and of how many.
    nth: AtomicUsize,
    of: usize,
}

impl Progress {
    /// For so many strategies.
    pub fn new(of: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} · {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, nth: AtomicUsize::new(0), of }
    }

    /// The next strategy comes.
    pub fn next(&self) {
        self.nth.fetch_add(1, Ordering::Relaxed);
    }

    /// Says nothing.
    pub fn silent() -> Self {
        Self { bar: Some(ProgressBar::hidden()), nth: AtomicUsize::new(0), of: 0 }
    }

    /// A phase begins.
    pub fn phase(&self, strategy: &'static str, what: &str) {
        let place = format!("{}/{}", self.nth.load(Ordering::Relaxed), self.of);
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(format!("{place} {strategy}"));
                bar.set_message(what.to_owned());
            }
            None => eprintln!("{place} {strategy}: {what}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
