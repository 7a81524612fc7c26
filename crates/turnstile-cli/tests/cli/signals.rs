//! Signals: passed on to the command and all of its group, and nothing is started after one.

use std::process::Command;

use anyhow::Result;
use nix::sys::signal::Signal;
use turnstile_testkit::redis::shared;
use turnstile_testkit::unique;

use crate::support::{Running, gone, pid, run, turnstile, until, who};

const PASSED_ON: [(Signal, &str); 6] = [
    (Signal::SIGINT, "INT"),
    (Signal::SIGTERM, "TERM"),
    (Signal::SIGHUP, "HUP"),
    (Signal::SIGQUIT, "QUIT"),
    (Signal::SIGUSR1, "USR1"),
    (Signal::SIGUSR2, "USR2"),
];

#[tokio::test]
async fn each_signal_is_passed_on_and_the_lock_given_back() -> Result<()> {
    let url = shared().await?.url();
    for (signal, word) in PASSED_ON {
        let name = unique(word);
        // Handles it and goes on: the exit code stays the command's.
        let script = format!("trap 'echo got {word}; exit 9' {word}; echo ready; while :; do sleep 0.01; done");
        let mut running = Running::lock(&url, &[&name, "--", "sh", "-c", &script])?;
        running.child.line_with("ready").await?;
        running.child.signal(signal)?;
        running.child.line_with(&format!("got {word}")).await?;
        assert_eq!(running.code().await?, 9, "{word}");
        assert_eq!(who(&url, &name).await?, []);

        // Dies of it: 128 + its number.
        let mut running = Running::lock(&url, &[&name, "--", "sh", "-c", "echo ready; while :; do sleep 0.01; done"])?;
        running.child.line_with("ready").await?;
        running.child.signal(signal)?;
        assert_eq!(running.code().await?, 128 + signal as i32, "{word}");
        assert_eq!(who(&url, &name).await?, []);
    }
    Ok(())
}

#[tokio::test]
async fn the_command_has_a_process_group_of_its_own_and_all_of_it_gets_the_signal() -> Result<()> {
    let url = shared().await?.url();
    let script = "cut -d' ' -f5 /proc/self/stat; echo me $$; sleep 1000 & echo child $!; wait";
    let mut running = Running::lock(&url, &[&unique("group"), "--", "sh", "-c", script])?;
    let group = running.child.line().await.unwrap();
    let me = pid(&running.child.line_with("me").await?)?;
    let grandchild = pid(&running.child.line_with("child").await?)?;
    assert_eq!(group, me.to_string());
    assert_ne!(Some(group), running.child.pid().map(|pid| pid.to_string()));
    running.child.signal(Signal::SIGTERM)?;
    assert_eq!(running.code().await?, 143);
    gone(grandchild).await
}

#[tokio::test]
async fn a_signal_while_waiting_ends_the_wait_and_nothing_is_started_or_left_behind() -> Result<()> {
    let url = shared().await?.url();
    for (signal, word) in PASSED_ON {
        let name = unique(word);
        let mut holder = Running::lock(&url, &[&name, "--", "sh", "-c", "echo held; read -r _"])?;
        holder.child.line_with("held").await?;
        let mut waiter = Running::lock(&url, &["--json", &name, "--", "echo", "started"])?;
        waiter.said("waiting").await?;
        waiter.child.signal(signal)?;
        assert_eq!(waiter.child.line().await, None, "{word}");
        assert_eq!(waiter.code().await?, 128 + signal as i32);
        assert_eq!(who(&url, &name).await?.len(), 1);
        holder.child.say("").await?;
        assert_eq!(holder.code().await?, 0);
        assert_eq!(who(&url, &name).await?, []);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_started_when_the_signal_comes_before_the_grant_is_noticed() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("both"));
    let mut holder = Running::lock(&url, &[&name, "--", "sh", "-c", "echo held; read -r _"])?;
    holder.child.line_with("held").await?;
    let mut waiter = Running::lock(&url, &["--json", &name, "--", "echo", "started"])?;
    waiter.said("waiting").await?;
    // Stopped, it is sent the signal, then the lock comes free, and it finds both.
    waiter.child.stop()?;
    waiter.child.signal(Signal::SIGTERM)?;
    holder.child.say("").await?;
    assert_eq!(holder.code().await?, 0);
    waiter.child.cont()?;
    assert_eq!(waiter.child.line().await, None);
    assert_eq!(waiter.code().await?, 143);
    until("nothing is held", async || Ok(who(&url, &name).await?.is_empty())).await
}

#[tokio::test]
async fn a_signal_that_was_ignored_at_the_start_stays_ignored_by_the_command_too() -> Result<()> {
    let url = shared().await?.url();
    let mut command = Command::new("env");
    command.args(["--ignore-signal=HUP", env!("CARGO_BIN_EXE_turnstile"), "lock", &unique("nohup"), "--", "sh", "-c"]);
    command.args(["grep SigIgn /proc/self/status; echo ready; read -r _; exit 5"]).env("TURNSTILE_REDIS_URL", &url);
    let mut running = Running::start(command)?;
    let mask = running.child.line_with("SigIgn").await?;
    let mask = u64::from_str_radix(mask.rsplit('\t').next().unwrap(), 16)?;
    assert_eq!(mask & 1, 1, "{mask:b}");
    running.child.line_with("ready").await?;
    running.child.signal(Signal::SIGHUP)?;
    running.child.say("").await?;
    assert_eq!(running.code().await?, 5);
    Ok(())
}

#[tokio::test]
async fn the_command_finds_signals_as_it_would_without_us() -> Result<()> {
    let url = shared().await?.url();
    let args = ["lock", &unique("mask"), "--", "grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    let with = run(turnstile(&url, &args)).await?;
    // The same `env` in front, which sets signals right.
    let mut without = Command::new("env");
    without.arg("--default-signal=INT,QUIT,HUP,TERM,USR1,USR2").args(&args[3..]);
    assert_eq!(with.out, run(without).await?.out);
    Ok(())
}

#[tokio::test]
async fn a_command_that_starts_something_in_the_background_does_not_keep_the_lock() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("daemon"));
    let mut running =
        Running::start(turnstile(&url, &["lock", &name, "--", "sh", "-c", "sleep 1000 >/dev/null & echo child $!"]))?;
    let daemon = pid(&running.child.line_with("child").await?)?;
    assert_eq!(running.code().await?, 0);
    assert_eq!(who(&url, &name).await?, []);
    nix::sys::signal::kill(daemon, Signal::SIGKILL)?;
    Ok(())
}
