//! More members than partitions, and more partitions than at the start.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use turnstile_integration_tests::kafka::Scene;
use turnstile_integration_tests::until;
use turnstile_testkit::kafka::shared;

const MEMBER: &str = env!("CARGO_BIN_EXE_member");

#[tokio::test]
async fn an_idle_member_says_so_and_takes_over_when_the_other_is_killed() {
    let mut scene = Scene::new(MEMBER, &shared().await.unwrap(), 1).await.unwrap();
    scene.role.session = Duration::from_secs(2);
    scene.produce(200, "", None).await.unwrap();
    let mut one = scene.member("one").unwrap();
    one.line_with("Working 1").await.unwrap();
    let mut two = scene.member("two").unwrap();
    two.line_with("Idle 0").await.unwrap();
    scene.until_at_work("one").await;
    one.killed().await.unwrap();
    two.line_with("Working 1").await.unwrap();
    scene.until_all_committed().await;
    two.ended().await.unwrap();
    let verdict = scene.verdict().await.unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.done, 200, "{verdict}");
}

#[tokio::test]
async fn an_idle_member_takes_over_without_repeating_anything_when_the_other_leaves() {
    let scene = Scene::new(MEMBER, &shared().await.unwrap(), 1).await.unwrap();
    scene.produce(200, "", None).await.unwrap();
    let mut one = scene.member("one").unwrap();
    one.line_with("Working 1").await.unwrap();
    let mut two = scene.member("two").unwrap();
    two.line_with("Idle 0").await.unwrap();
    scene.until_at_work("one").await;
    one.ended().await.unwrap();
    scene.until_all_committed().await;
    two.ended().await.unwrap();
    let verdict = scene.verdict().await.unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.done, verdict.duplicates), (200, 0), "{verdict}");
}

/// A member that looks for new partitions as often as this.
async fn grows(refresh: &str) -> Scene {
    let mut scene = Scene::new(MEMBER, &shared().await.unwrap(), 2).await.unwrap();
    scene.role.options = vec![("topic.metadata.refresh.interval.ms".to_owned(), refresh.to_owned())];
    scene.produce(40, "", None).await.unwrap();
    scene
}

#[tokio::test]
async fn partitions_that_are_added_in_the_middle_of_the_run_are_worked_on() {
    let kafka = shared().await.unwrap();
    let (looks, never) = (grows("100").await, grows("-1").await);
    let (one, two) = (looks.member("one").unwrap(), looks.member("two").unwrap());
    let blind = never.member("blind").unwrap();
    for scene in [&looks, &never] {
        scene.until_all_committed().await;
        kafka.grow_topic(&scene.role.topic, 4).await.unwrap();
        scene.produce(80, "", None).await.unwrap();
    }
    looks.until_all_committed().await;
    one.ended().await.unwrap();
    two.ended().await.unwrap();
    let verdict = looks.verdict().await.unwrap();
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.done, verdict.duplicates, verdict.produced), (120, 0, 120), "{verdict}");

    // One that does not look for them does not see them: what the others did was their doing.
    never.until_done_by("blind", 80).await;
    assert_eq!(never.owners().len(), 2);
    blind.ended().await.unwrap();
    until("the commit is seen", async || never.committed(1) == Some(40)).await;
    assert_eq!(never.verdict().await.unwrap().breaches.len(), 40, "what is in the new partitions is not done");
}
