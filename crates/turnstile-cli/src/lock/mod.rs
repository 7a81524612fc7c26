//! `turnstile lock` and `turnstile semaphore`: acquire, run the command, release; and say by the exit code how it went.

mod child;
mod exec;
mod jobs;
mod locks;
mod plan;
pub mod signals;
mod supervise;
mod watch;

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use redis_lock::{AcquireError, ErrorKind, Lease, Lock, ReleaseOutcome};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};

use self::child::Group;
pub use self::child::this_program;
pub use self::exec::exec;
use self::jobs::Jobs;
use self::locks::{Locks, Wanted};
use self::plan::Plan;
use self::signals::Signals;
use self::watch::Loss;
use crate::cli::{LockArgs, RunArgs, SemaphoreArgs};
use crate::events::{Event, Reporter, Style};
use crate::exit::{self, Failure};

/// How long the end of the program waits for the server to confirm that nothing is held.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// A command that is run while something is held.
struct Job<'a> {
    wanted: Wanted<'a>,
    names: Vec<&'a str>,
    run: &'a RunArgs,
    command: &'a [OsString],
}

pub fn run(args: &LockArgs) -> ExitCode {
    start(&Job { wanted: Wanted::Lock(args), names: plan::names(args), run: &args.run, command: &args.command })
}

pub fn run_with_permits(args: &SemaphoreArgs) -> ExitCode {
    let names = vec![args.name.as_str()];
    start(&Job { wanted: Wanted::Permits(args), names, run: &args.run, command: &args.command })
}

fn start(job: &Job<'_>) -> ExitCode {
    // Both before there is another thread.
    jobs::block_ttou();
    let say = Reporter::new(job.run.style());
    let code = runtime().and_then(|runtime| runtime.block_on(lock(job, &say))).unwrap_or_else(|failure| {
        say.tell(&Event::from(&failure));
        failure.code
    });
    say.finish();
    ExitCode::from(code)
}

impl RunArgs {
    /// How much is told.
    pub fn style(&self) -> Style {
        match self {
            Self { json: true, .. } => Style::Json,
            Self { verbose: true, .. } => Style::Verbose,
            Self { quiet: true, .. } => Style::Quiet,
            _ => Style::Normal,
        }
    }
}

/// All on the main thread: the kernel ties the command's life to the thread that starts it.
pub fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(internal)
}

fn internal(error: io::Error) -> Failure {
    Failure::new(exit::SOFTWARE, format!("the system refuses what turnstile needs: {error}"))
}

async fn lock(job: &Job<'_>, say: &Reporter) -> Result<u8, Failure> {
    let plan = Plan::new(job.run)?;
    let names = &job.names;
    let mut signals = Signals::listen().map_err(internal)?;
    let locks = tokio::select! {
        biased;
        signal = signals.next() => return Ok(exit::of_signal(signal)),
        locks = Locks::connect(&job.wanted) => locks?,
    };
    let lock = locks.lock(&job.wanted, names, &plan)?;

    let started = Instant::now();
    let acquired = tokio::select! {
        biased;
        signal = signals.next() => Err(signal),
        lease = acquire(&*lock, &locks, names, &plan, say) => Ok(lease?),
    };
    let lease = match acquired {
        Ok(Asked::Granted(lease)) => lease,
        Ok(Asked::NotInTime { ahead }) => {
            let holders = locks.holders(names).await;
            say.tell(&Event::NotAcquired { names, waited: started.elapsed(), holders, ahead });
            return Ok(job.run.conflict_exit_code);
        }
        Err(signal) => return Ok(give_up(&locks, &mut signals, signal, say).await),
    };
    say.tell(&Event::Acquired {
        names,
        token: lease.fencing_token().get(),
        owner: lease.owner().to_string(),
        waited: started.elapsed(),
    });
    let held_since = Instant::now();
    let code = hold(job, &lease, &plan, &mut signals, say).await;
    let released = release(lease, &locks, held_since, say).await;
    code.map(|code| if released { code } else { exit::LOST })
}

/// What came of asking.
enum Asked {
    Granted(Lease),
    /// Others held it for too long; so many waiters were still before us, where the server keeps a queue.
    NotInTime {
        ahead: Option<u64>,
    },
}

