//! What cleans up when this process is gone, however it went.
//!
//! `Drop` does not run for a static, nor in a process that is killed. So for each thing that must not outlive us there
//! is a shell that does nothing but wait for the end of its standard input, a pipe whose other end only we hold. The
//! kernel closes it when we die of whatever cause; then the shell cleans up.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A shell command that runs once this process has died; dropped in time, it never runs.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Runs `script` with `sh`, and `args` as `$1`, `$2`, …, when this process is gone.
    pub(crate) fn new(script: &str, args: &[&str]) -> Result<Self> {
        Command::new("sh")
            .args(["-c", &format!("read -r _; {script}"), "turnstile-testkit-guard"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Ctrl-C at a terminal ends us, and must leave the guard to do its work.
            .process_group(0)
            .spawn()
            .map(Self)
            .context("cannot start `sh`, which the testkit needs to clean up after itself")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Killed before its input ends: the script does not run. Neither call can fail in a way that matters.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
