//! `turnstile who`: who holds a lock or permits of a semaphore, and who waits in its queue.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use redis_lock::{BackendError, Client, ErrorKind, Holder, RedisLocks};
use redis_pubsub_lock::{FairLocks, LookError};
use redis_semaphore::{SemaphoreError, Semaphores, State};
use serde::Serialize;

use crate::cli::WhoArgs;
use crate::events::{Event, Style};
use crate::exit::{self, Failure};
use crate::lock::printable;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Answer {
    pub name: String,
    pub held: bool,
    /// Of a semaphore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    pub holders: Vec<Row>,
    /// Those in the queue on the server, the next first.
    pub queue: Vec<Waiting>,
}

#[derive(Debug, Serialize)]
pub struct Row {
    pub label: String,
    pub owner: String,
    pub token: u64,
    pub shared: bool,
    /// Of a semaphore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    pub since: String,
    pub held_ms: u64,
    /// None for a key that never ends by itself.
    pub remaining_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct Waiting {
    pub label: String,
    pub owner: String,
    /// Of a semaphore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    pub waited_ms: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since(held_for: Duration) -> String {
    let since = SystemTime::now().checked_sub(held_for).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(since).to_string()
}

impl From<Holder> for Row {
    fn from(holder: Holder) -> Self {
        Self {
            label: printable(&holder.label),
            owner: holder.owner,
            token: holder.token.get(),
            shared: holder.shared,
            weight: None,
            since: since(holder.held_for),
            held_ms: millis(holder.held_for),
            remaining_ms: holder.remaining.map(millis),
        }
    }
}

impl From<redis_semaphore::Holder> for Row {
    fn from(holder: redis_semaphore::Holder) -> Self {
        Self {
            label: printable(&holder.label),
            owner: holder.owner,
            token: holder.token.get(),
            shared: false,
            weight: Some(holder.weight),
            since: since(holder.held_for),
            held_ms: millis(holder.held_for),
            remaining_ms: Some(millis(holder.remaining)),
        }
    }
}

impl Row {
    fn words(&self, name: &str) -> String {
        let Self { label, owner, token, since, held_ms, .. } = self;
        let how = match self.weight {
            Some(weight) => format!("{weight} held"),
            None => if self.shared { "shared" } else { "held" }.to_owned(),
        };
        let left = match self.remaining_ms {
            Some(left) => format!("{} left unless renewed", seconds(left)),
            None => "without an end".to_owned(),
        };
        format!(
            "{name}: {how} by {label} for {} (since {since}), {left}, token {token}, owner {owner}",
            seconds(*held_ms)
        )
    }
}

impl Waiting {
    fn words(&self, name: &str, at: usize) -> String {
        let weight = self.weight.map_or_else(String::new, |weight| format!(" for {weight}"));
        format!(
            "{name}: place {} in the queue: {} waits{weight}, for {} by now",
            at + 1,
            self.label,
            seconds(self.waited_ms)
        )
    }
}

impl Answer {
    fn of_semaphore(name: &str, state: State) -> Self {
        let queue = state.queue.into_iter().map(|waiter| Waiting {
            label: printable(&waiter.label),
            owner: waiter.owner,
            weight: Some(waiter.weight),
            waited_ms: millis(waiter.waited),
        });
        let held = !state.holders.is_empty();
        let holders = state.holders.into_iter().map(Row::from).collect();
        Self { name: name.to_owned(), held, limit: state.limit, holders, queue: queue.collect() }
    }

    /// How many permits are held.
    pub fn weight(&self) -> u32 {
        self.holders.iter().filter_map(|row| row.weight).sum()
    }

    fn words(&self) -> String {
        let name = &*self.name;
        let held = self.weight();
        let mut lines = match self.limit {
            Some(limit) => vec![format!("{name}: {held} of {limit} permits held")],
            None if self.held => Vec::new(),
            None => vec![format!("{name}: free")],
        };
        lines.extend(self.holders.iter().map(|row| row.words(name)));
        lines.extend(self.queue.iter().enumerate().map(|(at, waiting)| waiting.words(name, at)));
        lines.join("\n")
    }
}

fn seconds(millis: u64) -> String {
    format!("{}.{}s", millis / 1000, millis % 1000 / 100)
}

pub fn run(args: &WhoArgs) -> ExitCode {
    ExitCode::from(show(args).unwrap_or_else(|failure| {
        let style = if args.json { Style::Json } else { Style::Normal };
        if let Some(line) = style.line(&Event::from(&failure)) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        failure.code
    }))
}

fn show(args: &WhoArgs) -> Result<u8, Failure> {
    let runtime = crate::lock::runtime()?;
    let answer = runtime.block_on(async { ask(args.server.client().await?, &args.name).await })?;
    let text = if args.json { serde_json::to_string(&answer).unwrap_or_default() } else { answer.words() };
    // A reader that went away (`| head -1`) is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if answer.held { 0 } else { exit::FREE })
}

/// Whatever it is that has this name.
pub async fn ask(client: Client, name: &str) -> Result<Answer, Failure> {
    match Semaphores::new(client.clone()).state(name).await {
        Ok(state) if state.form.is_some() => return Ok(Answer::of_semaphore(name, state)),
        Ok(_) => {}
        // A lock's key.
        Err(SemaphoreError::Redis(error)) if error.kind() == ErrorKind::WrongType => {}
        Err(SemaphoreError::Name(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let holders = RedisLocks::new(client.clone()).who(name).await?;
    let queue = match FairLocks::new(client).queue(name).await {
        Ok(queue) => queue,
        // The keys of another kind of lock.
        Err(LookError::Redis(error)) if error.kind() == ErrorKind::WrongType => Vec::new(),
        Err(LookError::Redis(error)) => return Err(BackendError::from(error).into()),
        Err(error) => return Err(Failure::new(exit::CONFIG, error.to_string())),
    };
    let queue = queue.into_iter().map(|waiter| Waiting {
        label: printable(&waiter.label),
        owner: waiter.owner,
        weight: None,
        waited_ms: millis(waiter.waited),
    });
    let holders: Vec<Row> = holders.into_iter().map(Row::from).collect();
    Ok(Answer { name: name.to_owned(), held: !holders.is_empty(), limit: None, holders, queue: queue.collect() })
}
