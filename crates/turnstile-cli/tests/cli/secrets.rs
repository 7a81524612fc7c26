//! No password is ever shown.

use anyhow::Result;
use turnstile_testkit::redis::Redis;

use crate::support::{run, run_args, turnstile};

const SECRET: &str = "hunter2hunter2";

#[tokio::test]
async fn no_password_is_in_any_output() -> Result<()> {
    let server = Redis::builder().password("correct").start().await?;
    let (host, port) = (server.host(), server.port());
    let urls = [
        format!("redis://:{SECRET}@{host}:{port}"),
        format!("redis://user:{SECRET}@{host}:{port}/0"),
        format!("redis://:{SECRET}@{host}:port"),
        format!("redis://:{SECRET}@{host}:{port}/database"),
        format!("http://:{SECRET}@{host}"),
        format!("redis://:{SECRET}/@{host}"),
        format!("redis://:{SECRET}@127.0.0.1:1"),
        format!("unix:///no/such/path?pass={SECRET}"),
        SECRET.to_owned(),
    ];
    let lines: [&[&str]; 8] = [
        &["lock", "-v", "x", "--", "true"],
        &["lock", "--json", "x", "--", "true"],
        &["lock", "--help"],
        &["lock", "-h"],
        &["lock", "x"],
        &["lock", "--nonsense", "x", "--", "true"],
        &["who", "x"],
        &["who", "--json", "x"],
    ];
    for url in &urls {
        for args in lines {
            let from_environment = run_args(url, args).await?;
            let mut as_option = turnstile(url, &[&args[..1], &["--url", url], &args[1..]].concat());
            as_option.env_remove("TURNSTILE_REDIS_URL");
            for done in [from_environment, run(as_option).await?] {
                assert!(!done.out.contains(SECRET) && !done.err.contains(SECRET), "{url} {args:?}: {done:?}");
            }
        }
    }
    Ok(())
}