async fn acquire(
    lock: &dyn Lock,
    locks: &Locks,
    names: &[&str],
    plan: &Plan,
    say: &Reporter,
) -> Result<Asked, Failure> {
    let started = Instant::now();
    if let Some(lease) = lock.try_acquire().await? {
        return Ok(Asked::Granted(lease));
    } else if plan.wait == Some(Duration::ZERO) {
        return Ok(Asked::NotInTime { ahead: None });
    }
    if say.style().tells_all() {
        say.tell(&Event::Waiting { names, holders: locks.holders(names).await });
    }
    let Some(limit) = plan.wait else { return Ok(Asked::Granted(lock.acquire().await?)) };
    let limit = limit.saturating_sub(started.elapsed());
    match lock.acquire_timeout(limit).await {
        Ok(lease) => Ok(Asked::Granted(lease)),
        Err(AcquireError::TimedOut { ahead, .. }) => Ok(Asked::NotInTime { ahead }),
        // So shortly after the server refused, no answer within the limit is no sign that it is out of reach.
        Err(AcquireError::Backend { source, .. }) if source.kind() == ErrorKind::TimedOut && limit < ANSWER => {
            Ok(Asked::NotInTime { ahead: None })
        }
        Err(error) => Err(error.into()),
    }
}

/// What others wrote, without what a terminal would obey.
pub fn printable(text: &str) -> String {
    // Those that turn the direction of writing are no control characters by Unicode's classes.
    text.replace(|c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'), " ")
}

/// A signal came while waiting: what was asked for is taken back. Another signal ends that too.
async fn give_up(locks: &Locks, signals: &mut Signals, signal: Signal, say: &Reporter) -> u8 {
    tokio::select! {
        done = timeout(GOODBYE, locks.shutdown()) => {
            if done.is_err() {
                let message = "the server did not confirm that nothing is held here; what is ends within its --ttl".into();
                say.tell(&Event::Warning { message });
            }
        }
        _ = signals.next() => {}
    }
    exit::of_signal(signal)
}

/// Runs the command while the lease is held.
async fn hold(job: &Job<'_>, lease: &Lease, plan: &Plan, signals: &mut Signals, say: &Reporter) -> Result<u8, Failure> {
    if let Some(signal) = signals.pending().await {
        return Ok(exit::of_signal(signal));
    }
    if lease.remaining() <= plan.timing.lead() {
        say.tell(&Event::Lost { reason: Loss::Expired.reason(), action: "the command was not started" });
        return Ok(exit::LOST);
    }
    let (name, owner) = (job.names.join("\n"), lease.owner().to_string());
    let token = lease.fencing_token().to_string();
    let environment = [("TURNSTILE_NAME", &name), ("TURNSTILE_OWNER", &owner), ("TURNSTILE_TOKEN", &token)]
        .map(|(k, v)| (k, OsStr::new(v)));
    let jobs = Jobs::listen().map_err(internal)?;
    let group = Group::start(job.run, job.command, &environment, say).map_err(internal)?;
    let ended = supervise::supervise(group, jobs, lease, plan.timing, signals, say).await.map_err(internal)?;
    say.tell(&Event::Ended { code: ended.status.code(), signal: exit::signal_of(ended.status) });
    Ok(if ended.loss.is_some() { exit::LOST } else { exit::of_status(ended.status) })
}

/// Gives it back. False when it turns out that it was lost before.
async fn release(lease: Lease, locks: &Locks, held_since: Instant, say: &Reporter) -> bool {
    let was_lost = lease.check().is_err();
    let outcome = lease.release().await;
    let held = held_since.elapsed();
    let (held_to_the_end, outcome) = match outcome {
        Ok(ReleaseOutcome::Released) => (!was_lost, "released"),
        Ok(ReleaseOutcome::AlreadyExpired) => (false, "already_expired"),
        Ok(ReleaseOutcome::TakenOver) => (false, "taken_over"),
        Ok(_) => (false, "unknown"),
        Err(error) => {
            if timeout(GOODBYE, locks.shutdown()).await.unwrap_or(false) {
                (!was_lost, "released")
            } else {
                say.tell(&Event::Warning { message: error.to_string() });
                (!was_lost, "unconfirmed")
            }
        }
    };
    say.tell(&Event::Released { outcome, held });
    held_to_the_end
}
