//! The command, in a process group of its own.
//!
//! What is started is this program again, which then becomes the command (see [`exec`](super::exec())): so the command
//! can be told by the kernel of our death without unsafe code here.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::cli::{OnLost, RunArgs};
use crate::events::{Event, Reporter};

/// The command and what it started, as far as that stayed in its process group.
pub struct Group<'a> {
    child: tokio::process::Child,
    id: Pid,
    say: &'a Reporter,
}

impl<'a> Group<'a> {
    /// Starts it with these variables in its environment.
    pub fn start(
        args: &RunArgs,
        words: &[OsString],
        environment: &[(&str, &OsStr)],
        say: &'a Reporter,
    ) -> io::Result<Self> {
        let mut command = Command::new(this_program()?);
        command.arg0("turnstile").arg("__exec").arg(format!("--parent={}", std::process::id()));
        if args.on_lost == OnLost::Ignore {
            command.arg("--outlive");
        }
        if args.json {
            command.arg("--json");
        }
        command.arg("--").args(words).envs(environment.iter().copied()).process_group(0).kill_on_drop(true);
        let child = command.spawn()?;
        let id = child.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the command has no process id"))?;
        Ok(Self { child, id, say })
    }

    /// The id of the group, and of its first process.
    pub fn id(&self) -> Pid {
        self.id
    }

    /// Sends it to all of the group.
    pub fn signal(&self, signal: Signal) {
        match killpg(self.id, signal) {
            // Gone already.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => {
                let message =
                    format!("cannot send {signal} to the command: {error}; if it runs as another user, it runs on");
                self.say.tell(&Event::Warning { message });
            }
        }
    }

    /// Whether any process of the group is left, one that ended and was not waited for included.
    pub fn is_alive(&self) -> bool {
        killpg(self.id, None) != Err(Errno::ESRCH)
    }

    /// Waits for the command itself. Cancelling this changes nothing.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// On Linux by a name that stays right when the file is replaced while we wait for the lock.
pub fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}
