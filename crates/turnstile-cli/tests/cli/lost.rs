//! A lost lock: the command is ended before the lock is another's, and the exit code says so.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use redis_lua::{Client, redis::cmd};
use turnstile_testkit::proxy::Direction;
use turnstile_testkit::redis::{Redis, shared};
use turnstile_testkit::unique;

use crate::support::{Running, gone, is_gone, pid, the, until, who};

/// Says its process ids, and goes on until it is killed, whatever it is told; so does its child.
const STUBBORN: &str = "trap 'echo told to end' TERM; echo me $$
    sh -c 'trap \"\" TERM; echo child $$; while :; do sleep 0.1; done' & while :; do sleep 0.1; done";

#[tokio::test]
async fn a_command_that_cannot_be_renewed_is_told_to_end_and_does_so_before_the_lock_ends() -> Result<()> {
    let proxy = shared().await?.proxy().await?;
    let (url, name) = (shared().await?.url(), unique("term"));
    let script = "trap 'echo cleaning up; exit 0' TERM; echo me $$; while :; do sleep 0.01; done";
    let mut running = Running::lock(&proxy.url(), &["--json", "--ttl", "3s", &name, "--", "sh", "-c", script])?;
    let me = pid(&running.child.line_with("me").await?)?;
    let owner = who(&url, &name).await?[0].owner.clone();
    proxy.half_open();
    running.child.line_with("cleaning up").await?;
    gone(me).await?;
    assert_eq!(who(&url, &name).await?[0].owner, owner, "the command lived longer than its lock");
    let (code, events) = running.end().await?;
    assert_eq!(code, 79);
    assert_eq!(the(&events, "lost")["reason"], "unrenewed");
    assert_eq!(the(&events, "ended")["code"], 0);
    Ok(())
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_with_its_children_before_the_lock_ends() -> Result<()> {
    let proxy = shared().await?.proxy().await?;
    let (url, name) = (shared().await?.url(), unique("kill"));
    let mut running =
        Running::lock(&proxy.url(), &["--json", "--ttl", "10s", "--grace", "2s", &name, "--", "sh", "-c", STUBBORN])?;
    let me = pid(&running.child.line_with("me").await?)?;
    let child = pid(&running.child.line_with("child").await?)?;
    proxy.half_open();
    running.child.line_with("told to end").await?;
    gone(me).await?;
    gone(child).await?;
    assert_eq!(who(&url, &name).await?.len(), 1, "the command lived longer than its lock");
    let (code, events) = running.end().await?;
    assert_eq!(code, 79);
    assert_eq!(the(&events, "ended")["signal"], 9);
    Ok(())
}

#[tokio::test]
async fn what_a_command_leaves_behind_as_it_ends_is_killed_before_the_lock_ends() -> Result<()> {
    let proxy = shared().await?.proxy().await?;
    let (url, name) = (shared().await?.url(), unique("left"));
    let script = "sh -c 'trap \"\" TERM; echo child $$; while :; do sleep 0.01; done' & exec sleep 1000";
    let mut running = Running::lock(&proxy.url(), &["--ttl", "10s", "--grace", "2s", &name, "--", "sh", "-c", script])?;
    let child = pid(&running.child.line_with("child").await?)?;
    proxy.half_open();
    gone(child).await?;
    assert_eq!(who(&url, &name).await?.len(), 1, "the command lived longer than its lock");
    assert_eq!(running.code().await?, 79);
    Ok(())
}

#[tokio::test]
async fn on_lost_kill_kills_without_a_word_before_the_lock_ends() -> Result<()> {
    let proxy = shared().await?.proxy().await?;
    let (url, name) = (shared().await?.url(), unique("kill"));
    let options = ["--ttl", "10s", "--on-lost", "kill", &name, "--", "sh", "-c", STUBBORN];
    let mut running = Running::lock(&proxy.url(), &options)?;
    let me = pid(&running.child.line_with("me").await?)?;
    let child = pid(&running.child.line_with("child").await?)?;
    proxy.half_open();
    gone(me).await?;
    gone(child).await?;
    assert_eq!(who(&url, &name).await?.len(), 1, "the command lived longer than its lock");
    running.child.line_with("told to end").await.unwrap_err();
    assert_eq!(running.code().await?, 79);
    Ok(())
}

#[tokio::test]
async fn on_lost_ignore_lets_the_command_run_on_and_tells_at_the_end() -> Result<()> {
    let proxy = shared().await?.proxy().await?;
    let (url, name) = (shared().await?.url(), unique("ignore"));
    let script = "echo me; read -r _; echo done";
    let options = ["--json", "--ttl", "1s", "--on-lost", "ignore", &name, "--", "sh", "-c", script];
    let mut running = Running::lock(&proxy.url(), &options)?;
    running.child.line_with("me").await?;
    proxy.half_open();
    running.said("lost").await?;
    until("the lock is free", async || Ok(who(&url, &name).await?.is_empty())).await?;
    running.child.say("").await?;
    running.child.line_with("done").await?;
    let (code, events) = running.end().await?;
    assert_eq!((code, the(&events, "ended")["code"].as_i64()), (79, Some(0)));
    Ok(())
}

#[tokio::test]
async fn a_revoked_lock_ends_the_command_at_once() -> Result<()> {
    let server = Redis::start().await?;
    for order in ["FLUSHALL", "DEL", "SET"] {
        let mut running =
            Running::lock(&server.url(), &["--json", "--ttl", "3s", "--grace", "1s", "x", "--", "sh", "-c", STUBBORN])?;
        running.child.line_with("child").await?;
        let mut cmd = cmd(order);
        match order {
            "DEL" => cmd.arg("{x}"),
            "SET" => cmd.arg("{x}").arg("another's"),
            _ => &mut cmd,
        };
        Client::connect(server.url()).await?.run::<redis_lua::redis::Value>(&cmd).await?;
        running.child.line_with("told to end").await?;
        let (code, events) = running.end().await?;
        assert_eq!((code, the(&events, "lost")["reason"].as_str()), (79, Some("revoked")), "{order}");
    }
    Ok(())
}

#[tokio::test]
async fn a_loss_that_is_noticed_only_at_the_release_is_79_even_if_the_command_exited_0() -> Result<()> {
    let server = Redis::start().await?;
    let client = Client::connect(server.url()).await?;
    for after in ["", "another's"] {
        let mut running = Running::lock(&server.url(), &["--json", "x", "--", "sh", "-c", "echo held; read -r _"])?;
        running.child.line_with("held").await?;
        client.run::<()>(&cmd("FLUSHALL")).await?;
        if !after.is_empty() {
            client.run::<()>(cmd("SET").arg("{x}").arg(after)).await?;
        }
        running.child.say("").await?;
        let (code, events) = running.end().await?;
        assert_eq!((code, the(&events, "ended")["code"].as_i64()), (79, Some(0)), "{events:?}");
        assert_ne!(the(&events, "released")["outcome"], "released");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_dies_for_good_ends_the_command() -> Result<()> {
    let mut server = Redis::start().await?;
    let mut running = Running::lock(&server.url(), &["--json", "--ttl", "3s", "x", "--", "sh", "-c", STUBBORN])?;
    running.child.line_with("child").await?;
    server.kill().await?;
    running.child.line_with("told to end").await?;
    let (code, events) = running.end().await?;
    assert_eq!(code, 79);
    assert_eq!(the(&events, "released")["outcome"], "unconfirmed");
    Ok(())
}

#[tokio::test]
async fn a_server_that_restarts_in_time_with_its_data_costs_nothing() -> Result<()> {
    let mut server = Redis::builder().config("appendonly", "yes").config("appendfsync", "always").start().await?;
    let mut running =
        Running::lock(&server.url(), &["--json", "--ttl", "9s", "x", "--", "sh", "-c", "echo held; read -r _"])?;
    running.child.line_with("held").await?;
    server.restart().await?;
    // Until it was renewed: by then, it would have ended by itself.
    let full = Duration::from_secs(5);
    until("held for longer than its ttl", async || {
        let holders = who(&server.url(), "x").await?;
        Ok(holders.iter().any(|holder| holder.held_for > full && holder.remaining > Some(full)))
    })
    .await?;
    running.child.say("").await?;
    let (code, events) = running.end().await?;
    assert_eq!((code, the(&events, "released")["outcome"].as_str()), (0, Some("released")));
    Ok(())
}

#[tokio::test]
async fn cut_connections_and_forgotten_scripts_cost_nothing() -> Result<()> {
    let server = Redis::start().await?;
    let client = Client::connect(server.url()).await?;
    let mut running = Running::lock(&server.url(), &["--ttl", "3s", "x", "--", "sh", "-c", "echo held; read -r _"])?;
    running.child.line_with("held").await?;
    until("held for longer than its ttl", async || {
        client.run::<()>(cmd("SCRIPT").arg("FLUSH")).await?;
        client.run::<i64>(cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])).await?;
        // A connection that is made in answer to this has that long to renew.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(who(&server.url(), "x").await?.iter().any(|holder| holder.held_for > Duration::from_secs(4)))
    })
    .await?;
    running.child.say("").await?;
    assert_eq!(running.code().await?, 0);
    Ok(())
}

#[tokio::test]
async fn stopped_past_its_ttl_it_kills_the_command_as_soon_as_it_goes_on() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("stopped"));
    let mut running = Running::lock(&url, &["--json", "--ttl", "2s", &name, "--", "sh", "-c", STUBBORN])?;
    let me = pid(&running.child.line_with("me").await?)?;
    let child = pid(&running.child.line_with("child").await?)?;
    running.child.stop()?;
    until("the lock is free", async || Ok(who(&url, &name).await?.is_empty())).await?;
    // Nobody was there to end it: this is what fencing tokens are for.
    assert!(!is_gone(me));
    running.child.cont()?;
    gone(me).await?;
    gone(child).await?;
    let (code, events) = running.end().await?;
    assert_eq!(code, 79);
    assert_eq!(the(&events, "lost")["reason"], "expired");
    assert_eq!(the(&events, "ended")["signal"], 9);
    Ok(())
}

