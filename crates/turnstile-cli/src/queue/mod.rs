//! `turnstile queue`: adding jobs, working on them with a command, and looking after a queue.

mod args;
mod child;
mod show;
mod work;

use std::io::{BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use redis_lock::BackendError;
use redis_streams::{AddError, Added, ConfigError, JobId, Limit, NewJob, Producer, Queue, QueueError, Trim};
use serde::Serialize;

pub use self::args::QueueArgs;
use self::args::{AddArgs, DeadArgs, Letters, PurgeArgs, ReplayArgs, StatArgs, TrimArgs, What, Which};
use self::show::Letter;
pub use self::show::Sizes;
use crate::events::{Event, Style};
use crate::exit::{self, Failure};

/// Lines of `add --lines` in one go.
const LINES: usize = 10_000;

pub fn run(args: &QueueArgs) -> ExitCode {
    let which = match &args.what {
        What::Add(args) => &args.which,
        What::Work(args) => &args.which,
        What::Stat(args) => &args.which,
        What::Dead(args) => &args.which,
        What::Replay(args) => &args.which,
        What::Purge(args) => &args.which,
        What::Trim(args) => &args.which,
    };
    ExitCode::from(act(args, which).unwrap_or_else(|failure| {
        let style = if which.json { Style::Json } else { Style::Normal };
        if let Some(line) = style.line(&Event::from(&failure)) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        failure.code
    }))
}

fn act(args: &QueueArgs, which: &Which) -> Result<u8, Failure> {
    crate::lock::runtime()?.block_on(async {
        let queue = Queue::new(which.server.client().await?, &which.name)
            .map_err(|error| Failure::new(exit::CONFIG, error.to_string()))?;
        match &args.what {
            What::Add(args) => add(&queue, args).await,
            What::Work(args) => work::run(queue, args).await,
            What::Stat(args) => stat(&queue, args).await,
            What::Dead(args) => dead(&queue, args).await,
            What::Replay(args) => replay(&queue, args).await,
            What::Purge(args) => purge(&queue, args).await,
            What::Trim(args) => trim(&queue, args).await,
        }
    })
}

fn failure(error: redis_streams::Error) -> Failure {
    BackendError::from(error).into()
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(exit::CONFIG, error.to_string())
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Redis(error) => failure(error),
            error => Self::new(exit::CONFIG, error.to_string()),
        }
    }
}

impl From<AddError> for Failure {
    fn from(error: AddError) -> Self {
        match error {
            AddError::Redis(error) => failure(error),
            AddError::Full(full) => Self::new(exit::NOT_ACQUIRED, full.to_string()),
            error => Self::new(exit::USAGE, error.to_string()),
        }
    }
}

/// Prints a line. A reader that went away (`| head -1`) is no failure.
fn say(which: &Which, json: &impl Serialize, text: impl FnOnce() -> String) {
    let line = if which.json { serde_json::to_string(json).unwrap_or_default() } else { text() };
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `add --json`.
#[derive(Serialize)]
struct Told {
    schema: u8,
    added: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<String>,
}

fn tell(which: &Which, added: Added) {
    let told = |added, id, due| Told { schema: 1, added, id, due };
    let told = match added {
        Added::Queued(id) => told("queued", Some(id.to_string()), None),
        Added::Delayed(due) => told("delayed", None, Some(humantime::format_rfc3339_millis(due).to_string())),
        _ => told("duplicate", None, None),
    };
    say(which, &told, || match (&told.id, &told.due) {
        (Some(id), _) => id.clone(),
        (_, Some(due)) => format!("delayed {due}"),
        _ => told.added.to_owned(),
    });
}

async fn add(queue: &Queue, args: &AddArgs) -> Result<u8, Failure> {
    let mut producer = queue.producer();
    if let Some(limit) = args.limit {
        producer = producer.limit(Limit::Jobs(limit));
    }
    if let Some(wait) = args.wait {
        producer = producer.wait_for_room(wait);
    }
    let job = |body: Vec<u8>| {
        let mut job = NewJob::new(body);
        for (name, value) in &args.fields {
            job = job.field(name.clone(), value.clone());
        }
        if let Some(key) = &args.key {
            job = job.key(key.clone());
        }
        if let Some(id) = &args.dedup {
            job = job.dedup(id, args.window);
        }
        match args.delay {
            Some(delay) => job.delay(delay),
            None => job,
        }
    };
    if args.lines {
        return add_lines(&producer, args, job).await;
    }
    let body = match &args.body {
        Some(body) if body != "-" => body.clone().into_bytes(),
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::new(exit::USAGE, "which job? Give its body as an argument, or on the standard input"));
        }
        _ => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).map_err(|error| no_input(&error))?;
            body
        }
    };
    tell(&args.which, producer.add(job(body)).await?);
    Ok(0)
}

