//! Signals to the processes that the testkit started.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sends `signal` to the process `pid`, a child of ours that has not been waited for.
pub(crate) fn send(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid.try_into()?), signal).with_context(|| format!("cannot send {signal} to process {pid}"))
}

/// Stops the child `pid`. On Linux it has stopped when this returns: it runs no further instruction.
pub(crate) fn stop(pid: u32) -> Result<()> {
    send(pid, Signal::SIGSTOP)?;
    #[cfg(target_os = "linux")]
    {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        // WNOWAIT: only looks, and leaves the child's status to whoever waits for it.
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(Pid::from_raw(pid.try_into()?)), flags)
            .with_context(|| format!("cannot see whether process {pid} has stopped"))?;
    }
    Ok(())
}
