//! Other processes that hold a lease, so that a test can stop or kill a whole holder.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::guard::Guard;
use crate::{runtime, signals};

/// How long [`Child::line_with`] waits.
const LIMIT: Duration = Duration::from_secs(30);

/// A running program whose lines on standard output are its events. Dropping this kills it and its process group; it
/// also dies when this process does, however that happens.
#[derive(Debug)]
pub struct Child {
    name: String,
    // First, so that it is gone before the process is waited for and its id may become another's.
    guard: Option<Guard>,
    process: tokio::process::Child,
    input: ChildStdin,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Child {
    /// Starts `command` in a process group of its own, with its standard input and output connected to this; standard
    /// error stays as `command` has it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
    /// use std::process::Command;
    /// use turnstile_testkit::child::Child;
    ///
    /// let mut child = Child::spawn(Command::new("cat"))?;
    /// child.say("held").await?;
    /// assert_eq!(child.line().await.as_deref(), Some("held"));
    /// child.kill()?;
    /// assert!(!child.wait().await?.success());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(command: std::process::Command) -> Result<Self> {
        let runtime = runtime::handle()?;
        // The process belongs to the testkit's runtime, and may be awaited in any.
        let _entered = runtime.enter();
        let name = command.get_program().to_string_lossy().into_owned();
        let mut process = Command::from(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{name}`"))?;
        let pid = process.id().with_context(|| format!("`{name}` is gone"))?;
        let guard = Guard::new("kill -s KILL -- \"-$1\"", &[&pid.to_string()])?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let (input, output) = (input.context("no standard input")?, output.context("no standard output")?);
        let (sender, lines) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            let mut read = BufReader::new(output).lines();
            while let Ok(Some(line)) = read.next_line().await {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name, guard: Some(guard), process, input, lines })
    }

    /// Its process id, until it has been waited for.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// The next line that it prints; `None` when it prints no more. Cancelling this loses no line.
    pub async fn line(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Reads lines until one contains `part`, and gives that one.
    ///
    /// # Errors
    /// When there is none within 30 seconds, or no more lines; the text has the lines that came instead.
    pub async fn line_with(&mut self, part: &str) -> Result<String> {
        let mut seen = Vec::new();
        loop {
            match timeout(LIMIT, self.line()).await {
                Ok(Some(line)) if line.contains(part) => return Ok(line),
                Ok(Some(line)) => seen.push(line),
                Ok(None) => bail!("`{}` ended its output without {part:?}; it said {seen:?}", self.name),
                Err(_) => bail!("`{}` did not say {part:?} within {LIMIT:?}; it said {seen:?}", self.name),
            }
        }
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When it reads no more.
    pub async fn say(&mut self, line: &str) -> Result<()> {
        let said = self.input.write_all(format!("{line}\n").as_bytes()).await;
        said.with_context(|| format!("`{}` does not read", self.name))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has been waited for.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signals::send(self.live()?, signal)
    }

    /// Stops it (SIGSTOP), all its threads. On Linux it has stopped, or ended, when this returns.
    ///
    /// # Errors
    /// When it has been waited for.
    pub fn stop(&self) -> Result<()> {
        signals::stop(self.live()?)
    }

    /// Lets it go on after [`Child::stop`] (SIGCONT).
    ///
    /// # Errors
    /// When it has been waited for.
    pub fn cont(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Kills it (SIGKILL), stopped or not, but not what it started. [`Child::wait`] tells when it has ended.
    ///
    /// # Errors
    /// When it has been waited for.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Waits for its end and says how it ended. Cancelling this changes nothing.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.process.wait().await?;
        self.guard = None;
        Ok(status)
    }

    fn live(&self) -> Result<u32> {
        self.pid().with_context(|| format!("`{}` has ended", self.name))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().and_then(|pid| pid.try_into().ok()) {
            // An error means that the group is gone already.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.guard = None;
    }
}
