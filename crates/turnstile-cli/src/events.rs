//! What is told on stderr: words, or one JSON object a line.
//!
//! A thread of its own does the writing. A full pipe behind stderr must never hold up the watch over the lock.

use std::fmt;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::exit::Failure;

/// How long unread words may hold up the end of the program.
const PATIENCE: Duration = Duration::from_secs(1);

/// What happened. The names and fields of the JSON are those here, durations in milliseconds.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// Others hold it, and it is waited for.
    Waiting { names: &'a [&'a str], holders: Vec<String> },
    Acquired {
        names: &'a [&'a str],
        token: u64,
        owner: String,
        #[serde(rename = "waited_ms", serialize_with = "millis")]
        waited: Duration,
    },
    NotAcquired {
        names: &'a [&'a str],
        #[serde(rename = "waited_ms", serialize_with = "millis")]
        waited: Duration,
        holders: Vec<String>,
        /// How many waiters were still before this one, where the server keeps a queue.
        #[serde(skip_serializing_if = "Option::is_none")]
        ahead: Option<u64>,
    },
    /// The lock is lost, or about to be; `action` is what is done to the command.
    Lost { reason: &'a str, action: &'a str },
    /// The command ended, by itself or by a signal.
    Ended { code: Option<i32>, signal: Option<i32> },
    Released {
        outcome: &'a str,
        #[serde(rename = "held_ms", serialize_with = "millis")]
        held: Duration,
    },
    /// It goes on, but somebody should know.
    Warning { message: String },
    /// The end, with this exit code.
    Error { code: u8, message: String },
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

impl From<&Failure> for Event<'_> {
    fn from(failure: &Failure) -> Self {
        Event::Error { code: failure.code, message: failure.message.clone() }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |holders: &[String]| match holders {
            [] => String::new(),
            holders => format!(", held by {}", holders.join(", ")),
        };
        match self {
            Event::Waiting { names, holders } => write!(f, "waiting for {}{}", names.join(", "), by(holders)),
            Event::Acquired { names, token, waited, .. } => {
                write!(f, "acquired {} after {waited:.1?}, token {token}", names.join(", "))
            }
            Event::NotAcquired { names, waited, holders, ahead } => {
                let place =
                    ahead.map_or_else(String::new, |ahead| format!("; place {} in the queue", ahead.saturating_add(1)));
                write!(f, "did not acquire {} within {waited:.1?}{}{place}", names.join(", "), by(holders))
            }
            Event::Lost { reason, action } => write!(f, "the lock is lost: {reason}; {action}"),
            Event::Ended { code: Some(code), .. } => write!(f, "the command exited with {code}"),
            Event::Ended { signal, .. } => write!(f, "the command was ended by signal {}", signal.unwrap_or_default()),
            Event::Released { outcome, held } => write!(f, "gave the lock back after {held:.1?}: {outcome}"),
            Event::Warning { message } | Event::Error { message, .. } => f.write_str(message),
        }
    }
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Everything, as JSON.
    Json,
    /// Everything, in words.
    Verbose,
    /// What went otherwise than asked.
    Normal,
    /// The same, but for a lock that was not acquired.
    Quiet,
}

impl Style {
    fn wants(self, event: &Event<'_>) -> bool {
        match event {
            Event::Lost { .. } | Event::Warning { .. } | Event::Error { .. } => true,
            Event::NotAcquired { .. } => self != Self::Quiet,
            _ => self.tells_all(),
        }
    }

    /// Whether progress is told too.
    pub fn tells_all(self) -> bool {
        matches!(self, Self::Json | Self::Verbose)
    }

    /// The line of this event.
    pub fn line(self, event: &Event<'_>) -> Option<String> {
        self.wants(event).then(|| match self {
            // Serializing these never fails.
            Self::Json => serde_json::to_string(event).unwrap_or_default(),
            _ => format!("turnstile: {event}"),
        })
    }
}

/// Tells events, in order, without ever waiting for a reader.
pub struct Reporter {
    style: Style,
    lines: mpsc::Sender<String>,
    written: mpsc::Receiver<()>,
}

impl Reporter {
    pub fn new(style: Style) -> Self {
        let (lines, queue) = mpsc::channel::<String>();
        let (done, written) = mpsc::channel();
        std::thread::spawn(move || {
            for mut line in queue {
                line.push('\n');
                // In one piece, since the command writes there too. If nobody reads, there is nobody to tell.
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
            let _ = done.send(());
        });
        Self { style, lines, written }
    }

    pub fn style(&self) -> Style {
        self.style
    }

    pub fn tell(&self, event: &Event<'_>) {
        if let Some(line) = self.style.line(event) {
            let _ = self.lines.send(line);
        }
    }

    /// Waits for what was told to be written, for a second at the most.
    pub fn finish(self) {
        drop(self.lines);
        let _ = self.written.recv_timeout(PATIENCE);
    }
}
