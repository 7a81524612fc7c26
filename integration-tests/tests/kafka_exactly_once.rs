//! kafka-txn: what is committed is f of the input, each once and in order, whatever happens to those who copy.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use anyhow::Result;
use kafka_txn::Isolation;
use turnstile_integration_tests::copies::{At, Copies, CopyKind, Fate};
use turnstile_integration_tests::kafka::Protocol;
use turnstile_integration_tests::until;
use turnstile_testkit::child::Child;
use turnstile_testkit::kafka;

const COPIER: &str = env!("CARGO_BIN_EXE_copier");

async fn copies(kind: CopyKind) -> Copies {
    let mut copies = Copies::new(COPIER, &kafka::shared().await.unwrap(), 4).await.unwrap();
    copies.role.kind = kind;
    copies
}

async fn ended(mut copier: Child) {
    copier.say("end").await.unwrap();
    let line = copier.line_with("ended").await.unwrap();
    assert!(copier.wait().await.unwrap().success(), "{line}");
}

async fn exact(copies: &Copies) {
    let copied = copies.verdict().await.unwrap();
    assert!(copied.is_exact(), "{copied}");
}

/// One copier after another dies, each at another step, and the last does the rest.
async fn killed_at_every_step(kind: CopyKind, protocol: Protocol) -> Result<Copies> {
    let mut copies = copies(kind).await;
    copies.role.protocol = protocol;
    if kind == CopyKind::Apart {
        // So that who comes next ends what the last one has left open.
        copies.role.instance = Some("same".to_owned());
    }
    copies.produce(1500).await?;
    for (time, at) in [2, 1, 3, 2, 2].into_iter().zip(At::ALL) {
        let mut copier = copies.copier(|role| role.fate = Some((Fate::Kill, at, time)))?;
        copier.line_with(&format!("at {at:?}")).await?;
        copier.wait().await?;
    }
    let last = copies.copier(|_| {})?;
    copies.until_all_committed().await;
    ended(last).await;
    Ok(copies)
}

#[tokio::test]
async fn after_sigkill_at_every_step() {
    exact(&killed_at_every_step(CopyKind::Ours, Protocol::Cooperative).await.unwrap()).await;
}

#[tokio::test]
async fn after_sigkill_at_every_step_with_the_protocol_of_the_brokers() {
    exact(&killed_at_every_step(CopyKind::Ours, Protocol::Consumer).await.unwrap()).await;
}

#[tokio::test]
async fn after_sigkill_at_every_step_in_parallel_by_key() {
    exact(&killed_at_every_step(CopyKind::Parallel, Protocol::Cooperative).await.unwrap()).await;
}

#[tokio::test]
async fn without_lanes_the_order_of_a_key_is_seen_to_be_lost() {
    let mut copies = copies(CopyKind::Unordered).await;
    copies.role.work = Duration::from_millis(1);
    copies.produce(1000).await.unwrap();
    let copier = copies.copier(|_| {}).unwrap();
    copies.until_all_committed().await;
    ended(copier).await;
    let copied = copies.verdict().await.unwrap();
    assert!(!copied.out_of_order.is_empty() && copied.missing.is_empty() && copied.twice.is_empty(), "{copied}");
}

#[tokio::test]
async fn without_a_transaction_sigkill_is_seen_to_repeat() {
    let copies = killed_at_every_step(CopyKind::Plain, Protocol::Eager).await.unwrap();
    let copied = copies.verdict().await.unwrap();
    assert!(!copied.twice.is_empty() && copied.missing.is_empty(), "{copied}");
}

#[tokio::test]
async fn with_the_offsets_outside_of_the_transaction_sigkill_is_seen_to_repeat() {
    let copies = killed_at_every_step(CopyKind::Apart, Protocol::Eager).await.unwrap();
    let copied = copies.verdict().await.unwrap();
    assert!(!copied.twice.is_empty() && copied.missing.is_empty(), "{copied}");
}

/// One is stopped at a step until another has done its part and all else; then it goes on.
async fn suspended(kind: CopyKind, at: At, protocol: Protocol) -> Result<(Copies, Child)> {
    let mut copies = copies(kind).await;
    copies.role.protocol = protocol;
    copies.role.session = Duration::from_secs(2);
    copies.produce(300).await?;
    let mut zombie = copies.copier(|role| role.fate = Some((Fate::Stop, at, 2)))?;
    zombie.line_with(&format!("at {at:?}")).await?;
    let next = copies.copier(|_| {})?;
    copies.until_all_committed().await;
    ended(next).await;
    zombie.cont()?;
    zombie.line_with("past").await?;
    Ok((copies, zombie))
}

async fn stays_exact_when_suspended(kind: CopyKind, at: At, protocol: Protocol) {
    let (mut copies, zombie) = suspended(kind, at, protocol).await.unwrap();
    // It finds its place again, and works on.
    copies.produce(50).await.unwrap();
    copies.until_all_committed().await;
    ended(zombie).await;
    exact(&copies).await;
}

#[tokio::test]
async fn after_sigstop_past_the_session_before_the_offsets_are_sent() {
    stays_exact_when_suspended(CopyKind::Ours, At::SendOffsets, Protocol::Cooperative).await;
}

#[tokio::test]
async fn after_sigstop_past_the_session_before_the_commit() {
    stays_exact_when_suspended(CopyKind::Ours, At::Commit, Protocol::Eager).await;
}

#[tokio::test]
async fn after_sigstop_past_the_session_with_the_protocol_of_the_brokers() {
    stays_exact_when_suspended(CopyKind::Ours, At::SendOffsets, Protocol::Consumer).await;
}

#[tokio::test]
async fn after_sigstop_past_the_session_in_parallel_by_key() {
    stays_exact_when_suspended(CopyKind::Parallel, At::Produce, Protocol::Cooperative).await;
}

#[tokio::test]
async fn a_zombie_whose_offsets_are_outside_of_its_transaction_is_seen_to_repeat() {
    // Its transaction is not begun yet, so that it does not time out.
    let (copies, _zombie) = suspended(CopyKind::Apart, At::Begin, Protocol::Eager).await.unwrap();
    until("it repeats", async || !copies.verdict().await.unwrap().twice.is_empty()).await;
}

#[tokio::test]
async fn when_members_come_and_go_in_mid_transaction() {
    for (kind, protocol) in [
        (CopyKind::Ours, Protocol::Cooperative),
        (CopyKind::Parallel, Protocol::Eager),
        (CopyKind::Ours, Protocol::Consumer),
    ] {
        let mut copies = copies(kind).await;
        copies.role.protocol = protocol;
        copies.role.work = Duration::from_millis(1);
        copies.produce(1500).await.unwrap();
        let first = copies.copier(|_| {}).unwrap();
        copies.until_copied(50).await;
        let mut second = copies.copier(|_| {}).unwrap();
        second.line_with("Working").await.unwrap();
        ended(first).await;
        let mut third = copies.copier(|_| {}).unwrap();
        third.line_with("Working").await.unwrap();
        copies.produce(300).await.unwrap();
        copies.until_all_committed().await;
        ended(second).await;
        ended(third).await;
        exact(&copies).await;
    }
}

#[tokio::test]
async fn what_was_aborted_is_there_and_never_seen_by_who_reads_what_is_committed() {
    let copies = killed_at_every_step(CopyKind::Ours, Protocol::Eager).await.unwrap();
    let (everything, committed) =
        (copies.read(Isolation::Everything).await.unwrap(), copies.read(Isolation::Committed).await.unwrap());
    assert!(everything.len() > committed.len(), "something was aborted: {} of {}", committed.len(), everything.len());
    exact(&copies).await;
}
