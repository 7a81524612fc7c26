//! Each partition is worked on by one member at a time, in order: while members come and go, while one is suspended, and
//! while a handler takes longer than the group would wait for a poll.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use turnstile_integration_tests::kafka::{Commits, Kind, Naive, Process, Protocol, Scene};
use turnstile_integration_tests::until;
use turnstile_testkit::history::{Event, Fault, Rule, Verdict, What};
use turnstile_testkit::kafka::shared;

const MEMBER: &str = env!("CARGO_BIN_EXE_member");

async fn scene(partitions: i32, protocol: Protocol) -> Scene {
    let mut scene = Scene::new(MEMBER, &shared().await.unwrap(), partitions).await.unwrap();
    scene.role.protocol = protocol;
    scene
}

#[track_caller]
fn clean(verdict: &Verdict) {
    assert!(verdict.is_clean(), "{verdict}");
}

async fn come_and_go(protocol: Protocol) {
    let verdict = scene(6, protocol).await.come_and_go(5).await.unwrap();
    clean(&verdict);
    assert_eq!(verdict.done, verdict.produced, "{verdict}");
    assert_eq!(verdict.duplicates, 0, "nothing is repeated where nobody fails: {verdict}");
}

#[tokio::test]
async fn members_come_and_go_with_the_cooperative_protocol() {
    come_and_go(Protocol::Cooperative).await;
}

#[tokio::test]
async fn members_come_and_go_with_the_eager_protocol() {
    come_and_go(Protocol::Eager).await;
}

#[tokio::test]
async fn members_come_and_go_with_the_protocol_of_the_brokers() {
    come_and_go(Protocol::Consumer).await;
}

#[tokio::test]
async fn a_member_that_works_on_what_it_had_fetched_is_seen_beside_the_next_owner() {
    let mut scene = scene(2, Protocol::Eager).await;
    scene.role.kind = Kind::Naive(Naive::with(Commits::Done));
    scene.produce(400, "", None).await.unwrap();
    let _one = scene.member("one").unwrap();
    scene.until_done_by("one", 5).await;
    let _two = scene.member("two").unwrap();
    let broken = [Rule::OneMember, Rule::Explained, Rule::NotAfterGivenUp];
    until("all of it is seen", async || broken.iter().all(|rule| scene.verdict_now().broken(*rule) > 0)).await;
}

#[tokio::test]
async fn several_workers_on_one_partition_are_seen_to_lose_its_order() {
    let mut scene = scene(1, Protocol::Eager).await;
    scene.role.kind = Kind::Naive(Naive { workers: 3, ..Naive::with(Commits::Nothing) });
    scene.produce(20, "", None).await.unwrap();
    let _one = scene.member("one").unwrap();
    let broken = [Rule::InOrder, Rule::OneAttempt];
    until("it is seen", async || broken.iter().all(|rule| scene.verdict_now().broken(*rule) > 0)).await;
}

/// When a fault was written down.
fn time_of(events: &[Event], fault: Fault) -> u64 {
    let is_it = |event: &&Event| matches!(event.what, What::Fault { fault: this, .. } if this == fault);
    events.iter().find(is_it).unwrap().at
}

/// One is suspended in the middle of a record, until another has done all that was there and committed it, and goes on.
/// A handler that heeds nothing ends its record all the same.
async fn suspended(protocol: Protocol, heeds: bool) {
    let mut scene = scene(2, protocol).await;
    scene.role.session = Duration::from_secs(2);
    scene.produce(160, "20", None).await.unwrap();
    let zombie = scene.member_with("zombie", |role| {
        role.heeds = heeds;
        role.commits = Some(Duration::from_millis(500));
    });
    let zombie = zombie.unwrap();
    scene.until_done_by("zombie", 5).await;
    scene.until_at_work("zombie").await;
    zombie.stopped().unwrap();
    let next = scene.member("next").unwrap();
    scene.until_all_committed().await;
    zombie.continued().unwrap();
    // It comes back as a member like any other.
    scene.produce(100, "", None).await.unwrap();
    let came_back = async || {
        let events = scene.events();
        let cont = time_of(&events, Fault::Cont);
        let new = |event: &Event| event.at > cont && &*event.who == "zombie";
        events.iter().any(|event| new(event) && matches!(event.what, What::Assigned { .. }))
    };
    until("it is assigned anew", came_back).await;
    scene.produce(100, "", None).await.unwrap();
    scene.until_all_committed().await;
    next.ended().await.unwrap();
    zombie.ended().await.unwrap();
    let verdict = scene.verdict().await.unwrap();
    clean(&verdict);
    assert_eq!((verdict.produced, verdict.done), (360, 360), "{verdict}");
    assert_eq!(verdict.blames.len(), 1, "{verdict}");

    // What it began after it went on, it began as the owner.
    let events = scene.events();
    let stopped = time_of(&events, Fault::Stop);
    let epochs = |late: bool| -> Vec<u64> {
        let mine = events.iter().filter(|event| &*event.who == "zombie" && (event.at > stopped) == late);
        mine.filter_map(|event| if let What::Started { epoch, .. } = event.what { Some(epoch) } else { None }).collect()
    };
    assert!(!epochs(true).iter().any(|epoch| epochs(false).contains(epoch)), "{verdict}\n{events:?}");
}

