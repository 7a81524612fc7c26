//! `queue`: adding, working with a command, and looking after dead letters.

use std::process::Stdio;

use anyhow::{Context, Result};
use redis_streams::{Client, Queue, Stats};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use turnstile_testkit::child::Child;
use turnstile_testkit::redis::shared;
use turnstile_testkit::unique;

use crate::support::{Done, Running, gone, run_args, turnstile, until};

/// One queue of the shared server, by the command.
struct Scene {
    url: String,
    name: String,
    queue: Queue,
}

impl Scene {
    async fn new() -> Result<Self> {
        let (url, name) = (shared().await?.url(), unique("queue"));
        let queue = Queue::new(Client::connect(&url).await?, &name)?;
        Ok(Self { url, name, queue })
    }

    async fn run(&self, what: &str, args: &[&str]) -> Result<Done> {
        run_args(&self.url, &[&["queue", what, &self.name], args].concat()).await
    }

    /// Works until nothing is left.
    async fn work(&self, options: &[&str], script: &str) -> Result<Done> {
        let args = [&["--exit-when-empty"], options, &["--", "sh", "-c", script]].concat();
        let done = self.run("work", &args).await?;
        assert_eq!(done.code, 0, "{}", done.err);
        Ok(done)
    }

    fn start(&self, options: &[&str], script: &str) -> Result<Running> {
        let args = [&["queue", "work", &self.name], options, &["--", "sh", "-c", script]].concat();
        Running::start(turnstile(&self.url, &args))
    }

    async fn stats(&self) -> Result<Stats> {
        Ok(self.queue.stats().await?)
    }

    async fn add_input(&self, args: &[&str], input: &[u8]) -> Result<String> {
        let mut command: tokio::process::Command =
            turnstile(&self.url, &[&["queue", "add", &self.name], args].concat()).into();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        child.stdin.take().context("no input")?.write_all(input).await?;
        Ok(String::from_utf8(child.wait_with_output().await?.stdout)?)
    }
}

#[tokio::test]
async fn a_command_gets_the_job_and_its_exit_code_says_what_becomes_of_it() -> Result<()> {
    let scene = Scene::new().await?;
    let added = scene.run("add", &["good", "--key", "k 1", "--field", "due-date=to day"]).await?;
    let id = added.out.trim();
    assert!(id.contains('-') && added.code == 0, "{added:?}");
    for body in ["never", "flaky", "bad"] {
        scene.run("add", &[body]).await?;
    }
    let script = r#"body=$(cat)
        case $body,$TURNSTILE_ATTEMPT in
            good,*) echo "$TURNSTILE_QUEUE|$TURNSTILE_JOB|$TURNSTILE_ATTEMPT|$TURNSTILE_KEY|$TURNSTILE_FIELD_DUE_DATE" ;;
            never,*) echo "cannot be" >&2; exit 65 ;;
            flaky,1) kill -9 $$ ;;
            bad,*) echo "attempt $TURNSTILE_ATTEMPT" >&2; exit 3 ;;
        esac"#;
    let done = scene.work(&["--max-attempts", "2", "--concurrency", "2"], script).await?;
    assert_eq!(done.out, format!("{}|{id}|1|k 1|to day\n", scene.name));
    assert!(done.err.contains("cannot be") && done.err.contains("2 done, 2 tried again, 2 set aside"), "{}", done.err);

    let dead = scene.run("dead", &["--json"]).await?;
    let letters: Vec<Value> = dead.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(letters.len(), 2);
    assert_eq!((&letters[0]["fields"][0][1], &letters[0]["attempts"]), (&"never".into(), &1.into()));
    assert_eq!((&letters[1]["fields"][0][1], &letters[1]["attempts"]), (&"bad".into(), &2.into()));
    let error = letters[1]["error"].as_str().unwrap_or_default();
    assert!(error.contains("exit status: 3") && error.contains("attempt 2"), "{error}");

    let id = letters[0]["id"].as_str().context("no id")?;
    let replayed = scene.run("replay", &[id]).await?;
    assert_eq!((replayed.code, replayed.out.as_str()), (0, "1 replayed\n"));
    assert_eq!(scene.run("replay", &[id]).await?.code, 1);
    assert_eq!(scene.work(&[], "cat").await?.out, "never");
    let refused = scene.run("purge", &["--all"]).await?;
    assert!(refused.code == 64 && refused.err.contains("--yes"), "{}", refused.err);
    assert_eq!(scene.run("purge", &["--all", "--yes"]).await?.out, "1 deleted\n");
    assert_eq!(scene.run("dead", &[]).await?.code, 1);
    Ok(())
}

