//! A `redis-server` of the PATH as a local process on loopback.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::ping;
use crate::guard::Guard;
use crate::{ports, runtime, signals};

/// The program to run; `TURNSTILE_REDIS_SERVER` names another one, such as a newer Redis or a Valkey.
fn program() -> String {
    std::env::var("TURNSTILE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// One server process and its folder. Both end with it, and with us.
pub(crate) struct Process {
    args: Vec<String>,
    pub(crate) port: u16,
    running: Option<Running>,
    dir: TempDir,
}

struct Running {
    pid: u32,
    child: Arc<Mutex<Child>>,
    _guard: Guard,
}

impl Process {
    /// Starts a server with the given options on a free port, and waits until it answers.
    pub(crate) async fn start(args: Vec<String>) -> Result<Self> {
        for _ in 0..10 {
            let port = ports::free(ports::SERVERS)?;
            let dir = tempfile::Builder::new().prefix("turnstile-redis-").tempdir()?;
            let mut process = Self { args: args.clone(), port, running: None, dir };
            match process.run().await {
                // Somebody else took the port in the meantime.
                Err(error) if error.to_string().contains("Address already in use") => continue,
                done => return done.map(|()| process),
            }
        }
        Err(anyhow!("each of ten ports was taken by others while redis-server started"))
    }

    /// Starts the process again if it does not run, on the same port with the same options and folder.
    pub(crate) async fn run(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let (program, log, port) = (program(), self.dir.path().join("log"), self.port);
        let child = Command::new(&program)
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--logfile", "log", "--dir"])
            .arg(self.dir.path())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C at a terminal is for us, not for the server.
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("there is no `{program}` on the PATH; `./justw setup` brings it")
            }
            Err(error) => return Err(error).with_context(|| format!("cannot start `{program}`")),
        };
        let (id, dir) = (child.id(), self.dir.path().to_string_lossy());
        let guard = Guard::new("kill -s KILL \"$1\"; rm -rf \"$2\"", &[&id.to_string(), &dir])?;
        let child = Arc::new(Mutex::new(child));
        self.running = Some(Running { child: child.clone(), pid: id, _guard: guard });
        let alive = move || match child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()? {
            Some(status) => {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                Err(anyhow!("`{program}` ended at once ({status}): {}", ping::last_lines(&log)))
            }
            None => Ok(()),
        };
        let ready = runtime::run(async move { ping::ready("127.0.0.1", port, alive).await });
        let ready = ready.await;
        if ready.is_err() {
            self.kill();
        }
        ready
    }

    /// The process id, or an error when it does not run.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.running.as_ref().map(|running| running.pid).context("this Redis was killed; restart it first")
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
            let mut child = running.child.lock().unwrap_or_else(PoisonError::into_inner);
            // Neither fails in a way that matters: the child is ours, and may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
