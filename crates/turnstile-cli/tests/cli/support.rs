//! How the tests run the command.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use redis_lock::{Holder, RedisLocks};
use serde_json::Value;
use turnstile_testkit::child::Child;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// `turnstile` with these arguments, on the server at `url`.
///
/// A test may have been started to ignore signals, as a script's background jobs are: `env` undoes that.
pub fn turnstile(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,QUIT,HUP,TERM,USR1,USR2", env!("CARGO_BIN_EXE_turnstile")]);
    command.args(args).env("TURNSTILE_REDIS_URL", url);
    command
}

/// How it ended.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs it to its end, with nothing on its standard input.
pub async fn run(mut command: Command) -> Result<Done> {
    command.stdin(Stdio::null());
    let running = tokio::process::Command::from(command).kill_on_drop(true).output();
    let done = tokio::time::timeout(LIMIT, running).await.context("it did not end")??;
    let text = |bytes| String::from_utf8(bytes).context("not UTF-8");
    Ok(Done {
        code: done.status.code().context("ended by a signal")?,
        out: text(done.stdout)?,
        err: text(done.stderr)?,
    })
}

pub async fn run_args(url: &str, args: &[&str]) -> Result<Done> {
    run(turnstile(url, args)).await
}

/// A running `turnstile` whose words go to a file.
pub struct Running {
    pub child: Child,
    err: File,
    said: String,
}

impl Running {
    pub fn start(mut command: Command) -> Result<Self> {
        let err = tempfile::NamedTempFile::new()?;
        command.stderr(err.reopen()?);
        Ok(Self { child: Child::spawn(command)?, err: err.into_file(), said: String::new() })
    }

    pub fn lock(url: &str, args: &[&str]) -> Result<Self> {
        Self::start(turnstile(url, &[&["lock"], args].concat()))
    }

    /// Its exit code and what it said on stderr, as JSON events.
    pub async fn end(mut self) -> Result<(i32, Vec<Value>)> {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await.context("it did not end")??;
        self.err.read_to_string(&mut self.said)?;
        let code = status.code().with_context(|| format!("ended by a signal: {status}"))?;
        Ok((code, events(&self.said)?))
    }

    /// Waits until it has said `event` on stderr.
    pub async fn said(&mut self, event: &str) -> Result<()> {
        until(event, async || {
            self.err.read_to_string(&mut self.said)?;
            Ok(self.said.contains(&format!("{{\"event\":\"{event}\"")))
        })
        .await
    }

    pub async fn code(self) -> Result<i32> {
        Ok(self.end().await?.0)
    }
}

/// Every line of JSON; other lines are the command's own.
pub fn events(text: &str) -> Result<Vec<Value>> {
    let json = text.lines().filter(|line| line.starts_with('{'));
    json.map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
}

/// The one event of that kind.
pub fn the<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = events.iter().filter(|event| event["event"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind} in {events:#?}");
    found[0]
}

/// Looks again and again until `condition` holds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let looking = async {
        while !condition().await? {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, looking).await.with_context(|| format!("never: {what}"))?
}

/// Waits until a process is gone, waited for by its parent or by init.
pub async fn gone(pid: Pid) -> Result<()> {
    until("the process is gone", async || Ok(is_gone(pid))).await
}

/// Whether it is gone, or a corpse that nobody has waited for yet.
pub fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let dead = stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])));
    dead || kill(pid, None) == Err(Errno::ESRCH)
}

/// The process id in a line such as `pid 42`.
pub fn pid(line: &str) -> Result<Pid> {
    let number = line.rsplit(' ').next().context("an empty line")?;
    Ok(Pid::from_raw(number.trim().parse()?))
}

/// Who holds `name`, by the server's word.
pub async fn who(url: &str, name: &str) -> Result<Vec<Holder>> {
    Ok(RedisLocks::new(redis_lock::Client::connect(url).await?).who(name).await?)
}
