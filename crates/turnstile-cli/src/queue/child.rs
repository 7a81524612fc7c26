//! A job's command, in a process group of its own that ends with it.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use redis_streams::Job;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};
use tokio_util::sync::CancellationToken;

use crate::lock::this_program;

/// So much of what it said last goes to the dead letter.
const TAIL: usize = 2048;

/// All of the group is killed when this goes away.
struct Group(Pid);

impl Group {
    fn signal(&self, signal: Signal) {
        // An error says that it is gone already.
        let _ = killpg(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Runs the command with the job; SIGTERM when `cancelled` fires. How it ended, and what it said last on stderr.
pub async fn run(
    words: &[OsString],
    job: &Job,
    environment: &[(OsString, OsString)],
    cancelled: &CancellationToken,
) -> io::Result<(ExitStatus, String)> {
    let mut command = Command::new(this_program()?);
    command.arg0("turnstile").arg("__exec").arg(format!("--parent={}", std::process::id())).arg("--").args(words);
    command.envs(environment.iter().cloned()).process_group(0).kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let id = child.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw);
    let group = Group(id.ok_or_else(|| io::Error::other("the command has no process id"))?);
    let (input, said) = (child.stdin.take(), child.stderr.take());
    let feed = async {
        if let Some(mut input) = input {
            // A command that does not read its input to the end is no failure.
            let _ = input.write_all(job.body()).await;
        }
    };
    let (status, (), said) = tokio::join!(ended(&mut child, &group, cancelled), feed, pass_on(said));
    Ok((status?, said))
}

async fn ended(child: &mut Child, group: &Group, cancelled: &CancellationToken) -> io::Result<ExitStatus> {
    let status = tokio::select! {
        status = child.wait() => return finish(status, group),
        () = cancelled.cancelled() => {
            group.signal(Signal::SIGTERM);
            child.wait().await
        }
    };
    finish(status, group)
}

/// What it left running would go on beside the next attempt, and keep stderr open.
fn finish(status: io::Result<ExitStatus>, group: &Group) -> io::Result<ExitStatus> {
    group.signal(Signal::SIGKILL);
    status
}

async fn pass_on(said: Option<ChildStderr>) -> String {
    let Some(mut said) = said else { return String::new() };
    let (mut err, mut tail, mut bytes) = (tokio::io::stderr(), Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = said.read(&mut bytes).await {
        // If nobody reads, there is nobody to tell.
        let _ = err.write_all(&bytes[..read]).await;
        tail.extend_from_slice(&bytes[..read]);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
    }
    let _ = err.flush().await;
    String::from_utf8_lossy(&tail).trim().to_owned()
}
