//! `lock --redlock`: it goes on with a minority down, and says who is not there.

use anyhow::Result;
use turnstile_testkit::redis::{Redis, Server};
use turnstile_testkit::unique;

use crate::support::{Running, run, turnstile};

/// No server: what is said of one would be a mistake.
const NOWHERE: &str = "redis://127.0.0.1:1/";

async fn three() -> Result<(Vec<Server>, String)> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Redis::start().await?);
    }
    let urls = servers.iter().map(|server| server.url()).collect::<Vec<_>>().join(",");
    Ok((servers, urls))
}

#[tokio::test]
async fn a_majority_is_enough_and_no_more_than_one_holds_it() -> Result<()> {
    let (mut servers, urls) = three().await?;
    let name = unique("redlock");
    let mut held = Running::lock(NOWHERE, &["--redlock", &urls, &name, "--", "sh", "-c", "echo held; read -r _"])?;
    held.child.line_with("held").await?;
    let refused = run(turnstile(NOWHERE, &["lock", "--redlock", &urls, "-n", &name, "--", "echo", "ran"])).await?;
    assert_eq!((refused.code, refused.out.as_str()), (75, ""), "{}", refused.err);
    assert!(refused.err.contains("held by "), "{}", refused.err);

    servers[1].kill().await?;
    held.child.say("").await?;
    assert_eq!(held.code().await?, 0);
    let one_down = run(turnstile(NOWHERE, &["lock", "--redlock", &urls, &name, "--", "echo", "ran"])).await?;
    assert_eq!((one_down.code, one_down.out.as_str()), (0, "ran\n"), "{}", one_down.err);

    servers[2].kill().await?;
    let two_down = run(turnstile(NOWHERE, &["lock", "--redlock", &urls, &name, "--", "echo", "ran"])).await?;
    assert_eq!((two_down.code, two_down.out.as_str()), (69, ""), "{}", two_down.err);
    for server in [1, 2] {
        let url = servers[server].url();
        let address = url.trim_start_matches("redis://").trim_end_matches('/').rsplit('@').next().unwrap_or_default();
        assert!(two_down.err.contains(address), "{address} in {}", two_down.err);
    }
    Ok(())
}

#[tokio::test]
async fn servers_that_make_no_quorum_are_refused_without_their_passwords() -> Result<()> {
    let two = "redis://:hidden-secret@127.0.0.1:1,redis://127.0.0.1:2";
    let twice = "redis://:hidden-secret@127.0.0.1:1,redis://127.0.0.1:2,redis://127.0.0.1:1";
    let empty = "redis://:hidden-secret@127.0.0.1:1,,redis://127.0.0.1:2";
    for (urls, says) in [(two, "2 nodes"), (twice, "twice"), (empty, "empty"), ("", "TURNSTILE_REDLOCK_URLS")] {
        let done = run(turnstile(NOWHERE, &["lock", "--redlock", urls, "x", "--", "echo", "ran"])).await?;
        assert_eq!((done.code, done.out.as_str()), (64, ""), "{}", done.err);
        assert!(done.err.contains(says) && !done.err.contains("hidden-secret"), "{}", done.err);
    }
    let fair = run(turnstile(NOWHERE, &["lock", "--redlock", two, "--fair", "x", "--", "echo", "ran"])).await?;
    assert_eq!((fair.code, fair.out.as_str()), (64, ""), "{}", fair.err);
    assert!(!fair.err.contains("hidden-secret"), "{}", fair.err);
    let bad =
        run(turnstile(NOWHERE, &["lock", "--redlock", "http://:hidden-secret@x", "x", "--", "echo", "ran"])).await?;
    assert_eq!((bad.code, bad.out.as_str()), (78, ""), "{}", bad.err);
    assert!(!bad.err.contains("hidden-secret"), "{}", bad.err);
    Ok(())
}
