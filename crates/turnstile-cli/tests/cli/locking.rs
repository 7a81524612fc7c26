//! What the lock does: it excludes, shares, takes several names, and is given back.

use std::time::Duration;

use anyhow::Result;
use turnstile_testkit::redis::shared;
use turnstile_testkit::unique;

use crate::support::{Running, run_args, until, who};

const HOLD: [&str; 4] = ["--", "sh", "-c", "echo held; read -r _"];

async fn holder(url: &str, options: &[&str]) -> Result<Running> {
    let mut holder = Running::lock(url, &[options, &HOLD].concat())?;
    holder.child.line_with("held").await?;
    Ok(holder)
}

async fn is_free(url: &str, options: &[&str]) -> Result<bool> {
    let done = run_args(url, &[&["lock", "-nq"], options, &["--", "true"]].concat()).await?;
    assert!([0, 75].contains(&done.code), "{done:?}");
    Ok(done.code == 0)
}

#[tokio::test]
async fn two_commands_of_one_lock_never_run_at_once() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("count"));
    let dir = tempfile::tempdir()?;
    let count = dir.path().join("count");
    std::fs::write(&count, "0")?;
    // Reads, lets others run, and writes: without a lock, increments are lost.
    let script = "n=$(cat \"$1\"); sleep 0.01; echo $((n + 1)) > \"$1\"";
    let file = count.to_string_lossy();
    let args = ["lock", &name, "--", "sh", "-c", script, "sh", &file];
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (url, args) = (url.clone(), args.map(str::to_owned));
        all.spawn(async move {
            for _ in 0..5 {
                let done = run_args(&url, &args.each_ref().map(String::as_str)).await?;
                assert_eq!(done.code, 0, "{done:?}");
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    assert_eq!(std::fs::read_to_string(&count)?.trim(), "20");
    Ok(())
}

#[tokio::test]
async fn the_lock_is_given_back_when_the_command_ends() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("back"));
    for script in ["true", "exit 3", "kill -KILL $$", "no-such-command"] {
        run_args(&url, &["lock", &name, "--", "sh", "-c", script]).await?;
        assert_eq!(who(&url, &name).await?, [], "{script}");
    }
    Ok(())
}

#[tokio::test]
async fn who_waits_long_enough_gets_it() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("wait"));
    let mut first = holder(&url, &[&name]).await?;
    let mut waiters = vec![
        Running::lock(&url, &["--json", &name, "--", "true"])?,
        Running::lock(&url, &["--json", "-w", "50s", &name, "--", "true"])?,
    ];
    for waiter in &mut waiters {
        waiter.said("waiting").await?;
    }
    first.child.say("").await?;
    for waiter in waiters {
        assert_eq!(waiter.code().await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn readers_share_and_a_writer_is_alone() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("shared"));
    let mut reader = holder(&url, &["-s", &name]).await?;
    assert!(is_free(&url, &["--shared", &name]).await?);
    assert!(!is_free(&url, &[&name]).await?);
    reader.child.say("").await?;
    assert_eq!(reader.code().await?, 0);

    let mut writer = holder(&url, &[&name]).await?;
    assert!(!is_free(&url, &["-s", &name]).await?);
    writer.child.say("").await?;
    assert_eq!(writer.code().await?, 0);
    assert!(is_free(&url, &[&name]).await?);
    Ok(())
}

#[tokio::test]
async fn several_names_are_locked_all_or_none() -> Result<()> {
    let url = shared().await?.url();
    let [a, b, c] = ["a", "b", "c"].map(unique);
    let mut one = holder(&url, &[&b]).await?;
    assert!(!is_free(&url, &[&a, "--name", &b, "--name", &c]).await?);
    assert!(is_free(&url, &[&a]).await?, "what could not be had as a whole left something behind");
    one.child.say("").await?;
    assert_eq!(one.code().await?, 0);

    let mut all = holder(&url, &[&a, "--name", &b, "--name", &c, "--name", &a]).await?;
    for name in [&a, &b, &c] {
        assert!(!is_free(&url, &[name]).await?);
    }
    all.child.say("").await?;
    assert_eq!(all.code().await?, 0);
    for name in [&a, &b, &c] {
        assert!(is_free(&url, &[name]).await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_lock_is_renewed_for_as_long_as_the_command_runs() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("renewed"));
    let mut long = holder(&url, &["--ttl", "1500ms", &name]).await?;
    let ttl = Duration::from_millis(1500);
    until("held for twice its ttl", async || {
        Ok(who(&url, &name).await?.iter().any(|holder| holder.held_for > ttl * 2))
    })
    .await?;
    long.child.say("").await?;
    assert_eq!(long.code().await?, 0);
    Ok(())
}
