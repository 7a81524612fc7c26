//! The inner half of `turnstile lock`: the process that becomes the command.

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use crate::cli::ExecArgs;
use crate::events::{Event, Style};
use crate::exit;

/// Becomes the command; returns only if that fails.
///
/// On Linux the kernel kills it when the one who renews its lock dies, by SIGKILL too: it is gone before the lock is
/// another's. What it has started by then is not.
pub fn exec(args: &ExecArgs) -> ExitCode {
    #[cfg(target_os = "linux")]
    if !args.outlive && nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        return failed(args, exit::NOT_EXECUTABLE, "cannot tie the command's life to this process".into());
    }
    if getppid().as_raw() != args.parent {
        // It died before we were tied to it.
        return ExitCode::from(exit::SOFTWARE);
    }
    // Blocked by `lock` for itself alone.
    let _ = SigSet::from(Signal::SIGTTOU).thread_unblock();
    let Some((program, rest)) = args.command.split_first() else { return ExitCode::from(exit::USAGE) };
    let error = Command::new(program).args(rest).exec();
    let code = if error.kind() == ErrorKind::NotFound { exit::NOT_FOUND } else { exit::NOT_EXECUTABLE };
    failed(args, code, format!("cannot run {}: {error}", program.display()))
}

fn failed(args: &ExecArgs, code: u8, message: String) -> ExitCode {
    let style = if args.json { Style::Json } else { Style::Normal };
    if let Some(line) = style.line(&Event::Error { code, message }) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    ExitCode::from(code)
}
