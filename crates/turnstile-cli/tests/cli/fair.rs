//! `lock --fair`: the order of arrival over processes, and the place that is told at the limit.

use anyhow::Result;
use redis_pubsub_lock::{Client, FairLocks};
use turnstile_testkit::redis::shared;
use turnstile_testkit::unique;

use crate::support::{Running, run_args, the, until};

async fn holder(url: &str, name: &str) -> Result<Running> {
    let mut holder = Running::lock(url, &["--fair", name, "--", "sh", "-c", "echo held; read -r _"])?;
    holder.child.line_with("held").await?;
    Ok(holder)
}

/// Waits until so many stand in the queue.
async fn queued(url: &str, name: &str, waiters: usize) -> Result<()> {
    let locks = FairLocks::new(Client::connect(url).await?);
    until("they stand in the queue", async || Ok(locks.queue(name).await?.len() == waiters)).await
}

#[tokio::test]
async fn waiting_commands_run_in_the_order_in_which_they_came() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("order"));
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("order");
    let mut first = holder(&url, &name).await?;
    let mut waiters = Vec::new();
    for number in ["1", "2", "3", "4"] {
        let script = "echo \"$1\" >> \"$2\"";
        let path = file.to_string_lossy();
        waiters.push(Running::lock(&url, &["--fair", &name, "--", "sh", "-c", script, "sh", number, &path])?);
        queued(&url, &name, waiters.len()).await?;
    }
    first.child.say("").await?;
    assert_eq!(first.code().await?, 0);
    for waiter in waiters {
        assert_eq!(waiter.code().await?, 0);
    }
    assert_eq!(std::fs::read_to_string(&file)?, "1\n2\n3\n4\n");
    Ok(())
}

#[tokio::test]
async fn a_later_one_does_not_pass_who_came_first_and_without_fair_it_does() -> Result<()> {
    for fair in [true, false] {
        let (url, name) = (shared().await?.url(), unique("pass"));
        let options = if fair { &["--fair"][..] } else { &[] };
        let script = ["sh", "-c", "echo held; read -r _"];
        let mut held = Running::lock(&url, &[options, &[&name, "--"], &script].concat())?;
        held.child.line_with("held").await?;
        let mut waiter = Running::lock(&url, &[options, &["--json", &name, "--", "true"]].concat())?;
        waiter.said("waiting").await?;
        if fair {
            queued(&url, &name, 1).await?;
        }
        waiter.child.stop()?;
        held.child.say("").await?;
        assert_eq!(held.code().await?, 0);
        let later = run_args(&url, &[&["lock"], options, &["-n", &name, "--", "true"]].concat()).await?;
        assert_eq!(later.code, if fair { 75 } else { 0 }, "{}", later.err);
        waiter.child.cont()?;
        assert_eq!(waiter.code().await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn at_the_limit_the_place_in_the_queue_is_told() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("place"));
    let mut first = holder(&url, &name).await?;
    let mut second = Running::lock(&url, &["--fair", &name, "--", "true"])?;
    queued(&url, &name, 1).await?;

    let words = run_args(&url, &["lock", "--fair", "-w", "300ms", &name, "--", "echo", "ran"]).await?;
    assert_eq!((words.code, words.out.as_str()), (75, ""), "{}", words.err);
    assert!(words.err.contains("place 2 in the queue") && words.err.contains(", held by "), "{}", words.err);
    let json = Running::lock(&url, &["--json", "--fair", "-w", "300ms", &name, "--", "echo", "ran"])?;
    let (code, events) = json.end().await?;
    assert_eq!((code, the(&events, "not_acquired")["ahead"].as_u64()), (75, Some(1)), "{events:?}");
    let at_once = run_args(&url, &["lock", "--fair", "-n", "-E", "9", &name, "--", "echo", "ran"]).await?;
    assert_eq!((at_once.code, at_once.out.as_str()), (9, ""), "{}", at_once.err);
    queued(&url, &name, 1).await?;

    first.child.say("").await?;
    assert_eq!((first.code().await?, second.child.wait().await?.code()), (0, Some(0)));
    Ok(())
}

#[tokio::test]
async fn a_waiter_that_is_told_to_end_leaves_the_queue() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("leave"));
    let mut first = holder(&url, &name).await?;
    let waiter = Running::lock(&url, &["--fair", &name, "--", "true"])?;
    queued(&url, &name, 1).await?;
    waiter.child.signal(nix::sys::signal::Signal::SIGTERM)?;
    assert_eq!(waiter.code().await?, 143);
    queued(&url, &name, 0).await?;
    first.child.say("").await?;
    assert_eq!(first.code().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_fair_lock_has_no_readers_and_one_name() -> Result<()> {
    let url = shared().await?.url();
    for options in [&["-s"][..], &["--name", "y"]] {
        let done = run_args(&url, &[&["lock", "--fair"], options, &["x", "--", "true"]].concat()).await?;
        assert_eq!(done.code, 64, "{options:?}: {}", done.err);
        assert!(done.err.contains("--fair"), "{}", done.err);
    }
    let done = run_args(&url, &["lock", "--fair", "{}", "--", "true"]).await?;
    assert_eq!(done.code, 78, "{}", done.err);
    Ok(())
}
