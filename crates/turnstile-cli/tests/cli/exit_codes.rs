//! Each exit code, and what brings it about.

use anyhow::Result;
use redis_lua::{Client, redis::cmd};
use turnstile_testkit::redis::{Redis, shared};
use turnstile_testkit::unique;

use crate::support::{Running, run, run_args, turnstile};

#[tokio::test]
async fn the_exit_code_is_the_commands_own() -> Result<()> {
    let url = shared().await?.url();
    let table = [
        ("true", 0),
        ("exit 1", 1),
        ("exit 42", 42),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("kill -USR1 $$", 138),
    ];
    for (script, code) in table {
        let done = run_args(&url, &["lock", &unique("own"), "--", "sh", "-c", script]).await?;
        assert_eq!((done.code, done.err.as_str()), (code, ""), "{script}");
    }
    Ok(())
}

#[tokio::test]
async fn a_held_lock_is_75_or_what_is_asked_for_and_nothing_is_run() -> Result<()> {
    let url = shared().await?.url();
    let name = unique("held");
    let mut holder = Running::lock(&url, &[&name, "--", "sh", "-c", "echo held; read -r _"])?;
    holder.child.line_with("held").await?;
    let table: [(&[&str], i32); 10] = [
        (&["-n"], 75),
        (&["--no-wait"], 75),
        (&["-w", "0"], 75),
        (&["--wait", "0s"], 75),
        (&["-w", "50ms"], 75),
        (&["-w", "1ns"], 75),
        (&["-n", "-E", "9"], 9),
        (&["-w", "50ms", "--conflict-exit-code", "0"], 0),
        (&["-n", "-s"], 75),
        (&["-n", "--name", "another"], 75),
    ];
    for (options, code) in table {
        let done = run_args(&url, &[&["lock"], options, &[&name, "--", "echo", "ran"]].concat()).await?;
        assert_eq!((done.code, done.out.as_str()), (code, ""), "{options:?}");
        assert!(done.err.contains("did not acquire") && done.err.contains(", held by "), "{}", done.err);
    }
    let quiet = run_args(&url, &["lock", "-qn", &name, "--", "echo", "ran"]).await?;
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (75, "", ""));
    holder.child.say("").await?;
    assert_eq!(holder.code().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_64_and_help_is_0() -> Result<()> {
    let url = shared().await?.url();
    let table: [(&[&str], i32); 24] = [
        (&[], 64),
        (&["unlock"], 64),
        (&["lock"], 64),
        (&["lock", "x"], 64),
        (&["lock", "x", "--"], 64),
        (&["lock", "x", "true"], 64),
        (&["lock", "--nonsense", "x", "--", "true"], 64),
        (&["lock", "-w", "soon", "x", "--", "true"], 64),
        (&["lock", "-w", "10", "x", "--", "true"], 64),
        (&["lock", "-n", "-w", "1s", "x", "--", "true"], 64),
        (&["lock", "-E", "256", "x", "--", "true"], 64),
        (&["lock", "-s", "--name", "y", "x", "--", "true"], 64),
        (&["lock", "--on-lost", "pray", "x", "--", "true"], 64),
        (&["lock", "--ttl", "0", "x", "--", "true"], 64),
        (&["lock", "--ttl", "1ms", "x", "--", "true"], 64),
        (&["lock", "--ttl", "400days", "x", "--", "true"], 64),
        (&["lock", "--ttl", "99999999999999999999s", "x", "--", "true"], 64),
        (&["lock", "--ttl", "10s", "--grace", "6s", "x", "--", "true"], 64),
        (&["who"], 64),
        (&["--help"], 0),
        (&["--version"], 0),
        (&["lock", "--help"], 0),
        (&["lock", "-h"], 0),
        (&["who", "--help"], 0),
    ];
    for (args, code) in table {
        let done = run_args(&url, args).await?;
        assert_eq!(done.code, code, "{args:?}: {}", done.err);
        assert_eq!(done.out.is_empty(), code != 0, "{args:?}");
        assert_eq!(done.err.is_empty(), code == 0, "{args:?}");
    }
    let mut without = turnstile(&url, &["lock", "x", "--", "true"]);
    without.env_remove("TURNSTILE_REDIS_URL");
    let done = run(without).await?;
    assert_eq!(done.code, 64);
    assert!(done.err.contains("TURNSTILE_REDIS_URL"), "{}", done.err);
    Ok(())
}

#[tokio::test]
async fn a_bad_name_or_url_or_server_is_78_and_the_text_says_what_to_do() -> Result<()> {
    let url = shared().await?.url();
    let long = "x".repeat(10_240);
    for name in ["", "{", "a}b{", "{}", "two\nlines", "bell\u{7}", &long] {
        for args in [
            &["lock", name, "--", "echo", "ran"][..],
            &["lock", "good", "--name", name, "--", "echo", "ran"],
            &["who", name],
        ] {
            let done = run_args(&url, args).await?;
            assert_eq!((done.code, done.out.as_str()), (78, ""), "{name:?}: {}", done.err);
            assert!(done.err.contains("name"), "{}", done.err);
        }
    }
    for url in ["", "http://localhost", "redis://localhost:port", "localhost:6379", "unix"] {
        let done = run_args(url, &["lock", "x", "--", "echo", "ran"]).await?;
        assert_eq!((done.code, done.out.as_str()), (78, ""), "{url:?}: {}", done.err);
        assert!(done.err.contains("redis://"), "{}", done.err);
    }
    Ok(())
}

#[tokio::test]
async fn a_key_of_another_type_is_78() -> Result<()> {
    let url = shared().await?.url();
    let name = unique("list");
    Client::connect(&url).await?.run::<i64>(cmd("RPUSH").arg(format!("{{{name}}}")).arg("x")).await?;
    let done = run_args(&url, &["lock", "-w", "5s", &name, "--", "echo", "ran"]).await?;
    assert_eq!((done.code, done.out.as_str()), (78, ""), "{}", done.err);
    assert!(done.err.contains("another type"), "{}", done.err);
    Ok(())
}

#[tokio::test]
async fn a_server_out_of_reach_is_69() -> Result<()> {
    let mut server = Redis::start().await?;
    let proxy = server.proxy().await?;
    let (url, by_proxy) = (server.url(), proxy.url());

    server.stop().await?;
    let hangs = run_args(&url, &["lock", "x", "--", "echo", "ran"]).await?;
    server.kill().await?;
    let down = run_args(&url, &["lock", "x", "--", "echo", "ran"]).await?;
    let resets = run_args(&by_proxy, &["lock", "x", "--", "echo", "ran"]).await?;
    let who = run_args(&url, &["who", "x"]).await?;
    let unknown = run_args("redis://no-such-host.invalid", &["lock", "x", "--", "echo", "ran"]).await?;
    for done in [hangs, down, resets, who, unknown] {
        assert_eq!((done.code, done.out.as_str()), (69, ""), "{}", done.err);
        assert!(done.err.starts_with("turnstile: "), "{}", done.err);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_dies_while_the_lock_is_waited_for_is_69() -> Result<()> {
    let mut server = Redis::start().await?;
    let mut holder = Running::lock(&server.url(), &["x", "--", "sh", "-c", "echo held; read -r _"])?;
    holder.child.line_with("held").await?;
    let mut waiter = Running::lock(&server.url(), &["--json", "x", "--", "echo", "ran"])?;
    waiter.said("waiting").await?;
    server.kill().await?;
    let (code, events) = waiter.end().await?;
    assert_eq!(code, 69, "{events:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_69() -> Result<()> {
    let primary = Redis::start().await?;
    let replica = Redis::builder().replica_of(&primary).start().await?;
    let full = Redis::builder().config("maxmemory", "1").config("maxmemory-policy", "noeviction").start().await?;
    for (url, word) in [(replica.url(), "replica"), (full.url(), "maxmemory")] {
        let done = run_args(&url, &["lock", "-n", "x", "--", "echo", "ran"]).await?;
        assert_eq!((done.code, done.out.as_str()), (69, ""), "{}", done.err);
        assert!(done.err.contains(word), "{}", done.err);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_refuses_us_is_77() -> Result<()> {
    let server = Redis::builder().password("correct").start().await?;
    let (host, port) = (server.host(), server.port());
    Client::connect(server.url())
        .await?
        .run::<()>(cmd("ACL").arg(&["SETUSER", "limited", "on", ">word", "~*", "+@all", "-evalsha", "-eval"]))
        .await?;
    for user in ["", ":wrong@", "nobody:wrong@", "limited:word@"] {
        let done = run_args(&format!("redis://{user}{host}:{port}"), &["lock", "x", "--", "echo", "ran"]).await?;
        assert_eq!((done.code, done.out.as_str()), (77, ""), "{user}: {}", done.err);
    }
    Ok(())
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_126_or_127() -> Result<()> {
    let url = shared().await?.url();
    let name = unique("exec");
    for (command, code) in
        [("/etc/passwd", 126), ("/", 126), ("no-such-command", 127), ("/no/such/command", 127), ("", 127)]
    {
        let done = run_args(&url, &["lock", "-n", &name, "--", command]).await?;
        assert_eq!(done.code, code, "{command}: {}", done.err);
        assert!(done.err.contains("cannot run"), "{}", done.err);
    }
    Ok(())
}
