//! `turnstile queue stat` and `dead`: what is told, in words and as JSON.

use std::time::{Duration, SystemTime};

use redis_streams::{DeadLetter, JobId, Stats};
use serde::Serialize;

use crate::lock::printable;

/// So much of a body is shown.
const PREVIEW: usize = 60;

/// `stat --json`.
#[derive(Debug, Serialize)]
pub struct Sizes {
    schema: u8,
    pub queue: String,
    pub group: String,
    pub unread: Option<u64>,
    pub pending: u64,
    due: u64,
    in_lanes: u64,
    pub delayed: u64,
    pub dead: u64,
    pub length: u64,
    pub bytes: u64,
    delayed_bytes: u64,
    dead_bytes: u64,
    pub oldest_unread_ms: Option<u64>,
    pub oldest_pending_ms: Option<u64>,
    pub workers: Vec<Worker>,
    pub verdict: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Worker {
    name: String,
    pub pending: u64,
    idle_ms: u64,
    pub alive_for_ms: Option<u64>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn words(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms - ms % if ms > 10_000 { 1_000 } else { 1 })).to_string()
}

impl Sizes {
    pub fn new(queue: &str, group: &str, stats: &Stats) -> Self {
        let workers = stats.workers.iter().map(|worker| Worker {
            name: printable(&worker.name),
            pending: worker.pending,
            idle_ms: millis(worker.idle),
            alive_for_ms: worker.alive_for.map(millis),
        });
        Self {
            schema: 1,
            queue: queue.to_owned(),
            group: group.to_owned(),
            unread: stats.unread,
            pending: stats.pending,
            due: stats.due,
            in_lanes: stats.in_lanes,
            delayed: stats.delayed,
            dead: stats.dead,
            length: stats.length,
            bytes: stats.bytes,
            delayed_bytes: stats.delayed_bytes,
            dead_bytes: stats.dead_bytes,
            oldest_unread_ms: stats.oldest_unread.map(millis),
            oldest_pending_ms: stats.oldest_pending.map(millis),
            workers: workers.collect(),
            verdict: verdict(stats),
        }
    }

    pub fn text(&self) -> String {
        let unread = self.unread.map_or_else(|| "unknown".to_owned(), |unread| unread.to_string());
        let age = |ms: Option<u64>| ms.map_or_else(String::new, |ms| format!(", the oldest for {}", words(ms)));
        let mut lines = vec![
            format!("{}, group {}", self.queue, self.group),
            format!("  unread   {unread}{}", age(self.oldest_unread_ms)),
            format!("  pending  {}{}", self.pending, age(self.oldest_pending_ms)),
            format!("    of it to be tried or taken over {}, in lanes {}", self.due, self.in_lanes),
            format!("  delayed  {}, {} bytes", self.delayed, self.delayed_bytes),
            format!("  dead     {}, {} bytes", self.dead, self.dead_bytes),
            format!("  stream   {} jobs, {} bytes", self.length, self.bytes),
        ];
        for worker in &self.workers {
            let alive = match worker.alive_for_ms {
                Some(ms) => format!("alive for {} unless it gives a sign", words(ms)),
                None => "not alive".to_owned(),
            };
            lines.push(format!("  {}: {} pending, {alive}", worker.name, worker.pending));
        }
        lines.extend(self.verdict.as_ref().map(|verdict| format!("! {verdict}")));
        lines.join("\n")
    }
}

/// What somebody should look at first.
fn verdict(stats: &Stats) -> Option<String> {
    let alive = stats.workers.iter().any(|worker| worker.alive_for.is_some());
    let work = stats.unread != Some(0) || stats.pending > 0 || stats.delayed > 0;
    if !alive && (work || stats.length > 0) {
        return Some("no worker is alive: nothing of this is worked on".to_owned());
    }
    (stats.dead > 0).then(|| format!("{} dead letters: see `turnstile queue dead`", stats.dead))
}

/// `dead --json`, one a line.
#[derive(Serialize)]
pub struct Letter {
    schema: u8,
    id: String,
    job: String,
    set_aside: String,
    attempts: u32,
    error: String,
    /// What is not UTF-8 is replaced.
    fields: Vec<(String, String)>,
}

impl Letter {
    pub fn new(letter: &DeadLetter) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            schema: 1,
            id: letter.id.to_string(),
            job: letter.job.to_string(),
            set_aside: time(letter.id),
            attempts: letter.attempts,
            error: letter.error.clone(),
            fields: letter.fields.iter().map(|(name, value)| (text(name), text(value))).collect(),
        }
    }

    pub fn text(&self) -> String {
        let body = self.fields.iter().find(|(name, _)| name == "body").map_or("", |(_, body)| body);
        let mut preview: String = printable(body).chars().take(PREVIEW).collect();
        if preview.len() < body.len() {
            preview.push('…');
        }
        let (id, job, when, attempts) = (&self.id, &self.job, &self.set_aside, self.attempts);
        format!("{id}: job {job}, set aside {when} after {attempts} attempts: {}\n  {preview}", printable(&self.error))
    }
}

fn time(id: JobId) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(id.ms)).to_string()
}
