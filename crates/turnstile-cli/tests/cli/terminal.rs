//! On a terminal, which `script` makes, the command works as if it had been started without us.

use std::process::Command;

use anyhow::Result;
use turnstile_testkit::redis::shared;
use turnstile_testkit::unique;

use crate::support::{Running, is_gone, pid, who};

/// Uses nothing but what is built into the shell: it can be stopped at any time. `me` is not in its own text.
const READER: &str = "sh -c 'echo m\"\"e $$; while read -r x; do echo got-$x; done'";
const INTERRUPT: &str = "\u{3}";
const SUSPEND: &str = "\u{1a}";
const END: &str = "\u{4}";

async fn terminal(command: &str) -> Result<Running> {
    let mut script = Command::new("env");
    script.args(["--default-signal=INT,QUIT,HUP,TERM", "script", "-qec", command, "/dev/null"]);
    script.env("TURNSTILE_REDIS_URL", shared().await?.url()).env("TERM", "dumb").env("PS1", "> ");
    Running::start(script)
}

fn turnstile(args: &str) -> String {
    format!("{} {args}", env!("CARGO_BIN_EXE_turnstile"))
}

#[tokio::test]
async fn the_command_reads_from_the_terminal() -> Result<()> {
    for redirected in ["", " | cat", " 3>/dev/null"] {
        let line = turnstile(&format!("lock {} -- {READER}{redirected}", unique("reads")));
        let mut running = terminal(&line).await?;
        running.child.line_with("me ").await?;
        running.child.say("hello").await?;
        running.child.line_with("got-hello").await?;
        running.child.say(END).await?;
        assert_eq!(running.code().await?, 0, "{redirected}");
    }
    Ok(())
}

#[tokio::test]
async fn ctrl_c_reaches_the_command_and_the_lock_is_given_back() -> Result<()> {
    let name = unique("interrupt");
    let mut running = terminal(&turnstile(&format!("lock {name} -- {READER}"))).await?;
    running.child.line_with("me ").await?;
    running.child.say(INTERRUPT).await?;
    assert_eq!(running.code().await?, 130);
    assert_eq!(who(&shared().await?.url(), &name).await?, []);
    Ok(())
}

#[tokio::test]
async fn ctrl_z_stops_the_job_and_fg_continues_it() -> Result<()> {
    let name = unique("suspend");
    let mut shell = terminal("bash --norc -i").await?;
    shell.child.say(&turnstile(&format!("lock {name} -- {READER}; echo code=$?"))).await?;
    shell.child.line_with("me ").await?;
    for word in ["one", "two"] {
        shell.child.say(SUSPEND).await?;
        shell.child.line_with("Stopped").await?;
        shell.child.say(&turnstile(&format!("lock -nq {name} -- true; echo code=$?"))).await?;
        shell.child.line_with("code=75").await?;
        shell.child.say("fg").await?;
        // What `fg` prints before it hands the terminal over.
        until_line(&mut shell, |line| line.contains("turnstile lock") && !line.contains('>')).await?;
        shell.child.say(word).await?;
        shell.child.line_with(&format!("got-{word}")).await?;
    }
    shell.child.say(END).await?;
    shell.child.say("exit 4").await?;
    assert_eq!(shell.code().await?, 4);
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_suspended_for_longer_than_its_ttl_does_not_go_on() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("suspended"));
    let mut shell = terminal("bash --norc -i").await?;
    shell.child.say(&turnstile(&format!("lock --ttl 3s {name} -- {READER}"))).await?;
    let me = pid(&shell.child.line_with("me ").await?)?;
    shell.child.say(SUSPEND).await?;
    shell.child.line_with("Stopped").await?;
    crate::support::until("the lock is free", async || Ok(who(&url, &name).await?.is_empty())).await?;
    assert!(!is_gone(me));
    shell.child.say("fg; echo code=$?").await?;
    shell.child.line_with("code=79").await?;
    assert!(is_gone(me));
    shell.child.say("exit 4").await?;
    assert_eq!(shell.code().await?, 4);
    Ok(())
}

async fn until_line(running: &mut Running, is: impl Fn(&str) -> bool) -> Result<()> {
    loop {
        let line = running.child.line_with("").await?;
        if is(&line) {
            return Ok(());
        }
    }
}