#[tokio::test]
async fn nothing_is_started_when_too_little_of_the_lock_is_left_to_end_it_in_time() -> Result<()> {
    let (url, name, proxy) = (shared().await?.url(), unique("late"), shared().await?.proxy().await?);
    let mut holder = Running::lock(&url, &[&name, "--", "sh", "-c", "echo held; read -r _"])?;
    holder.child.line_with("held").await?;
    let options = ["--json", "--ttl", "1500ms", "--grace", "750ms", &name, "--", "echo", "started"];
    let mut waiter = Running::lock(&proxy.url(), &options)?;
    waiter.said("waiting").await?;
    // The grant is known so late that TERM would be due.
    proxy.delay(Direction::ToClient, Duration::from_millis(850));
    holder.child.say("").await?;
    assert_eq!(waiter.child.line().await, None);
    let (code, events) = waiter.end().await?;
    assert_eq!((code, the(&events, "lost")["action"].as_str()), (79, Some("the command was not started")));
    assert_eq!(the(&events, "released")["outcome"], "released");
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_turnstile_takes_the_command_with_it() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("killed"));
    let mut running =
        Running::lock(&url, &[&name, "--", "sh", "-c", "trap '' TERM; echo me $$; while :; do sleep 0.01; done"])?;
    let me = pid(&running.child.line_with("me").await?)?;
    running.child.signal(Signal::SIGKILL)?;
    gone(me).await?;
    assert_eq!(who(&url, &name).await?.len(), 1, "the command lived longer than its lock");
    Ok(())
}