#[tokio::test]
async fn jobs_come_from_the_input_as_a_whole_or_by_line() -> Result<()> {
    let scene = Scene::new().await?;
    let binary: Vec<u8> = (0..=255).collect();
    scene.add_input(&[], &binary).await?;
    let out = tempfile::NamedTempFile::new()?;
    scene.work(&[], &format!("cat > {}", out.path().display())).await?;
    assert_eq!(std::fs::read(out.path())?, binary);

    let lines: Vec<String> = (0..1_000).map(|n| format!("line {n}")).collect();
    let told = scene.add_input(&["--lines"], lines.join("\n").as_bytes()).await?;
    assert_eq!(told.lines().count(), 1_000);
    assert_eq!(scene.stats().await?.length, 1_000);
    let full = scene.run("add", &["more", "--limit", "1000"]).await?;
    assert!(full.code == 75 && full.err.contains("full"), "{full:?}");

    let scene = Scene::new().await?;
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(scene.run("add", &["x", "--dedup", "one", "--json"]).await?.out.parse::<Value>()?["added"].clone());
    }
    assert_eq!(told, ["queued", "duplicate"]);
    let delayed = scene.run("add", &["x", "--delay", "1h"]).await?;
    assert!(delayed.out.starts_with("delayed 2"), "{}", delayed.out);
    let stat: Value = scene.run("stat", &["--json"]).await?.out.parse()?;
    assert_eq!((&stat["length"], &stat["delayed"], &stat["schema"]), (&1.into(), &1.into(), &1.into()));
    let stat = scene.run("stat", &[]).await?;
    assert!(stat.out.contains("! no worker is alive"), "{}", stat.out);
    let trimmed = scene.run("trim", &["--to-length", "0"]).await?;
    assert!(trimmed.code == 0 && trimmed.out.starts_with("0 removed"), "{trimmed:?}");
    Ok(())
}

/// The id that a command printed.
async fn pid(worker: &mut Child) -> Result<nix::unistd::Pid> {
    let line = worker.line_with("pid ").await?;
    Ok(nix::unistd::Pid::from_raw(line.trim_start_matches("pid ").parse()?))
}

#[tokio::test]
async fn a_command_beyond_its_time_limit_is_killed_with_all_that_it_started() -> Result<()> {
    let scene = Scene::new().await?;
    scene.run("add", &["slow"]).await?;
    let script = "trap '' TERM; sleep 1000 & echo pid $!; wait";
    let mut worker = scene.start(&["--timeout", "300ms", "--max-attempts", "1"], script)?;
    gone(pid(&mut worker.child).await?).await?;
    until("it is set aside", async || Ok(scene.stats().await?.dead == 1)).await?;
    let letters = scene.queue.dead_letters().list(None, 1).await?;
    assert!(letters[0].error.contains("longer than"), "{}", letters[0].error);
    worker.child.signal(nix::sys::signal::Signal::SIGTERM)?;
    assert_eq!(worker.code().await?, 0);
    Ok(())
}

#[tokio::test]
async fn at_sigterm_the_command_may_finish_and_else_its_job_goes_to_another_worker() -> Result<()> {
    let scene = Scene::new().await?;
    scene.run("add", &["job"]).await?;
    // Its dead are taken over only after an hour: whoever gets the job has it handed back.
    let options = ["--alive-for", "1h", "--grace", "1s"];
    let mut first = scene.start(&options, "trap 'echo told' TERM; echo begun; while :; do sleep 0.05; done")?;
    first.child.line_with("begun").await?;
    let mut second = scene.start(&options, "echo attempt $TURNSTILE_ATTEMPT; cat")?;
    until("both are there", async || Ok(scene.stats().await?.workers.len() == 2)).await?;
    first.child.signal(nix::sys::signal::Signal::SIGTERM)?;
    first.child.line_with("told").await?;
    second.child.line_with("attempt 1").await?;
    assert_eq!(first.code().await?, 0);
    second.child.signal(nix::sys::signal::Signal::SIGINT)?;
    assert_eq!(second.code().await?, 0);
    until("it is done", async || Ok(scene.stats().await?.length == 0)).await
}

#[tokio::test]
async fn what_cannot_be_is_told_by_code_and_word() -> Result<()> {
    let scene = Scene::new().await?;
    let client = Client::connect(&scene.url).await?;
    client.run::<()>(redis_lua::redis::cmd("SET").arg(scene.queue.name().as_key()).arg("text")).await?;
    for (what, args) in [("add", &["x"][..]), ("work", &["--", "true"]), ("stat", &[])] {
        let done = scene.run(what, args).await?;
        assert!(done.code == 78 && done.err.contains("another type"), "{what}: {done:?}");
    }
    let nobody = run_args("redis://127.0.0.1:1", &["queue", "add", "q", "x"]).await?;
    assert_eq!(nobody.code, 69, "{}", nobody.err);
    for args in [&["queue", "add", "a{b", "x"][..], &["queue", "stat", "q", "--group", "a:b"]] {
        assert_eq!(run_args(&scene.url, args).await?.code, 78, "{args:?}");
    }
    for args in
        [&["queue", "add", "q", "x", "--field", "@key=1"][..], &["queue", "replay", "q"], &["queue", "work", "q"]]
    {
        assert_eq!(run_args(&scene.url, args).await?.code, 64, "{args:?}");
    }
    let json = run_args(&scene.url, &["queue", "stat", "q", "--group", "a:b", "--json"]).await?;
    assert_eq!(json.err.parse::<Value>()?["code"], 78);
    Ok(())
}
