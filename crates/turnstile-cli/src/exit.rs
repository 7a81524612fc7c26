//! The exit codes, all in one place, and the one error that ends in one of them.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use redis_lock::{AcquireError, BackendError, ErrorKind, LockError, WhoError};
use redis_semaphore::SemaphoreError;
use thiserror::Error;

/// `who`: nobody holds it.
pub const FREE: u8 = 1;
/// The command line makes no sense (EX_USAGE).
pub const USAGE: u8 = 64;
/// The server is out of reach, or cannot serve (EX_UNAVAILABLE).
pub const UNAVAILABLE: u8 = 69;
/// A fault of this program, or an answer that it does not know (EX_SOFTWARE).
pub const SOFTWARE: u8 = 70;
/// Not acquired in time: try again later (EX_TEMPFAIL).
pub const NOT_ACQUIRED: u8 = 75;
/// The server refuses these credentials, or forbids a command (EX_NOPERM).
pub const DENIED: u8 = 77;
/// A setting is wrong: the URL, a name, a server that will not do (EX_CONFIG).
pub const CONFIG: u8 = 78;
/// The lock was lost, or so near its end that the command had to be ended.
pub const LOST: u8 = 79;
/// The command could not be run, as in a shell.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command was not found, as in a shell.
pub const NOT_FOUND: u8 = 127;

/// What ended the program otherwise than as asked: a text that says what to do, and its exit code.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn of(kind: ErrorKind, message: String) -> Self {
        let code = match kind {
            ErrorKind::Unreachable | ErrorKind::TimedOut | ErrorKind::NotReady | ErrorKind::OutOfMemory => UNAVAILABLE,
            ErrorKind::Denied => DENIED,
            ErrorKind::WrongType | ErrorKind::Unsupported | ErrorKind::Invalid => CONFIG,
            _ => SOFTWARE,
        };
        Self { code, message }
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::of(error.kind(), error.to_string())
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        match &error {
            AcquireError::TimedOut { .. } => Self::new(NOT_ACQUIRED, error.to_string()),
            AcquireError::Backend { source, .. } => Self::of(source.kind(), error.to_string()),
            _ => Self::new(SOFTWARE, error.to_string()),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::new(CONFIG, error.to_string())
    }
}

impl From<WhoError> for Failure {
    fn from(error: WhoError) -> Self {
        match error {
            WhoError::Redis(error) => BackendError::from(error).into(),
            error => Self::new(CONFIG, error.to_string()),
        }
    }
}

impl From<SemaphoreError> for Failure {
    fn from(error: SemaphoreError) -> Self {
        match error {
            SemaphoreError::NoLimit | SemaphoreError::NoWeight | SemaphoreError::TooHeavy { .. } => {
                Self::new(USAGE, error.to_string())
            }
            error => BackendError::from(error).into(),
        }
    }
}

/// What a shell would make of it: the code, or 128 and the number of the signal.
pub fn of_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(SOFTWARE)
}

/// The number of the signal that ended it.
pub fn signal_of(status: ExitStatus) -> Option<i32> {
    status.signal()
}

/// Ended by that signal before any command ran.
pub fn of_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal as i32).unwrap_or(SOFTWARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_code() {
        let table = [
            (ErrorKind::Unreachable, 69),
            (ErrorKind::TimedOut, 69),
            (ErrorKind::NotReady, 69),
            (ErrorKind::OutOfMemory, 69),
            (ErrorKind::Denied, 77),
            (ErrorKind::WrongType, 78),
            (ErrorKind::Unsupported, 78),
            (ErrorKind::Invalid, 78),
            (ErrorKind::Other, 70),
        ];
        for (kind, code) in table {
            assert_eq!(Failure::from(BackendError::new(kind, "no")).code, code, "{kind:?}");
        }
    }

    #[test]
    fn a_status_is_told_as_a_shell_tells_it() {
        assert_eq!(of_status(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(of_status(ExitStatus::from_raw(9)), 137);
        assert_eq!(of_signal(Signal::SIGINT), 130);
    }
}
