//! What is committed: never more than is done, never less than before; nothing is repeated after an orderly leave, and
//! after a kill only what was in flight.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use turnstile_integration_tests::kafka::{Commits, Kind, Naive, Protocol, Scene};
use turnstile_integration_tests::until;
use turnstile_testkit::history::{Rule, Verdict};
use turnstile_testkit::kafka::shared;

const MEMBER: &str = env!("CARGO_BIN_EXE_member");

async fn scene(partitions: i32) -> Scene {
    let mut scene = Scene::new(MEMBER, &shared().await.unwrap(), partitions).await.unwrap();
    scene.role.session = Duration::from_secs(2);
    scene
}

/// A member leaves in the middle of its work, having committed nothing yet, and another goes on.
async fn leaves(protocol: Protocol, kind: Kind) -> Verdict {
    let mut scene = scene(4).await;
    scene.role.protocol = protocol;
    scene.role.kind = kind;
    scene.role.commits = None;
    scene.produce(200, "", None).await.unwrap();
    let one = scene.member("one").unwrap();
    scene.until_done_by("one", 40).await;
    scene.until_at_work("one").await;
    one.ended().await.unwrap();
    let two = scene.member("two").unwrap();
    scene.until_last_is_done().await;
    two.ended().await.unwrap();
    if kind == Kind::Ours {
        scene.until_all_committed().await;
    }
    scene.verdict().await.unwrap()
}

#[tokio::test]
async fn an_orderly_leave_repeats_nothing() {
    for protocol in [Protocol::Cooperative, Protocol::Eager, Protocol::Consumer] {
        let verdict = leaves(protocol, Kind::Ours).await;
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!((verdict.done, verdict.duplicates), (200, 0), "{verdict}");
    }
}

#[tokio::test]
async fn a_leave_without_a_last_commit_is_seen_to_repeat_records() {
    let verdict = leaves(Protocol::Eager, Kind::Naive(Naive::with(Commits::Done))).await;
    assert!(verdict.broken(Rule::Explained) > 0, "{verdict}");
}

/// Three times a member is killed at work and another comes.
async fn kills(protocol: Protocol) -> Verdict {
    let mut scene = scene(2).await;
    scene.role.protocol = protocol;
    scene.role.commits = Some(Duration::from_millis(20));
    scene.produce(300, "", None).await.unwrap();
    for name in ["one", "two", "three"] {
        let member = scene.member(name).unwrap();
        scene.until_done_by(name, 40).await;
        scene.until_at_work(name).await;
        member.killed().await.unwrap();
    }
    let last = scene.member("last").unwrap();
    scene.until_all_committed().await;
    last.ended().await.unwrap();
    scene.verdict().await.unwrap()
}

#[tokio::test]
async fn kills_repeat_only_what_was_in_flight() {
    for protocol in [Protocol::Cooperative, Protocol::Eager, Protocol::Consumer] {
        let verdict = kills(protocol).await;
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!((verdict.done, verdict.blames.len()), (300, 3), "{verdict}");
        assert!(verdict.blames.iter().all(|blame| blame.duplicates <= blame.in_flight), "{verdict}");
        assert!(verdict.duplicates > 0, "each was killed at work: {verdict}");
    }
}

#[tokio::test]
async fn a_member_that_begins_anew_each_time_is_seen_to_repeat_what_was_committed() {
    let mut scene = scene(1).await;
    scene.role.kind = Kind::Naive(Naive { from_the_beginning: true, ..Naive::with(Commits::Done) });
    scene.role.protocol = Protocol::Eager;
    scene.produce(100, "", None).await.unwrap();
    let one = scene.member("one").unwrap();
    until("something is committed", async || scene.committed(0) >= Some(10)).await;
    one.killed().await.unwrap();
    let _two = scene.member("two").unwrap();
    until("it is seen", async || scene.verdict_now().broken(Rule::FromCommit) > 0).await;
}

#[tokio::test]
async fn a_commit_of_what_was_fetched_is_seen_to_pass_what_is_not_done() {
    let mut scene = scene(1).await;
    scene.role.kind = Kind::Naive(Naive::with(Commits::Auto));
    scene.role.protocol = Protocol::Eager;
    scene.produce(100, "50", None).await.unwrap();
    let _one = scene.member("one").unwrap();
    until("it is seen", async || scene.verdict_now().broken(Rule::CommitNotAhead) > 0).await;
}
