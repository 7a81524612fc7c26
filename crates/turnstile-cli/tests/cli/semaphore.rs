//! `semaphore`: so many at a time, in order; limits that are refused and changed; what `who` tells of it.

use anyhow::{Context, Result};
use redis_lua::redis::cmd;
use redis_semaphore::{Client, Semaphores, State};
use serde_json::Value;
use turnstile_testkit::redis::shared;
use turnstile_testkit::unique;

use crate::support::{Running, run_args, the, turnstile, until};

const STAYS: [&str; 3] = ["sh", "-c", "echo held; read -r _"];

async fn start(url: &str, args: &[&str]) -> Result<Running> {
    Running::start(turnstile(url, &[&["semaphore"], args].concat()))
}

/// A command that holds until it is told to end.
async fn holder(url: &str, args: &[&str]) -> Result<Running> {
    let mut holder = start(url, &[args, &["--"], &STAYS].concat()).await?;
    holder.child.line_with("held").await?;
    Ok(holder)
}

async fn ends(mut holder: Running) -> Result<()> {
    holder.child.say("").await?;
    assert_eq!(holder.code().await?, 0);
    Ok(())
}

async fn state(url: &str, name: &str) -> Result<State> {
    Ok(Semaphores::new(Client::connect(url).await?).state(name).await?)
}

async fn queued(url: &str, name: &str, waiters: usize) -> Result<()> {
    until("they stand in the queue", async || Ok(state(url, name).await?.queue.len() == waiters)).await
}

#[tokio::test]
async fn so_many_run_at_a_time_and_the_next_is_the_first_that_came() -> Result<()> {
    for form in [&[][..], &["--counter"]] {
        let (url, name) = (shared().await?.url(), unique("three"));
        let args = |more: &[&'static str]| [&[name.as_str(), "-l", "3"], form, more].concat();
        let one = holder(&url, &args(&[])).await?;
        let two = holder(&url, &args(&["--weight", "2"])).await?;
        let refused = run_args(&url, &[&["semaphore"], &args(&["-n", "--", "echo", "ran"])[..]].concat()).await?;
        assert_eq!((refused.code, refused.out.as_str()), (75, ""), "{}", refused.err);
        assert!(refused.err.contains("held by "), "{}", refused.err);

        let mut heavy = start(&url, &[&args(&["--weight", "3", "--"])[..], &STAYS].concat()).await?;
        queued(&url, &name, 1).await?;
        let mut light = start(&url, &[&args(&["--"])[..], &STAYS].concat()).await?;
        queued(&url, &name, 2).await?;
        ends(one).await?;
        // One is free: not for the light one behind the heavy one, unless it keeps to no order.
        let refused = run_args(&url, &[&["semaphore"], &args(&["-n", "--", "true"])[..]].concat()).await?;
        assert_eq!(refused.code, 75, "{}", refused.err);
        let passes = run_args(&url, &[&["semaphore"], &args(&["--unfair", "-n", "--", "true"])[..]].concat()).await?;
        assert_eq!(passes.code, 0, "{}", passes.err);
        ends(two).await?;
        heavy.child.line_with("held").await?;
        assert_eq!(state(&url, &name).await?.queue.len(), 1);
        ends(heavy).await?;
        light.child.line_with("held").await?;
        ends(light).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_limit_is_the_servers_and_is_changed_on_purpose() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("limit"));
    let held = holder(&url, &[&name, "-l", "2"]).await?;
    let other = run_args(&url, &["semaphore", &name, "-l", "5", "--", "echo", "ran"]).await?;
    assert_eq!((other.code, other.out.as_str()), (78, ""));
    assert!(other.err.contains("has the limit 2, and this caller says 5"), "{}", other.err);
    let other = run_args(&url, &["semaphore", &name, "-l", "2", "--counter", "--", "echo", "ran"]).await?;
    assert_eq!((other.code, other.out.as_str()), (78, ""));
    assert!(other.err.contains("semaphore by set"), "{}", other.err);
    let any = run_args(&url, &["semaphore", &name, "-l", "5", "--any-limit", "--", "true"]).await?;
    assert_eq!(any.code, 0, "{}", any.err);

    let changed = run_args(&url, &["semaphore", &name, "--set-limit", "5"]).await?;
    assert_eq!(
        (changed.code, changed.out.trim()),
        (0, format!("{name}: limit 5, before 2").as_str()),
        "{}",
        changed.err
    );
    let five = run_args(&url, &["semaphore", &name, "-l", "5", "--weight", "4", "--", "true"]).await?;
    assert_eq!(five.code, 0, "{}", five.err);
    let reviewed = run_args(&url, &["semaphore", &name, "--review"]).await?;
    assert_eq!((reviewed.code, reviewed.out.trim()), (0, format!("{name}: 1 held, 1 counted before").as_str()));
    ends(held).await
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_refused() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("bad"));
    for args in [
        &["-l", "0", "--", "true"][..],
        &["-l", "2", "--weight", "0", "--", "true"],
        &["-l", "2", "--weight", "3", "--", "true"],
        &["-l", "2"],
        &["--", "true"],
        &["--set-limit", "0"],
        &["--set-limit", "3", "--", "true"],
        &["--review", "-l", "3"],
    ] {
        let done = run_args(&url, &[&["semaphore", &name], args].concat()).await?;
        assert_eq!((done.code, done.out.as_str()), (64, ""), "{args:?}: {}", done.err);
    }
    assert_eq!(state(&url, &name).await?.limit, None, "nothing was done");
    Ok(())
}

