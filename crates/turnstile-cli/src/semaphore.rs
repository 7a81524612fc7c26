//! `turnstile semaphore`: run a command with permits, or change or review what the server keeps.

use std::io::Write;
use std::process::ExitCode;

use redis_semaphore::{Form, Semaphores};

use crate::cli::SemaphoreArgs;
use crate::events::Event;
use crate::exit::Failure;
use crate::lock;

pub fn run(args: &SemaphoreArgs) -> ExitCode {
    if args.set_limit.is_none() && !args.review {
        return lock::run_with_permits(args);
    }
    let done = lock::runtime().and_then(|runtime| runtime.block_on(change(args)));
    match done {
        Ok(text) => {
            // A reader that went away is no failure.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            if let Some(line) = args.run.style().line(&Event::from(&failure)) {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn change(args: &SemaphoreArgs) -> Result<String, Failure> {
    let semaphores = Semaphores::new(args.server.client().await?);
    let state = semaphores.state(&args.name).await?;
    let by_counter = state.form.map_or(args.counter, |form| form == Form::Counter);
    let limit = args.set_limit.or(state.limit).unwrap_or(1);
    let make = if by_counter { Semaphores::by_counter } else { Semaphores::by_set };
    let semaphore = make(&semaphores, &args.name, limit)?;
    if args.review {
        let review = semaphore.review().await?;
        return Ok(format!("{}: {} held, {} counted before", args.name, review.after, review.before));
    }
    semaphore.set_limit(limit).await?;
    let before = state.limit.map_or_else(String::new, |before| format!(", before {before}"));
    Ok(format!("{}: limit {limit}{before}", args.name))
}
