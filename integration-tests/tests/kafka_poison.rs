//! A record that never works is set aside with its story, and the rest of its partition goes on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use turnstile_integration_tests::kafka::{Commits, Kind, Naive, Protocol, Scene};
use turnstile_testkit::history::{Rule, Verdict};
use turnstile_testkit::kafka::shared;

const MEMBER: &str = env!("CARGO_BIN_EXE_member");

/// Ten records, one of poison, ten more.
async fn poisoned() -> Scene {
    let mut scene = Scene::new(MEMBER, &shared().await.unwrap(), 1).await.unwrap();
    scene.role.attempts = 3;
    scene.role.protocol = Protocol::Eager;
    for (count, value) in [(10, "1"), (1, "poison"), (10, "1")] {
        scene.produce(count, value, None).await.unwrap();
    }
    scene
}

#[tokio::test]
async fn poison_ends_among_the_dead_letters_with_its_story_and_the_partition_goes_on() {
    let scene = poisoned().await;
    let member = scene.member("member").unwrap();
    scene.until_all_committed().await;
    member.ended().await.unwrap();
    let verdict = scene.verdict().await.unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    let numbers = (verdict.done, verdict.dead_letters, verdict.dead_letter_copies, verdict.attempts);
    assert_eq!(numbers, (20, 1, 0, 23), "{verdict}");

    let letters = scene.dead_letters().await.unwrap();
    let [(place, headers)] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&*place.topic, place.partition, place.offset), (&*scene.role.topic, 0, 10));
    assert_eq!(headers["turnstile.attempts"], "3");
    assert_eq!(headers["turnstile.group"], scene.role.group);
    assert!(headers["turnstile.error"].contains("it never works"), "{headers:?}");
}

#[tokio::test]
async fn a_kill_in_between_loses_no_poison() {
    let scene = poisoned().await;
    scene.produce(20, "poison", None).await.unwrap();
    let one = scene.member("one").unwrap();
    scene.until_done_by("one", 20).await;
    one.killed().await.unwrap();
    let two = scene.member("two").unwrap();
    scene.until_all_committed().await;
    two.ended().await.unwrap();
    let verdict = scene.verdict().await.unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.done, verdict.dead_letters), (20, 21), "{verdict}");
}

#[tokio::test]
async fn where_nothing_is_set_aside_poison_holds_its_partition_and_that_is_told() {
    let scene = poisoned().await;
    let mut member = scene.member_with("member", |role| role.dead_letters = None).unwrap();
    member.line_with("stalled 0: halted at offset 10").await.unwrap();
    let report = member.ended().await.unwrap();
    assert!(report.contains("it never works"), "{report}");
    let verdict: Verdict = scene.verdict().await.unwrap();
    assert_eq!((verdict.done, verdict.broken(Rule::NoLoss), verdict.breaches.len()), (10, 11, 11), "{verdict}");
}

#[tokio::test]
async fn a_member_that_drops_what_fails_is_seen_to_lose_it() {
    let mut scene = poisoned().await;
    scene.role.kind = Kind::Naive(Naive::with(Commits::Done));
    let _member = scene.member("member").unwrap();
    scene.until_all_committed().await;
    let verdict = scene.verdict().await.unwrap();
    assert_eq!(verdict.broken(Rule::NoLoss), 1, "{verdict}");
}