#[tokio::test]
async fn who_tells_of_permits_and_of_the_queue() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("who"));
    let free = run_args(&url, &["who", &name]).await?;
    assert_eq!((free.code, free.out.trim()), (1, format!("{name}: free").as_str()));
    let held = holder(&url, &[&name, "-l", "3", "--weight", "2"]).await?;
    let waiter = start(&url, &[&name, "-l", "3", "--weight", "3", "--", "true"]).await?;
    queued(&url, &name, 1).await?;

    let words = run_args(&url, &["who", &name]).await?;
    assert_eq!(words.code, 0);
    let lines: Vec<&str> = words.out.lines().collect();
    assert_eq!(lines[0], format!("{name}: 2 of 3 permits held"));
    assert!(lines[1].starts_with(&format!("{name}: 2 held by ")), "{lines:?}");
    assert!(
        lines[2].starts_with(&format!("{name}: place 1 in the queue: ")) && lines[2].contains("waits for 3"),
        "{lines:?}"
    );
    let json: Value = serde_json::from_str(&run_args(&url, &["who", "--json", &name]).await?.out)?;
    assert_eq!((json["limit"].as_u64(), json["holders"][0]["weight"].as_u64()), (Some(3), Some(2)));
    assert_eq!(json["queue"][0]["weight"].as_u64(), Some(3));

    ends(held).await?;
    assert_eq!(waiter.code().await?, 0);
    Ok(())
}

#[tokio::test]
async fn who_tells_of_the_queue_of_a_fair_lock() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("who-fair"));
    let mut held = Running::lock(&url, &[&["--fair", &name, "--"][..], &STAYS].concat())?;
    held.child.line_with("held").await?;
    let waiter = Running::lock(&url, &["--fair", "--json", &name, "--", "true"])?;
    let locks = redis_pubsub_lock::FairLocks::new(Client::connect(&url).await?);
    until("it stands in the queue", async || Ok(locks.queue(&name).await?.len() == 1)).await?;
    let words = run_args(&url, &["who", &name]).await?;
    assert_eq!((words.code, words.out.lines().count()), (0, 2), "{}", words.out);
    let json: Value = serde_json::from_str(&run_args(&url, &["who", "--json", &name]).await?.out)?;
    let label = json["queue"][0]["label"].as_str().context("no label")?;
    assert!(words.out.lines().nth(1).is_some_and(|line| line.contains(label)), "{}", words.out);
    ends(held).await?;
    let (code, events) = waiter.end().await?;
    assert_eq!((code, the(&events, "released")["outcome"].as_str()), (0, Some("released")));
    Ok(())
}

#[tokio::test]
async fn what_another_version_has_left_is_told_as_such_and_nothing_runs() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("version"));
    let client = Client::connect(&url).await?;
    let mut semaphore = cmd("HSET");
    semaphore.arg(format!("{{{name}}}")).arg(&["version", "0", "limit", "2"]);
    client.run::<u32>(&semaphore).await?;
    let queue = format!("{name}-queue");
    client.run::<u32>(cmd("ZADD").arg(format!("{{{queue}}}:queue")).arg(1).arg("somebody")).await?;
    client.run::<u32>(cmd("HSET").arg(format!("{{{queue}}}:waiting")).arg(&["v", "0"])).await?;
    for (args, says) in [
        (&["semaphore", &name, "-l", "2", "--", "echo", "ran"][..], "version \"0\""),
        (&["semaphore", &name, "--set-limit", "3"], "version \"0\""),
        (&["who", &name], "version \"0\""),
        (&["lock", "--fair", &queue, "--", "echo", "ran"], "run one version"),
        (&["who", &queue], "run one version"),
    ] {
        let done = run_args(&url, args).await?;
        assert_eq!((done.code, done.out.as_str()), (78, ""), "{args:?}: {}", done.err);
        assert!(done.err.contains(says), "{args:?}: {}", done.err);
    }
    Ok(())
}
