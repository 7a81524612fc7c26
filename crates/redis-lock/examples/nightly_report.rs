//! A cron job on many hosts that runs once a night: start it on each, at the same time or one after the other.
//!
//! `cargo run -p redis-lock --example nightly_report -- redis://127.0.0.1:6379/ [2026-05-04]`
//!
//! Whoever finds the lock held ends at once. Whoever finds it free looks whether this night's report is done already, since
//! its clock may be late. What is written down is guarded by the fencing token: a host that was suspended while it worked
//! cannot undo what another has done since.

use std::process::ExitCode;
use std::time::Duration;

use redis_lock::{Client, Lock, RedisLocks};
use redis_lua::{GuardedWrite, Name, Written, redis};

async fn send_reports(night: &str) -> anyhow::Result<()> {
    for customer in ["alice", "bob", "carol"] {
        // In place of a mail. Its idempotency key is the night and the customer, for a host that dies in the midst of it.
        println!("{night}/{customer}: sent");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

async fn nightly(client: &Client, locks: &RedisLocks, night: &str) -> anyhow::Result<&'static str> {
    let Some(lease) = locks.lock("example/nightly-report")?.try_acquire().await? else {
        return Ok("another host is at it");
    };
    let (done, token) = (Name::new("example/nightly-report/done")?, lease.fencing_token());
    let guard = GuardedWrite::new(done.clone());
    // Before it is read: from now on no older holder writes here.
    anyhow::ensure!(guard.claim(client, token).await?.is_done(), "this host stood still, and another has taken over");
    let last: Option<String> = client.run(redis::cmd("GET").arg(done.as_key())).await?;
    let outcome = if last.as_deref() == Some(night) {
        "it is done already"
    } else {
        lease.run_while_held(send_reports(night)).await??; // dropped where it stands, if the lease is lost
        match guard.set(client, token, night).await? {
            Written::Done => "done",
            _ => anyhow::bail!("this host stood still while it worked, and another has taken over"),
        }
    };
    lease.release().await?;
    Ok(outcome)
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379/".into());
    let night = arguments.next().unwrap_or_else(|| "2026-05-04".into());
    let client = Client::connect(url).await?;
    let locks = RedisLocks::new(client.clone());
    let outcome = nightly(&client, &locks, &night).await;
    locks.manager().shutdown().await; // what is to be given back is
    Ok(match outcome {
        Ok(outcome) => {
            println!("{night}: {outcome}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{night}: {error:#}");
            ExitCode::FAILURE
        }
    })
}
