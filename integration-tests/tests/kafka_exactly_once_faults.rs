//! kafka-txn: what is committed is f of the input, each once and in order, also when brokers and connections fail, and through
//! random schedules of all sorts of faults: a few of them, or as many as `TURNSTILE_TXN_SCHEDULES` says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use turnstile_integration_tests::copies::{At, Copies, CopyKind, Fate};
use turnstile_integration_tests::kafka::Protocol;
use turnstile_testkit::child::Child;
use turnstile_testkit::kafka::{self, Kafka};

const COPIER: &str = env!("CARGO_BIN_EXE_copier");
const KINDS: [CopyKind; 2] = [CopyKind::Ours, CopyKind::Parallel];
const PROTOCOLS: [Protocol; 3] = [Protocol::Cooperative, Protocol::Eager, Protocol::Consumer];

async fn ended(mut copier: Child) -> Result<()> {
    copier.say("end").await?;
    copier.line_with("ended").await?;
    anyhow::ensure!(copier.wait().await?.success());
    Ok(())
}

async fn exact(copies: &Copies, of: &str) -> Result<()> {
    let copied = copies.verdict().await?;
    anyhow::ensure!(copied.is_exact(), "{of}: {copied}");
    Ok(())
}

#[tokio::test]
async fn when_the_answer_to_a_commit_is_lost() {
    let kafka = kafka::shared().await.unwrap();
    for kind in KINDS {
        let proxy = kafka.proxy().await.unwrap();
        let mut copies = Copies::new(COPIER, &kafka, 2).await.unwrap();
        copies.produce(40).await.unwrap();
        let mut copier = copies
            .copier(|role| {
                role.kind = kind;
                role.brokers = proxy.brokers();
                role.fate = Some((Fate::Wait, At::Commit, 1));
                role.instance = Some("one".to_owned());
            })
            .unwrap();
        copier.line_with("at Commit").await.unwrap();
        let lost = proxy.cut_reply_to(format!("{}-one-", copies.role.group));
        copier.say("go").await.unwrap();
        lost.happened().await.unwrap();
        copies.until_all_committed().await;
        copies.produce(40).await.unwrap();
        copies.until_all_committed().await;
        ended(copier).await.unwrap();
        exact(&copies, &format!("{kind:?}")).await.unwrap();
    }
}

#[tokio::test]
async fn when_connections_are_cut_again_and_again() {
    let kafka = kafka::shared().await.unwrap();
    let proxy = kafka.proxy().await.unwrap();
    let mut copies = Copies::new(COPIER, &kafka, 4).await.unwrap();
    copies.role.work = Duration::from_millis(1);
    copies.produce(1000).await.unwrap();
    let copier = copies.copier(|role| role.brokers = proxy.brokers()).unwrap();
    let mut before = 0;
    for _ in 0..6 {
        copies.until_copied(before + 20).await;
        proxy.cut();
        before += 100;
    }
    copies.until_all_committed().await;
    ended(copier).await.unwrap();
    exact(&copies, "cut").await.unwrap();
}

#[tokio::test]
async fn when_the_broker_is_killed_and_comes_back() {
    let mut server = Kafka::start().await.unwrap();
    for kind in KINDS {
        let mut copies = Copies::new(COPIER, &server, 4).await.unwrap();
        copies.role.kind = kind;
        copies.role.work = Duration::from_millis(1);
        copies.role.session = Duration::from_secs(6);
        copies.produce(1000).await.unwrap();
        let copier = copies.copier(|_| {}).unwrap();
        copies.until_copied(100).await;
        server.kill().await.unwrap();
        server.restart().await.unwrap();
        copies.until_all_committed().await;
        copies.produce(100).await.unwrap();
        copies.until_all_committed().await;
        ended(copier).await.unwrap();
        exact(&copies, &format!("{kind:?}")).await.unwrap();
    }
}

/// Up to three copiers, to which things happen; then one that does the rest.
async fn schedule(seed: u64) -> Result<()> {
    let mut dice = StdRng::seed_from_u64(seed);
    let kafka = kafka::shared().await?;
    let proxy = kafka.proxy().await?;
    let mut copies = Copies::new(COPIER, &kafka, 4).await?;
    copies.role.protocol = PROTOCOLS[dice.random_range(0..3)];
    copies.role.kind = KINDS[dice.random_range(0..2)];
    copies.role.session = Duration::from_secs(2);
    copies.role.work = Duration::from_millis(dice.random_range(0..3));
    copies.role.records = dice.random_range(5..100);
    copies.produce(400).await?;
    let mut alive: Vec<Child> = Vec::new();
    let mut stopped: Vec<Child> = Vec::new();
    let mut story = Vec::new();
    for _ in 0..8 {
        let fault = if alive.is_empty() { 0 } else { dice.random_range(0..8) };
        story.push(fault);
        match fault {
            0..=2 if alive.len() < 3 => {
                let behind = dice.random_bool(0.5);
                let at = At::ALL[dice.random_range(0..At::ALL.len())];
                let fate = dice.random_bool(0.6).then(|| {
                    let fate = if dice.random_bool(0.7) { Fate::Kill } else { Fate::Stop };
                    (fate, at, dice.random_range(1..5))
                });
                let copier = copies.copier(|role| {
                    role.fate = fate;
                    if behind {
                        role.brokers = proxy.brokers();
                    }
                })?;
                alive.push(copier);
            }
            // It may have met its fate.
            3 => _ = alive.remove(dice.random_range(0..alive.len())).kill(),
            4 => {
                let copier = alive.remove(dice.random_range(0..alive.len()));
                let _ = copier.stop();
                stopped.push(copier);
            }
            5 => proxy.cut(),
            6 => {
                for copier in stopped.drain(..) {
                    let _ = copier.cont();
                    alive.push(copier);
                }
            }
            _ => copies.produce(100).await?,
        }
        // Not for something to come true: faults are to fall anywhere.
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..600))).await;
    }
    for copier in alive.iter().chain(&stopped) {
        let _ = copier.cont();
    }
    let last = copies.copier(|_| {})?;
    copies.until_all_committed().await;
    copies.produce(50).await?;
    copies.until_all_committed().await;
    drop((alive, stopped));
    ended(last).await?;
    exact(&copies, &format!("seed {seed}, {:?} {:?}, faults {story:?}", copies.role.kind, copies.role.protocol)).await
}

#[tokio::test]
async fn through_random_schedules_of_faults() {
    let asked = std::env::var("TURNSTILE_TXN_SCHEDULES").ok().and_then(|asked| asked.parse().ok());
    let seeds = asked.unwrap_or(3);
    let from = std::env::var("TURNSTILE_TXN_SEED").ok().and_then(|seed| seed.parse().ok());
    let from = from.unwrap_or_else(|| rand::random::<u64>() >> 16);
    for seed in from..from + seeds {
        if let Err(error) = schedule(seed).await {
            panic!("TURNSTILE_TXN_SEED={seed}: {error:#}");
        }
    }
}
