//! `turnstile queue work`: a worker whose handler runs a command.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use async_trait::async_trait;
use redis_streams::{AtLimit, Attempt, Handler, Job, Outcome, Queue, RetryPolicy, RunError, Shutdown};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Order, WorkArgs};
use super::{child, failure};
use crate::exit::{self, Failure};

/// The command says by this code that the job will never work (EX_DATAERR).
const NEVER: i32 = 65;
/// How often `--exit-when-empty` looks.
const LOOK: Duration = Duration::from_millis(200);

struct Runs {
    queue: String,
    command: Vec<OsString>,
}

#[async_trait]
impl Handler<Job> for Runs {
    async fn handle(&self, job: &Job, attempt: Attempt<'_>) -> Outcome {
        let environment = environment(&self.queue, job, attempt.number().get());
        match child::run(&self.command, job, &environment, attempt.cancelled()).await {
            Ok((status, _)) if status.success() => Outcome::Done,
            Ok((status, said)) => {
                let said = if said.is_empty() { said } else { format!(": {said}") };
                let error = io::Error::other(format!("the command ended with {status}{said}"));
                match status.code() {
                    Some(NEVER) => Outcome::DeadLetter(error.into()),
                    _ => Outcome::retry(error),
                }
            }
            Err(error) => Outcome::retry(error),
        }
    }
}

fn environment(queue: &str, job: &Job, attempt: u32) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("TURNSTILE_QUEUE".into(), queue.into()),
        ("TURNSTILE_JOB".into(), job.id().to_string().into()),
        ("TURNSTILE_ATTEMPT".into(), attempt.to_string().into()),
    ];
    if let Some(key) = job.key().filter(|key| !key.contains(&0)) {
        variables.push(("TURNSTILE_KEY".into(), OsString::from_vec(key.to_vec())));
    }
    for (name, value) in job.fields() {
        // A variable holds no zero byte; a job's own fields are all but those of this crate.
        if name.starts_with(b"@") || &**name == b"body" || value.contains(&0) {
            continue;
        }
        let letter = |byte: &u8| if byte.is_ascii_alphanumeric() { char::from(byte.to_ascii_uppercase()) } else { '_' };
        let name: String = name.iter().map(letter).collect();
        variables.push((format!("TURNSTILE_FIELD_{name}").into(), OsString::from_vec(value.to_vec())));
    }
    variables
}

/// What `--json` prints at the end.
#[derive(Serialize)]
struct Done<'a> {
    schema: u8,
    queue: &'a str,
    done: u64,
    retries: u64,
    dead_letters: u64,
    handed_back: u64,
}

pub async fn run(queue: Queue, args: &WorkArgs) -> Result<u8, Failure> {
    let handler = Runs { queue: args.which.name.clone(), command: args.command.clone() };
    let order = match args.order {
        Order::None => redis_streams::Order::None,
        Order::Key => redis_streams::Order::ByKey,
        Order::Sequential => redis_streams::Order::Sequential,
    };
    let mut builder = queue
        .worker_builder()
        .group(&args.group.group)
        .concurrency(args.concurrency.into())
        .retries(RetryPolicy::new(args.max_attempts, AtLimit::DeadLetter))
        .order(order)
        .alive_for(args.alive_for);
    if let Some(limit) = args.timeout {
        builder = builder.timeout(limit);
    }
    let worker = builder.handler(handler).map_err(|error| Failure::new(exit::USAGE, error.to_string()))?;
    let shutdown = Shutdown::new(args.grace);
    let on_signal = shutdown.clone();
    let streams = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = streams else {
        return Err(Failure::new(exit::SOFTWARE, "cannot listen for signals"));
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        on_signal.begin();
    });
    if args.exit_when_empty {
        let (queue, group, when_empty) = (queue.clone(), args.group.group.clone(), shutdown.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let stats = queue.stats_of(&group).await;
                if stats.is_ok_and(|stats| stats.unread == Some(0) && stats.pending == 0 && stats.delayed == 0) {
                    when_empty.begin();
                }
            }
        });
    }
    let report = match worker.run(shutdown).await {
        Ok(report) => report,
        Err(RunError::Redis(error)) => return Err(failure(error)),
        Err(error) => return Err(Failure::new(exit::CONFIG, error.to_string())),
    };
    let (done, retries, dead) = (report.done, report.retries, report.dead_letters);
    let text = if args.which.json {
        let queue = &*args.which.name;
        let done = Done { schema: 1, queue, done, retries, dead_letters: dead, handed_back: report.handed_back };
        serde_json::to_string(&done).unwrap_or_default()
    } else {
        format!("turnstile: {done} done, {retries} tried again, {dead} set aside, {} handed back", report.handed_back)
    };
    let _ = writeln!(io::stderr(), "{text}");
    Ok(0)
}
