//! What is shown, as it was found. Its fields are those of `--json`.

use std::time::SystemTime;

use serde::Serialize;

use crate::exit::Failure;
#[cfg(feature = "kafka")]
use crate::group::Answer as GroupAnswer;
use crate::queue::Sizes;
use crate::who::Answer;

/// All of it. Fields may be added; `schema` rises when one changes its meaning.
#[derive(Debug, Serialize)]
pub struct Picture {
    schema: u32,
    /// When the last part of it was answered, by this machine's clock.
    pub at: String,
    /// What somebody should look at first.
    pub verdicts: Vec<String>,
    pub redis: Source,
    pub kafka: Source,
    pub locks: Vec<Held>,
    pub semaphores: Vec<Held>,
    pub queues: Vec<Sizes>,
    #[cfg(feature = "kafka")]
    pub groups: Vec<Group>,
}

/// A server, and how it answered.
#[derive(Debug, Default, Serialize)]
pub struct Source {
    /// Host and port; none if it is not said which server.
    pub address: Option<String>,
    /// Why it did not answer.
    pub error: Option<String>,
    /// What could not be shown, and why.
    pub notes: Vec<String>,
    /// The exit code that goes with the error.
    #[serde(skip)]
    pub code: u8,
}

/// A lock or a semaphore: what `turnstile who` tells of it.
#[derive(Debug, Serialize)]
pub struct Held {
    #[serde(flatten)]
    pub who: Answer,
    /// Whether somebody waits of whom the server keeps no list: those who wait for a plain lock ask again and again.
    pub contended: bool,
    pub verdict: Option<String>,
}

/// A consumer group: what `turnstile group` tells of it.
#[cfg(feature = "kafka")]
#[derive(Debug, Serialize)]
pub struct Group {
    #[serde(flatten)]
    pub answer: GroupAnswer,
    pub verdicts: Vec<String>,
}

/// What one server answered.
pub enum Part {
    Redis {
        source: Source,
        locks: Vec<Held>,
        semaphores: Vec<Held>,
        queues: Vec<Sizes>,
    },
    #[cfg(feature = "kafka")]
    Kafka {
        source: Source,
        groups: Vec<Group>,
    },
}

impl Default for Picture {
    fn default() -> Self {
        Self {
            schema: 1,
            at: String::new(),
            verdicts: Vec::new(),
            redis: Source::default(),
            kafka: Source::default(),
            locks: Vec::new(),
            semaphores: Vec::new(),
            queues: Vec::new(),
            #[cfg(feature = "kafka")]
            groups: Vec::new(),
        }
    }
}

impl Source {
    pub fn failed(&mut self, failure: &Failure) {
        self.error = Some(crate::lock::printable(&failure.message));
        self.code = failure.code;
    }
}

impl Held {
    pub fn new(who: Answer, contended: bool) -> Self {
        let held = who.weight();
        let verdict = match who.limit {
            Some(limit) if held > limit => Some(format!("{held} held of {limit}: the limit was lowered")),
            _ if who.holders.iter().any(|holder| holder.remaining_ms.is_none()) => {
                Some("never ends by itself: it is free when its key is deleted".to_owned())
            }
            _ => None,
        };
        Self { who, contended, verdict }
    }
}

impl Picture {
    /// Takes a newer part in place of the one before.
    pub fn take(&mut self, part: Part) {
        self.at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        match part {
            Part::Redis { source, locks, semaphores, queues } => {
                (self.redis, self.locks, self.semaphores, self.queues) = (source, locks, semaphores, queues);
            }
            #[cfg(feature = "kafka")]
            Part::Kafka { source, groups } => (self.kafka, self.groups) = (source, groups),
        }
        self.verdicts = self.judge();
    }

    fn judge(&self) -> Vec<String> {
        let servers = [&self.redis, &self.kafka];
        let mut verdicts: Vec<String> = servers.iter().filter_map(|source| source.error.clone()).collect();
        for (kind, all) in [("lock", &self.locks), ("semaphore", &self.semaphores)] {
            let told = all.iter().filter_map(|held| Some((&held.who.name, held.verdict.as_ref()?)));
            verdicts.extend(told.map(|(name, verdict)| format!("{kind} {name}: {verdict}")));
        }
        let told = self.queues.iter().filter_map(|queue| Some((&queue.queue, queue.verdict.as_ref()?)));
        verdicts.extend(told.map(|(name, verdict)| format!("queue {name}: {verdict}")));
        #[cfg(feature = "kafka")]
        for group in &self.groups {
            verdicts.extend(group.verdicts.iter().map(|verdict| format!("group {}: {verdict}", group.answer.group)));
        }
        verdicts.iter().map(|verdict| crate::lock::printable(verdict)).collect()
    }

    /// 0 if any server answered.
    pub fn code(&self) -> u8 {
        let servers = [&self.redis, &self.kafka];
        if servers.iter().any(|source| source.address.is_some() && source.error.is_none()) {
            return 0;
        }
        servers.iter().map(|source| source.code).find(|code| *code != 0).unwrap_or(crate::exit::SOFTWARE)
    }
}
