//! A server's program as a local process with a folder of its own.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::guard::Guard;
use crate::signals;

/// One server process, which can be started again, and its folder. Both end with it, and with us.
pub(crate) struct Process {
    /// What it is, for errors' texts: `Redis`.
    what: &'static str,
    running: Option<Running>,
    dir: TempDir,
}

struct Running {
    pid: u32,
    child: Arc<Mutex<Child>>,
    _guard: Guard,
}

impl Process {
    /// A folder, and no process in it yet.
    pub(crate) fn new(what: &'static str) -> Result<Self> {
        let prefix = format!("turnstile-{}-", what.to_lowercase());
        Ok(Self { what, running: None, dir: tempfile::Builder::new().prefix(&prefix).tempdir()? })
    }

    /// Its folder, which stays when the process is killed. `log` in it is shown when it ends at once.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts `command`, unless one runs. What comes back tells whether it still lives, and if not, its last words.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<impl FnMut() -> Result<()> + Send + use<>> {
        let program = command.get_program().to_string_lossy().into_owned();
        let running = match &self.running {
            Some(running) => running,
            None => {
                let child = command
                    .stdin(Stdio::null())
                    .process_group(0) // Ctrl-C at a terminal is for us, not for the server.
                    .spawn();
                let child = match child {
                    Ok(child) => child,
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        bail!("there is no `{program}` on the PATH; `./justw setup` brings it")
                    }
                    Err(error) => return Err(error).with_context(|| format!("cannot start `{program}`")),
                };
                let (pid, dir) = (child.id(), self.dir.path().to_string_lossy());
                let child = Arc::new(Mutex::new(child));
                let script = "kill -s KILL \"$1\"; rm -rf \"$2\"";
                let guard = Guard::new(script, &[&pid.to_string(), &dir]).inspect_err(|_| end(&child))?;
                self.running.insert(Running { pid, child, _guard: guard })
            }
        };
        let (child, what, log) = (running.child.clone(), self.what, self.dir.path().join("log"));
        Ok(move || match child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()? {
            Some(status) => {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                Err(anyhow!("{what} (`{program}`) ended at once ({status}): {}", last_lines(&log)))
            }
            None => Ok(()),
        })
    }

    /// Whether it was started and not killed since.
    pub(crate) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// The process id, or an error when it does not run.
    fn pid(&self) -> Result<u32> {
        let running = self.running.as_ref().map(|running| running.pid);
        running.with_context(|| format!("this {} was killed; restart it first", self.what))
    }

    pub(crate) fn stop(&self) -> Result<()> {
        signals::stop(self.pid()?)
    }

    pub(crate) fn cont(&self) -> Result<()> {
        signals::send(self.pid()?, Signal::SIGCONT)
    }

    /// Ends it by SIGKILL and waits for its end.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            end(&running.child);
        }
    }
}

/// Neither call fails in a way that matters: the child is ours, and may have ended already.
fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of a server's log without Java's back traces, for an error's text.
pub(crate) fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().filter(|line| !line.starts_with("\tat ")).collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
