//! Mutual exclusion across processes that are killed and stopped, by the word of an oracle outside the lock; and what
//! the fence is for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use redis_lock::{Client, Lock, RedisLocks, ReleaseOutcome};
use redis_lua::redis::cmd;
use redis_lua::{GuardedWrite, Name};
use tokio::time::timeout;
use turnstile_integration_tests::{Oracle, SAFETY_NET, connect, lock_value, long, name, process, ttl, until};
use turnstile_testkit::child::Child;

const TTL: &str = "2000";

async fn url() -> String {
    turnstile_testkit::redis::shared().await.unwrap().url()
}

async fn holder(name: &str, mode: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holder"));
    command.args([&url().await, name, TTL, mode]);
    Child::spawn(command).unwrap()
}

fn token(line: &str) -> u64 {
    line.split(' ')
        .nth(1)
        .and_then(|token| token.trim_end_matches(',').parse().ok())
        .unwrap_or_else(|| panic!("{line}"))
}

struct Guarded {
    client: Client,
    data: GuardedWrite,
}

impl Guarded {
    async fn of(name: &str) -> Self {
        let data = GuardedWrite::new(Name::new(format!("{name}/data")).unwrap());
        Self { client: connect(url().await).await, data }
    }

    /// The token of whoever wrote last.
    async fn writer(&self) -> u64 {
        self.client.run(cmd("GET").arg(self.data.name().as_key())).await.unwrap()
    }
}

#[tokio::test]
async fn processes_never_hold_at_once_and_go_on_when_one_is_killed_or_stopped() {
    let name = name("contend");
    let oracle = Oracle::new(connect(url().await).await, &format!("{name}/oracle")).unwrap();
    let mut killed = holder(&name, "contend").await;
    let mut stopped = holder(&name, "contend").await;
    let mut others = [holder(&name, "contend").await, holder(&name, "contend").await];
    for child in [&mut killed, &mut stopped].into_iter().chain(&mut others) {
        child.line_with("granted").await.unwrap();
    }
    // Wherever it is at: waiting, holding, giving back.
    killed.kill().unwrap();
    stopped.stop().unwrap();
    for _ in 0..20 {
        for child in &mut others {
            child.line_with("granted").await.unwrap();
        }
    }
    stopped.cont().unwrap();
    for child in &mut others {
        child.line_with("granted").await.unwrap();
    }
    stopped.line_with("granted").await.unwrap();
    assert_eq!(oracle.overlaps().await.unwrap(), 0);
}

#[tokio::test]
async fn a_killed_holder_keeps_others_out_for_its_time_to_live_at_the_most() {
    let name = name("killed");
    let (locks, client) = (process(url().await).await, connect(url().await).await);
    let mut child = holder(&name, "hold").await;
    let theirs = token(&child.line_with("held").await.unwrap());
    let lock = locks.lock(&name).unwrap().with_options(long());
    assert!(lock.try_acquire().await.unwrap().is_none());
    child.kill().unwrap();
    child.wait().await.unwrap();
    let left: i64 = client.run(cmd("PTTL").arg(format!("{{{name}}}"))).await.unwrap();
    assert!((1..=2_000).contains(&left), "it ends by itself: {left}");
    let lease = lock.acquire_timeout(SAFETY_NET).await.unwrap();
    assert!(lease.fencing_token().get() > theirs);
}

#[tokio::test]
async fn a_holder_that_was_stopped_past_its_time_learns_that_it_lost_and_its_write_is_refused() {
    let name = name("stopped");
    let (guarded, locks) = (Guarded::of(&name).await, process(url().await).await);
    let mut child = holder(&name, "hold").await;
    let stale = token(&child.line_with("held").await.unwrap());
    child.say("write").await.unwrap();
    child.line_with("wrote").await.unwrap();

    child.stop().unwrap();
    let lease = locks.lock(&name).unwrap().with_options(long()).acquire_timeout(SAFETY_NET).await.unwrap();
    let token = lease.fencing_token();
    assert!(token.get() > stale);
    assert!(guarded.data.set(&guarded.client, token, token.get()).await.unwrap().is_done());

    child.say("write").await.unwrap();
    child.cont().unwrap();
    let mut told = [child.line().await.unwrap(), child.line().await.unwrap()];
    told.sort();
    assert!(told[0].starts_with("lost ") && told[0] != "lost Released", "{told:?}");
    assert!(told[1].starts_with("refused"), "{told:?}");
    assert_eq!(guarded.writer().await, token.get());

    // Control: without the fence, the write from the past lands.
    child.say("plain").await.unwrap();
    child.line_with("wrote without").await.unwrap();
    assert_eq!(guarded.writer().await, stale);

    child.say("release").await.unwrap();
    child.line_with("released TakenOver").await.unwrap();
    lease.check().unwrap();
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released, "it took nothing from the next holder");
}

/// One holds past its end, a second gets it, the first gives back, a third tries. Tells what the oracle saw.
async fn late_release(name: &str, release: impl AsyncFnOnce(redis_lock::Lease, &Client)) -> u64 {
    let client = connect(url().await).await;
    let oracle = Oracle::new(client.clone(), &format!("{name}/oracle")).unwrap();
    let [one, two, three] = [process(url().await).await, process(url().await).await, process(url().await).await];
    let mutex = |locks: &RedisLocks| locks.lock(name).unwrap().with_options(long());

    let first = mutex(&one).with_options(ttl(100).auto_renew(false)).acquire().await.unwrap();
    let second = mutex(&two).acquire_timeout(SAFETY_NET).await.unwrap();
    assert!(oracle.enter(&second).await.unwrap());
    release(first, &client).await;
    if let Some(third) = mutex(&three).try_acquire().await.unwrap() {
        oracle.enter(&third).await.unwrap();
    }
    oracle.leave(&second).await;
    oracle.overlaps().await.unwrap()
}

#[tokio::test]
async fn a_late_release_lets_nobody_in_beside_the_new_holder() {
    let name = name("late");
    let overlaps = late_release(&name, async |lease, _| {
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::TakenOver);
    });
    assert_eq!(overlaps.await, 0);
}

#[tokio::test]
async fn the_oracle_sees_a_lock_that_releases_without_comparing() {
    let name = name("broken");
    let overlaps = late_release(&name, async |_lease, client| {
        client.run::<()>(cmd("DEL").arg(format!("{{{name}}}"))).await.unwrap();
    });
    assert_eq!(overlaps.await, 1);
}

#[tokio::test]
async fn a_process_that_ends_in_order_leaves_the_lock_free() {
    let (name, client) = (name("orderly"), connect(url().await).await);
    let mut child = holder(&name, "hold").await;
    child.line_with("held").await.unwrap();
    child.say("release").await.unwrap();
    child.line_with("released Released").await.unwrap();
    assert!(timeout(SAFETY_NET, child.wait()).await.unwrap().unwrap().success());
    until("it is free", async || lock_value(&client, &name).await.is_none()).await;
}
