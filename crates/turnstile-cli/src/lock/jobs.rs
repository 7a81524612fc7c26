//! Job control: the command has a process group of its own, and still is to read from the terminal, and to be stopped
//! by Ctrl-Z and continued by `fg` and `bg`, as if it had been started without us.
//!
//! The model is a shell with one job. The command's group gets the terminal at the start if we have it and our input
//! and output are it, and else when the command first asks for it. When the command is stopped, we take the terminal
//! back and stop too; continued, we hand it over again. Nothing is renewed while we are stopped. So if the lease has
//! ended meanwhile the command is not continued but ended.
//!
//! Writing to the terminal from the background needs SIGTTOU to be blocked: [`block_ttou`], before there are threads.

use std::fs::File;
use std::io::{self, IsTerminal};

use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use tokio::signal::unix::{self, SignalKind};

use super::child::Group;
use super::watch::Watch;

/// So that giving the terminal away and taking it back, and words on stderr meanwhile, do not stop us.
pub fn block_ttou() {
    // Fails for a bad argument alone.
    let _ = SigSet::from(Signal::SIGTTOU).thread_block();
}

/// What may have changed.
pub enum Happened {
    /// A child was stopped, continued, or ended.
    Child,
    /// We are asked to stop (SIGTSTP).
    Stop,
    /// We were continued (SIGCONT).
    Continued,
}

pub struct Jobs {
    terminal: Option<File>,
    /// Whether the command works with the terminal from the start.
    interactive: bool,
    given: bool,
    child: unix::Signal,
    stop: unix::Signal,
    continued: unix::Signal,
}

impl Jobs {
    /// Before the command is started, so that nothing it does is missed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminal: File::options().read(true).write(true).open("/dev/tty").ok(),
            interactive: io::stdin().is_terminal() && io::stdout().is_terminal(),
            given: false,
            child: unix::signal(SignalKind::child())?,
            stop: unix::signal(SignalKind::from_raw(Signal::SIGTSTP as i32))?,
            continued: unix::signal(SignalKind::from_raw(Signal::SIGCONT as i32))?,
        })
    }

    /// The command was started.
    pub fn begin(&mut self, group: &Group<'_>) {
        if self.interactive {
            self.give(group.id());
        }
    }

    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Happened {
        tokio::select! {
            _ = self.child.recv() => Happened::Child,
            _ = self.stop.recv() => Happened::Stop,
            _ = self.continued.recv() => Happened::Continued,
        }
    }

    pub async fn handle(&mut self, happened: Happened, group: &Group<'_>, watch: &Watch<'_>) {
        match happened {
            Happened::Stop => group.signal(Signal::SIGTSTP),
            Happened::Continued => self.go_on(group, watch),
            Happened::Child => match stopped_by(group.id()) {
                Some(Signal::SIGTTIN | Signal::SIGTTOU) if self.give(group.id()) => group.signal(Signal::SIGCONT),
                Some(signal @ (Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU)) => {
                    self.stop_too(signal, group, watch).await;
                }
                // Stopped by name, or not at all: the lock stays held.
                _ => {}
            },
        }
    }

    /// The command has ended: the terminal is ours again.
    pub fn finish(&mut self) {
        self.take();
    }

    /// Gives the terminal to the command if it is ours to give; true if it has it now. One that asked for it just
    /// before it got it is stopped all the same.
    fn give(&mut self, command: Pid) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        let Ok(owner) = tcgetpgrp(terminal) else { return false };
        let has_it = owner == command || (owner == getpgrp() && tcsetpgrp(terminal, command).is_ok());
        self.given |= has_it;
        has_it
    }

    fn take(&mut self) {
        if let Some(terminal) = &self.terminal
            && std::mem::take(&mut self.given)
        {
            // An error means that the terminal is gone.
            let _ = tcsetpgrp(terminal, getpgrp());
        }
    }

    /// Stops us and the rest of our job, as the kernel would have without us, until the shell continues us.
    async fn stop_too(&mut self, signal: Signal, group: &Group<'_>, watch: &Watch<'_>) {
        self.take();
        // Any that stops and that we do not catch. The kernel drops it where no shell could continue us.
        let _ = killpg(getpgrp(), Signal::SIGTTIN);
        // Here again when continued, or never stopped. In the first case SIGCONT is pending.
        tokio::task::yield_now().await;
        let continued = tokio::time::timeout(std::time::Duration::ZERO, self.continued.recv()).await.is_ok();
        if !continued && signal != Signal::SIGTSTP {
            // It can never have the terminal. That is what the kernel does to stopped groups that nobody can continue.
            group.signal(Signal::SIGHUP);
        }
        self.go_on(group, watch);
    }

    fn go_on(&mut self, group: &Group<'_>, watch: &Watch<'_>) {
        if watch.lost_by_now().is_some() {
            return; // The watch ends it, stopped as it is.
        }
        if self.interactive {
            self.give(group.id());
        }
        group.signal(Signal::SIGCONT);
    }
}

/// The signal that has just stopped the command.
fn stopped_by(command: Pid) -> Option<Signal> {
    match waitid(Id::Pid(command), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG) {
        Ok(WaitStatus::Stopped(_, signal)) => Some(signal),
        _ => None,
    }
}
