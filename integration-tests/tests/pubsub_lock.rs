//! The fair lock across processes that are killed and stopped: order, and the word of an oracle outside the lock.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use redis_pubsub_lock::{FairLocks, Lock};
use turnstile_integration_tests::{Oracle, SAFETY_NET, connect, long, name, until};
use turnstile_testkit::child::Child;

async fn url() -> String {
    turnstile_testkit::redis::shared().await.unwrap().url()
}

async fn waiter(name: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fair_waiter"));
    command.args([&url().await, name, "2000"]);
    Child::spawn(command).unwrap()
}

async fn until_waiting(locks: &FairLocks, name: &str, count: usize) {
    until("they wait", async || locks.queue(name).await.unwrap().len() == count).await;
}

/// The label and the token of the next grant.
async fn granted(child: &mut Child) -> (usize, u64) {
    let line = child.line_with("").await.unwrap();
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("granted"), "{line}");
    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
    (usize::try_from(number()).unwrap(), number())
}

#[tokio::test]
async fn the_order_over_processes_is_that_of_arrival_though_some_are_killed_and_one_is_stopped() {
    let name = name("order");
    let locks = FairLocks::new(connect(url().await).await);
    let oracle = Oracle::new(connect(url().await).await, &format!("{name}/oracle")).unwrap();
    let mut holder = waiter(&name).await;
    holder.say("hold 0").await.unwrap();
    granted(&mut holder).await;
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(waiter(&name).await);
    }
    for place in 0..24 {
        children[place % 4].say(&format!("visit {place}")).await.unwrap();
        until_waiting(&locks, &name, place + 1).await;
    }
    // The head's process dies, and then the holder's: nobody is left to say so.
    children.remove(0).kill().unwrap();
    // For less time than its places are kept.
    children[0].stop().unwrap();
    holder.kill().unwrap();
    holder.wait().await.unwrap();
    children[0].cont().unwrap();

    let mut history = Vec::new();
    for child in &mut children {
        for _ in 0..6 {
            history.push(granted(child).await);
        }
    }
    history.sort_by_key(|(_, token)| *token);
    let places: Vec<usize> = history.into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, (0..24).filter(|place| place % 4 != 0).collect::<Vec<_>>());
    assert_eq!(oracle.overlaps().await.unwrap(), 0);
    let lock = locks.lock(&name).unwrap().with_options(long());
    lock.acquire_timeout(SAFETY_NET).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_process_that_is_stopped_for_long_holds_nobody_up_and_asks_again() {
    let name = name("stopped");
    let locks = FairLocks::new(connect(url().await).await);
    let held = locks.lock(&name).unwrap().with_options(long()).acquire().await.unwrap();
    let [mut stopped, mut other] = [waiter(&name).await, waiter(&name).await];
    for (place, child) in [&mut stopped, &mut other].into_iter().enumerate() {
        child.say(&format!("visit {place}")).await.unwrap();
        until_waiting(&locks, &name, place + 1).await;
    }
    stopped.stop().unwrap();
    until_waiting(&locks, &name, 1).await;
    held.release().await.unwrap();
    let (_, first) = granted(&mut other).await;
    stopped.cont().unwrap();
    let (_, second) = granted(&mut stopped).await;
    assert!(second > first);
}
