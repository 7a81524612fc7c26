//! What the command, its environment, stdout and stderr are told, and what `who` tells.

use anyhow::Result;
use serde_json::{Value, json};
use turnstile_testkit::redis::shared;
use turnstile_testkit::unique;

use crate::support::{Running, events, run_args, the, turnstile, who};

#[tokio::test]
async fn standard_input_and_output_are_the_commands_alone() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("streams"));
    let mut cat = Running::start(turnstile(&url, &["lock", "--json", &name, "--", "cat"]))?;
    cat.child.say("one").await?;
    cat.child.say("two").await?;
    assert_eq!(cat.child.line().await.as_deref(), Some("one"));
    assert_eq!(cat.child.line().await.as_deref(), Some("two"));

    for style in [&["-v"][..], &["--json"], &["-q"], &[]] {
        let done = run_args(&url, &[&["lock"], style, &[&unique("out"), "--", "printf", "a\\0b c"]].concat()).await?;
        assert_eq!((done.code, done.out.as_str()), (0, "a\0b c"));
        assert_eq!(done.err.is_empty(), style.is_empty() || style == ["-q"], "{}", done.err);
    }
    Ok(())
}

#[tokio::test]
async fn the_command_is_run_without_a_shell() -> Result<()> {
    let url = shared().await?.url();
    let done =
        run_args(&url, &["lock", &unique("argv"), "--", "printf", "<%s>", "$HOME; *", "", "--name", "-n"]).await?;
    assert_eq!(done.out, "<$HOME; *><><--name><-n>");
    Ok(())
}

#[tokio::test]
async fn the_commands_environment_tells_name_owner_and_token() -> Result<()> {
    let url = shared().await?.url();
    let [a, b] = ["a b", "ü"].map(unique);
    let script = r#"printf '%s|%s|%s' "$TURNSTILE_NAME" "$TURNSTILE_OWNER" "$TURNSTILE_TOKEN""#;
    let mut last = 0;
    for _ in 0..3 {
        let done = run_args(&url, &["lock", "--json", &b, "--name", &a, "--", "sh", "-c", script]).await?;
        let events = events(&done.err)?;
        let acquired = the(&events, "acquired");
        let (owner, token) = (acquired["owner"].as_str().unwrap(), acquired["token"].as_u64().unwrap());
        assert_eq!(done.out, format!("{b}\n{a}|{owner}|{token}"));
        assert!(owner.len() == 32 && token > last, "{events:?}");
        last = token;
    }
    let done = run_args(&url, &["lock", &a, "--", "sh", "-c", script]).await?;
    assert!(done.out.starts_with(&format!("{a}|")), "{}", done.out);
    Ok(())
}

#[tokio::test]
async fn json_tells_each_step_as_one_event_a_line() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("events"));
    let mut first = Running::lock(&url, &["--json", &name, "--", "sh", "-c", "echo held; read -r _; exit 7"])?;
    first.child.line_with("held").await?;
    let mut second = Running::lock(&url, &["--json", &name, "--", "sh", "-c", "kill -TERM $$"])?;
    second.said("waiting").await?;
    let refused = run_args(&url, &["lock", "--json", "-n", &name, "--", "true"]).await?;
    first.child.say("").await?;
    let (code, first) = first.end().await?;
    let (code_of_second, second) = second.end().await?;
    assert_eq!((code, code_of_second, refused.code), (7, 143, 75));

    let kinds = |events: &[Value]| events.iter().map(|event| event["event"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&first), ["acquired", "ended", "released"]);
    assert_eq!(kinds(&second), ["waiting", "acquired", "ended", "released"]);
    assert_eq!(first[0]["names"], json!([name]));
    assert_eq!(first[1], json!({"event": "ended", "code": 7, "signal": null}));
    assert_eq!(second[2], json!({"event": "ended", "code": null, "signal": 15}));
    assert_eq!(first[2]["outcome"], "released");
    assert!(first[2]["held_ms"].is_u64() && second[1]["waited_ms"].is_u64());
    assert_eq!(second[0]["holders"].as_array().unwrap().len(), 1);
    let refused = events(&refused.err)?;
    assert_eq!(kinds(&refused), ["not_acquired"]);
    assert_eq!(refused[0]["holders"], second[0]["holders"]);
    Ok(())
}

#[tokio::test]
async fn json_tells_errors_as_events() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("errors"));
    let table: [(&[&str], i32); 4] = [
        (&["lock", "--json", "", "--", "true"], 78),
        (&["lock", "--json", "--ttl", "1ms", &name, "--", "true"], 64),
        (&["lock", "--json", &name, "--", "no-such-command"], 127),
        (&["who", "--json", ""], 78),
    ];
    for (args, code) in table {
        let done = run_args(&url, args).await?;
        let events = events(&done.err)?;
        assert_eq!((done.code, the(&events, "error")["code"].as_i64()), (code, Some(code.into())), "{args:?}");
        assert_eq!(events.len(), done.err.lines().count(), "{}", done.err);
    }
    Ok(())
}

#[tokio::test]
async fn who_tells_the_holder_since_when_time_left_and_token() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("who"));
    let free = run_args(&url, &["who", &name]).await?;
    assert_eq!((free.code, free.out), (1, format!("{name}: free\n")));
    let free = run_args(&url, &["who", "--json", &name]).await?;
    let answer: Value = serde_json::from_str(&free.out)?;
    assert_eq!((free.code, answer), (1, json!({"name": name, "held": false, "holders": [], "queue": []})));

    let script = "echo $TURNSTILE_OWNER $TURNSTILE_TOKEN; read -r _";
    let mut holder = Running::lock(&url, &["--ttl", "20s", &name, "--", "sh", "-c", script])?;
    let line = holder.child.line().await.unwrap();
    let (owner, token) = line.split_once(' ').unwrap();
    let held = run_args(&url, &["who", &name]).await?;
    assert_eq!(held.code, 0);
    for word in [&format!("{name}: held by "), " (since 2", " left", &format!("token {token}"), owner] {
        assert!(held.out.contains(word), "{word} in {}", held.out);
    }
    let held = run_args(&url, &["who", "--json", &name]).await?;
    let answer: Value = serde_json::from_str(&held.out)?;
    let row = &answer["holders"][0];
    assert_eq!((held.code, &answer["held"], &answer["name"]), (0, &json!(true), &json!(name)));
    assert_eq!(
        (&row["owner"], &row["token"].to_string(), &row["shared"]),
        (&json!(owner), &token.to_owned(), &json!(false))
    );
    assert!(row["remaining_ms"].as_u64().is_some_and(|left| left <= 20_000), "{row}");
    assert!(row["label"].as_str().is_some_and(|label| label.ends_with(&format!(":{}", holder.child.pid().unwrap()))));
    assert!(row["held_ms"].is_u64() && row["since"].is_string());
    Ok(())
}

#[tokio::test]
async fn who_tells_each_reader() -> Result<()> {
    let (url, name) = (shared().await?.url(), unique("readers"));
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = Running::lock(&url, &["-s", &name, "--", "sh", "-c", "echo held; read -r _"])?;
        reader.child.line_with("held").await?;
        readers.push(reader);
    }
    let done = run_args(&url, &["who", &name]).await?;
    assert_eq!((done.code, done.out.lines().count(), done.out.matches(": shared by ").count()), (0, 2, 2));
    assert!(who(&url, &name).await?.iter().all(|holder| holder.shared));
    Ok(())
}