#[tokio::test]
async fn a_suspended_member_neither_commits_nor_goes_on_with_the_cooperative_protocol() {
    suspended(Protocol::Cooperative, true).await;
}

#[tokio::test]
async fn a_suspended_member_neither_commits_nor_goes_on_with_the_eager_protocol() {
    suspended(Protocol::Eager, true).await;
}

#[tokio::test]
async fn a_suspended_member_neither_commits_nor_goes_on_with_the_protocol_of_the_brokers() {
    suspended(Protocol::Consumer, true).await;
}

#[tokio::test]
async fn a_suspended_handler_that_blocks_its_thread_changes_nothing_either() {
    suspended(Protocol::Cooperative, false).await;
}

#[tokio::test]
async fn a_zombie_that_trusts_its_own_books_is_seen_to_take_the_commit_back() {
    let mut scene = scene(2, Protocol::Eager).await;
    scene.role.session = Duration::from_secs(2);
    scene.role.kind = Kind::Naive(Naive::with(Commits::Done));
    scene.produce(160, "20", None).await.unwrap();
    let zombie = scene.member_with("zombie", |role| role.commits = Some(Duration::from_millis(500))).unwrap();
    scene.until_done_by("zombie", 5).await;
    zombie.stopped().unwrap();
    let _next = scene.member_with("next", |role| role.kind = Kind::Ours).unwrap();
    scene.until_all_committed().await;
    zombie.continued().unwrap();
    until("the commit goes back", async || scene.verdict_now().broken(Rule::CommitNotBack) > 0).await;
}

/// Two members with a partition each, and one record takes ten times the longest poll interval.
async fn slow_handler(protocol: Protocol, kind: Kind) -> (Scene, [Process; 2]) {
    let mut scene = scene(2, protocol).await;
    scene.role.kind = kind;
    scene.role.session = Duration::from_secs(1);
    scene.role.max_poll = Duration::from_secs(1);
    let mut members = ["one", "two"].map(|name| scene.member(name).unwrap());
    for member in &mut members {
        member.line_with("Working 1").await.unwrap();
    }
    scene.produce(1, "10000", Some(0)).await.unwrap();
    scene.produce(20, "", Some(0)).await.unwrap();
    scene.produce(20, "", Some(1)).await.unwrap();
    (scene, members)
}

async fn keeps_its_partition(protocol: Protocol) {
    let (scene, [one, two]) = slow_handler(protocol, Kind::Ours).await;
    scene.until_all_committed().await;
    one.ended().await.unwrap();
    two.ended().await.unwrap();
    let verdict = scene.verdict().await.unwrap();
    clean(&verdict);
    assert_eq!((verdict.done, verdict.attempts), (41, 41), "{verdict}");
}

#[tokio::test]
async fn a_slow_handler_keeps_its_partition_with_the_cooperative_protocol() {
    keeps_its_partition(Protocol::Cooperative).await;
}

#[tokio::test]
async fn a_slow_handler_keeps_its_partition_with_the_eager_protocol() {
    keeps_its_partition(Protocol::Eager).await;
}

#[tokio::test]
async fn a_slow_handler_keeps_its_partition_with_the_protocol_of_the_brokers() {
    keeps_its_partition(Protocol::Consumer).await;
}

#[tokio::test]
async fn a_slow_handler_on_the_thread_that_polls_is_seen_to_lose_its_partition() {
    let kind = Kind::Naive(Naive { workers: 0, ..Naive::with(Commits::Done) });
    let (scene, _members) = slow_handler(Protocol::Eager, kind).await;
    until("the record is begun by both", async || scene.verdict_now().broken(Rule::OneMember) > 0).await;
}
