//! kafka-txn: what is committed is f of the input, each once and in order, also when brokers and connections fail, and through
//! random schedules of all sorts of faults: a few of them, or as many as `TURNSTILE_TXN_SCHEDULES` says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use turnstile_integration_tests::copies::{At, Copied, Copies, CopyKind, Fate};
use turnstile_integration_tests::kafka::Protocol;
use turnstile_testkit::child::Child;
use turnstile_testkit::kafka::{self, Kafka};
use turnstile_testkit::proxy::Direction;

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

/// What happens to a commit that a copier sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// The broker carries it out, and its answer never comes.
    Answer,
    /// It never comes to the broker, who aborts the transaction when its time is over.
    Request,
    /// The broker is killed before it comes.
    Broker,
}

/// A copier commits, and what happens to that; then all goes well again, to the end.
async fn commit_lost(kind: CopyKind, lost: Lost) -> Copied {
    let mut private = if lost == Lost::Broker { Some(Kafka::start().await.unwrap()) } else { None };
    let kafka = match &private {
        Some(server) => (**server).clone(),
        None => kafka::shared().await.unwrap(),
    };
    let proxy = kafka.proxy().await.unwrap();
    let mut copies = Copies::new(COPIER, &kafka, 2).await.unwrap();
    copies.role.kind = kind;
    copies.role.brokers = proxy.brokers();
    copies.role.instance = Some("one".to_owned());
    // All in one transaction.
    (copies.role.records, copies.role.every) = (40, Duration::from_secs(2));
    copies.produce(40).await.unwrap();
    let mut copier = copies.copier(|role| role.fate = Some((Fate::Wait, At::Commit, 1))).unwrap();
    copier.line_with("at Commit").await.unwrap();
    match lost {
        Lost::Answer => proxy.hold(Direction::ToClient),
        Lost::Request => proxy.swallow(Direction::ToServer),
        Lost::Broker => private.as_mut().unwrap().kill().await.unwrap(),
    }
    copier.say("go").await.unwrap();
    if lost != Lost::Broker {
        copies.until_decided().await;
    }
    if !KINDS.contains(&kind) {
        copier.line_with("unknown").await.unwrap();
    }
    if let Some(server) = &mut private {
        server.restart().await.unwrap();
    }
    // What was on its way is gone.
    proxy.cut();
    proxy.pass();
    copies.produce(40).await.unwrap();
    copies.until_all_committed().await;
    ended(copier).await.unwrap();
    copies.verdict().await.unwrap()
}

#[tokio::test]
async fn when_a_commit_or_its_answer_is_lost() {
    for kind in KINDS {
        for lost in [Lost::Answer, Lost::Request] {
            let copied = commit_lost(kind, lost).await;
            assert!(copied.is_exact(), "{kind:?} {lost:?}: {copied}");
        }
    }
}

#[tokio::test]
async fn when_the_broker_is_killed_before_a_commit_comes() {
    let copied = commit_lost(CopyKind::Ours, Lost::Broker).await;
    assert!(copied.is_exact(), "{copied}");
}

#[tokio::test]
async fn who_takes_a_lost_answer_for_no_commit_is_seen_to_repeat() {
    let copied = commit_lost(CopyKind::PresumesAborted, Lost::Answer).await;
    assert!(!copied.twice.is_empty() && copied.missing.is_empty(), "{copied}");
}

#[tokio::test]
async fn who_takes_a_lost_commit_for_done_is_seen_to_lose() {
    for lost in [Lost::Request, Lost::Broker] {
        let copied = commit_lost(CopyKind::PresumesCommitted, lost).await;
        assert!(!copied.missing.is_empty() && copied.twice.is_empty(), "{lost:?}: {copied}");
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

/// A copier whose transactions stand still loses its partitions and gets them back. What it has done by then is of both times,
/// and the part that is not its own any more does not hold up the rest.
async fn lost_and_back(kind: CopyKind) {
    let kafka = kafka::shared().await.unwrap();
    let proxy = kafka.proxy().await.unwrap();
    let mut copies = Copies::new(COPIER, &kafka, 2).await.unwrap();
    copies.role.kind = kind;
    let first = copies.copier(|role| {
        role.brokers = proxy.brokers();
        role.fate = Some((Fate::Wait, At::Begin, 1));
    });
    let mut first = first.unwrap();
    first.line_with("at Begin").await.unwrap();
    copies.produce(20).await.unwrap();
    first.line_with("Working 2, 20 in hand").await.unwrap();
    proxy.refuse();
    proxy.cut();
    let second = copies.copier(|_| {}).unwrap();
    copies.until_all_committed().await;
    proxy.pass();
    first.line_with("Working 1, 0 in hand").await.unwrap();
    ended(second).await.unwrap();
    first.line_with("Working 2, 0 in hand").await.unwrap();
    copies.produce(20).await.unwrap();
    first.line_with("Working 2, 20 in hand").await.unwrap();
    first.say("go").await.unwrap();
    copies.until_all_committed().await;
    ended(first).await.unwrap();
    exact(&copies, &format!("{kind:?}")).await.unwrap();
}

#[tokio::test]
async fn when_partitions_are_lost_and_come_back_while_records_wait_for_a_transaction() {
    tokio::join!(lost_and_back(KINDS[0]), lost_and_back(KINDS[1]));
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
    // With time enough, however busy the machine is.
    let last = copies.copier(|role| role.session = Duration::from_secs(10))?;
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
        println!("TURNSTILE_TXN_SEED={seed}");
        if let Err(error) = schedule(seed).await {
            panic!("TURNSTILE_TXN_SEED={seed}: {error:#}");
        }
    }
}
