//! Many workers behind one member: each key in order, nothing lost, and what is done beyond the commit point is not done
//! again; while members come and go, are killed and suspended.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::time::Duration;

use turnstile_integration_tests::kafka::{Kind, Parallel, Protocol, Scene};
use turnstile_integration_tests::until;
use turnstile_testkit::history::{How, Order, Rule, Verdict, What};
use turnstile_testkit::kafka::shared;

const MEMBER: &str = env!("CARGO_BIN_EXE_member");
const PROTOCOLS: [Protocol; 3] = [Protocol::Cooperative, Protocol::Eager, Protocol::Consumer];

async fn scene(partitions: i32, protocol: Protocol) -> Scene {
    let mut scene = Scene::new(MEMBER, &shared().await.unwrap(), partitions).await.unwrap();
    scene.role.protocol = protocol;
    scene.role.kind = Kind::Parallel(Parallel::default());
    scene.role.session = Duration::from_secs(2);
    (scene.order, scene.keys) = (Order::Key, 40);
    scene
}

#[track_caller]
fn clean(verdict: &Verdict) {
    assert!(verdict.is_clean(), "{verdict}");
}

#[tokio::test]
async fn while_members_come_and_go_each_key_is_in_order_and_nothing_is_repeated() {
    for protocol in PROTOCOLS {
        let scene = scene(6, protocol).await;
        let verdict = scene.come_and_go(20).await.unwrap();
        clean(&verdict);
        assert_eq!((verdict.done, verdict.duplicates), (verdict.produced, 0), "{verdict}");
    }
}

#[tokio::test]
async fn without_lanes_the_order_of_a_key_is_seen_to_be_lost() {
    let mut scene = scene(1, Protocol::Cooperative).await;
    scene.role.kind = Kind::Parallel(Parallel { by_key: false, ..Parallel::default() });
    scene.produce(200, "", None).await.unwrap();
    let _one = scene.member("one").unwrap();
    let broken = [Rule::InOrder, Rule::OneAttempt];
    until("it is seen", async || broken.iter().all(|rule| scene.verdict_now().broken(*rule) > 0)).await;
}

/// One of two is killed, and then one is suspended past its session.
#[tokio::test]
async fn kills_and_suspensions_lose_nothing_and_leave_each_key_in_order() {
    for protocol in PROTOCOLS {
        let scene = scene(4, protocol).await;
        scene.produce(6000, "", None).await.unwrap();
        let (one, two) = (scene.member("one").unwrap(), scene.member("two").unwrap());
        scene.until_done_by("one", 50).await;
        scene.until_done_by("two", 50).await;
        one.killed().await.unwrap();
        let three = scene.member("three").unwrap();
        scene.produce_until_done_by("three", 20).await;
        two.stopped().unwrap();
        let before = scene.done_by(Some("three"));
        scene.produce(400, "", None).await.unwrap();
        until("the other has all", async || scene.owners().iter().all(|owner| &**owner == "three")).await;
        scene.until_done_by("three", before + 100).await;
        two.continued().unwrap();
        scene.produce_until_done_by("two", 1).await;
        scene.until_all_committed().await;
        two.ended().await.unwrap();
        three.ended().await.unwrap();
        let verdict = scene.verdict().await.unwrap();
        clean(&verdict);
        assert_eq!(verdict.done, verdict.produced, "{verdict}");
    }
}

/// A member has one key that takes for ever, does all others, commits, and is killed. What the next one begins.
async fn after_a_kill(metadata: usize) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let mut scene = scene(1, Protocol::Cooperative).await;
    scene.role.kind = Kind::Parallel(Parallel { metadata, ..Parallel::default() });
    scene.keys = 1; // which is that of the first record of all
    scene.produce(1, "600000", None).await.unwrap();
    scene.keys = 50;
    scene.produce(500, "1", None).await.unwrap();
    let one = scene.member("one").unwrap();
    scene.until_done_by("one", 490).await;
    if metadata > 0 {
        let kafka = shared().await.unwrap();
        until("it stands in the metadata", async || {
            let committed = kafka.committed(&scene.role.group, &scene.role.topic).await.unwrap().remove(0);
            let (Some(offset), text) = (committed.offset, committed.metadata) else { return false };
            kafka_offsets::metadata::decode(offset, &text).is_ok_and(|beyond| beyond.len() == 490)
        })
        .await;
    }
    one.killed().await.unwrap();
    let _two = scene.member("two").unwrap();
    // The key's other records are behind it, so all that it does anew was done before.
    scene.produce(1, "1", None).await.unwrap();
    scene.keys = 2;
    scene.produce(2, "1", None).await.unwrap();
    until("the last is done", async || {
        let last = |event: &turnstile_testkit::history::Event| {
            matches!(&event.what, What::Ended { place, how: How::Done, .. } if place.offset == 503)
        };
        scene.events().iter().any(last)
    })
    .await;
    let events = scene.events();
    let begun = events.iter().filter_map(|event| match &event.what {
        What::Started { place, .. } if &*event.who == "two" => Some(place.offset),
        _ => None,
    });
    let done = events.iter().filter_map(|event| match &event.what {
        What::Ended { place, how: How::Done, .. } if &*event.who == "one" => Some(place.offset),
        _ => None,
    });
    (begun.collect(), done.collect())
}

#[tokio::test]
async fn what_was_done_beyond_the_commit_point_is_not_done_again_after_a_kill() {
    let (begun, done) = after_a_kill(4096).await;
    assert!(begun.is_disjoint(&done), "{begun:?}");
    assert_eq!(begun, BTreeSet::from([0, 503]));
}

#[tokio::test]
async fn without_the_metadata_it_is_seen_to_be_done_again() {
    let (begun, done) = after_a_kill(0).await;
    assert!(begun.is_superset(&done), "{begun:?}");
}