fn no_input(error: &std::io::Error) -> Failure {
    Failure::new(exit::SOFTWARE, format!("cannot read the standard input: {error}"))
}

async fn add_lines(producer: &Producer, args: &AddArgs, job: impl Fn(Vec<u8>) -> NewJob) -> Result<u8, Failure> {
    let mut lines = std::io::stdin().lock().split(b'\n');
    let mut count = 0;
    loop {
        let jobs: Vec<NewJob> = lines
            .by_ref()
            .take(LINES)
            .map(|line| line.map(&job).map_err(|error| no_input(&error)))
            .collect::<Result<_, _>>()?;
        if jobs.is_empty() {
            return Ok(0);
        }
        let (added, failed) = match producer.add_all(jobs).await {
            Ok(added) => (added, None),
            Err((added, error)) => (added, Some(error)),
        };
        count += added.len();
        added.into_iter().for_each(|added| tell(&args.which, added));
        if let Some(error) = failed {
            let Failure { code, message } = error.into();
            return Err(Failure::new(code, format!("{count} lines were added, and then: {message}")));
        }
    }
}

async fn stat(queue: &Queue, args: &StatArgs) -> Result<u8, Failure> {
    let stats = queue.stats_of(&args.group.group).await?;
    let sizes = Sizes::new(&args.which.name, &args.group.group, &stats);
    say(&args.which, &sizes, || sizes.text());
    Ok(0)
}

async fn dead(queue: &Queue, args: &DeadArgs) -> Result<u8, Failure> {
    let letters = queue.dead_letters_of(&args.group.group)?.list(args.from, args.count).await.map_err(failure)?;
    for letter in letters.iter().map(Letter::new) {
        say(&args.which, &letter, || letter.text());
    }
    Ok(u8::from(letters.is_empty()))
}

/// How many of how many.
#[derive(Serialize)]
struct Count {
    schema: u8,
    what: &'static str,
    count: u64,
}

fn tell_count(which: &Which, what: &'static str, count: u64, letters: &Letters) -> u8 {
    let told = Count { schema: 1, what, count };
    say(which, &told, || format!("{count} {what}"));
    let wanted = u64::try_from(letters.ids.len()).unwrap_or(u64::MAX);
    u8::from(count < wanted)
}

async fn replay(queue: &Queue, args: &ReplayArgs) -> Result<u8, Failure> {
    let dead = queue.dead_letters_of(&args.group.group)?;
    let count = if args.letters.all {
        dead.replay_all().await?
    } else {
        let replayed: Vec<Option<JobId>> = dead.replay(&args.letters.ids).await?;
        u64::try_from(replayed.iter().flatten().count()).unwrap_or(u64::MAX)
    };
    Ok(tell_count(&args.which, "replayed", count, &args.letters))
}

async fn purge(queue: &Queue, args: &PurgeArgs) -> Result<u8, Failure> {
    let dead = queue.dead_letters_of(&args.group.group)?;
    let count = match (args.letters.all, args.yes) {
        (true, false) => {
            return Err(Failure::new(exit::USAGE, "purge --all deletes all dead letters for good: say --yes as well"));
        }
        (true, true) => dead.purge_all().await,
        (false, _) => dead.purge(&args.letters.ids).await,
    };
    Ok(tell_count(&args.which, "deleted", count.map_err(failure)?, &args.letters))
}

async fn trim(queue: &Queue, args: &TrimArgs) -> Result<u8, Failure> {
    let what = match (args.older_than, args.to_length) {
        (Some(age), _) => Trim::OlderThan(age),
        (_, Some(length)) => Trim::ToLength(length),
        _ => Trim::Acknowledged,
    };
    let trimmed = queue.trim(what).await.map_err(failure)?;
    let told = Count { schema: 1, what: "removed", count: trimmed.removed };
    say(&args.which, &told, || match trimmed.groups {
        0 => "0 removed: no group has read the queue, so nothing counts as acknowledged".to_owned(),
        _ => format!("{} removed", trimmed.removed),
    });
    Ok(0)
}
