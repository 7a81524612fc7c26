//! Nothing is lost: a member is killed, the broker is killed and comes back, the network is cut.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use turnstile_integration_tests::kafka::{Commits, Kind, Naive, Protocol, Scene};
use turnstile_integration_tests::until;
use turnstile_testkit::history::{Event, Fault, Rule, Verdict, What};
use turnstile_testkit::kafka::{Kafka, shared};
use turnstile_testkit::proxy::Direction;

const MEMBER: &str = env!("CARGO_BIN_EXE_member");
const SESSION: Duration = Duration::from_secs(2);

async fn scene(partitions: i32) -> Scene {
    let mut scene = Scene::new(MEMBER, &shared().await.unwrap(), partitions).await.unwrap();
    scene.role.session = SESSION;
    scene
}

#[track_caller]
fn clean(verdict: &Verdict) {
    assert!(verdict.is_clean(), "{verdict}");
}

/// One of two members is killed in the middle of its work, and a third comes.
async fn killed_in_the_middle(protocol: Protocol) {
    let mut scene = scene(4).await;
    scene.role.protocol = protocol;
    scene.produce(400, "", None).await.unwrap();
    let (one, two) = (scene.member("one").unwrap(), scene.member("two").unwrap());
    scene.until_done_by("one", 10).await;
    scene.until_done_by("two", 10).await;
    scene.until_at_work("one").await;
    one.killed().await.unwrap();
    let three = scene.member("three").unwrap();
    scene.until_all_committed().await;
    two.ended().await.unwrap();
    three.ended().await.unwrap();
    let verdict = scene.verdict().await.unwrap();
    clean(&verdict);
    let [blame] = &verdict.blames[..] else { panic!("{verdict}") };
    assert!(blame.in_flight > 0 && blame.duplicates <= blame.in_flight, "{verdict}");
    assert_eq!((verdict.produced, verdict.done, verdict.duplicates), (400, 400, blame.duplicates), "{verdict}");
}

#[tokio::test]
async fn a_killed_member_loses_nothing_with_the_cooperative_protocol() {
    killed_in_the_middle(Protocol::Cooperative).await;
}

#[tokio::test]
async fn a_killed_member_loses_nothing_with_the_eager_protocol() {
    killed_in_the_middle(Protocol::Eager).await;
}

#[tokio::test]
async fn a_killed_member_loses_nothing_with_the_protocol_of_the_brokers() {
    killed_in_the_middle(Protocol::Consumer).await;
}

/// Kills a member that is at work, with a commit each so often, and gives its place to another of the same kind.
/// Also tells how many the first had begun.
async fn crash(kind: Kind, commits: Duration) -> (Verdict, u64) {
    let mut scene = scene(1).await;
    scene.role.kind = kind;
    scene.role.protocol = Protocol::Eager;
    scene.role.commits = Some(commits);
    scene.produce(60, "20", None).await.unwrap();
    let first = scene.member("first").unwrap();
    // Far enough for something to be committed, if that happens often.
    scene.until_done_by("first", 10).await;
    if commits < Duration::from_secs(1) {
        until("something is committed", async || scene.committed(0) >= Some(5)).await;
    }
    scene.until_at_work("first").await;
    first.killed().await.unwrap();
    let mut second = scene.member("second").unwrap();
    second.line_with("Working").await.unwrap();
    // When this one is done, all before it will not be done any more.
    scene.produce(1, "", None).await.unwrap();
    scene.until_last_is_done().await;
    second.ended().await.unwrap();
    scene.until_all_committed().await;
    let begun = |event: &&Event| &*event.who == "first" && matches!(event.what, What::Started { .. });
    let begun = scene.events().iter().filter(begun).count() as u64;
    (scene.verdict().await.unwrap(), begun)
}

#[tokio::test]
async fn the_crash_that_loses_records_with_auto_commit_loses_none_here() {
    let often = Duration::from_millis(20);
    let (auto, _) = crash(Kind::Naive(Naive::with(Commits::Auto)), often).await;
    assert!(auto.broken(Rule::NoLoss) > 0, "fetched, committed, and never done: {auto}");
    assert!(auto.broken(Rule::CommitNotAhead) > 0, "{auto}");
    let (ours, _) = crash(Kind::Ours, often).await;
    clean(&ours);
    assert_eq!(ours.done, 61, "{ours}");
}

#[tokio::test]
async fn the_crash_that_repeats_all_with_a_rare_auto_commit_repeats_only_what_was_in_flight_here() {
    let (auto, begun) = crash(Kind::Naive(Naive::with(Commits::Auto)), Duration::from_secs(600)).await;
    assert_eq!(auto.duplicates, begun, "{auto}");
    let (ours, begun) = crash(Kind::Ours, Duration::ZERO).await;
    clean(&ours);
    assert!(ours.duplicates + 5 <= begun, "of {begun}: {ours}");
}

/// The broker dies while two members work, and comes back with what it had.
async fn broker_restart(protocol: Protocol, kind: Kind) -> Verdict {
    let mut kafka = Kafka::start().await.unwrap();
    let mut scene = Scene::new(MEMBER, &kafka, 4).await.unwrap();
    scene.role.protocol = protocol;
    scene.role.session = SESSION;
    scene.role.kind = kind;
    scene.produce(400, "", None).await.unwrap();
    let (mut one, two) = (scene.member("one").unwrap(), scene.member("two").unwrap());
    scene.until_done_by("one", 10).await;
    scene.until_done_by("two", 10).await;
    scene.fault(Fault::Cut).unwrap();
    kafka.kill().await.unwrap();
    if kind != Kind::Ours {
        one.line_with("died").await.unwrap();
        drop(two);
        return scene.verdict_now();
    }
    kafka.restart().await.unwrap();
    scene.fault(Fault::Mended).unwrap();
    scene.produce(40, "", None).await.unwrap();
    scene.until_all_committed().await;
    one.ended().await.unwrap();
    two.ended().await.unwrap();
    scene.verdict().await.unwrap()
}

async fn costs_no_record(protocol: Protocol) {
    let verdict = broker_restart(protocol, Kind::Ours).await;
    clean(&verdict);
    assert_eq!((verdict.produced, verdict.done, verdict.zombie_overlaps), (440, 440, 0), "{verdict}");
}

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_costs_no_record_with_the_cooperative_protocol() {
    costs_no_record(Protocol::Cooperative).await;
}

#[tokio::test]
async fn a_broker_that_is_killed_and_comes_back_costs_no_record_with_the_protocol_of_the_brokers() {
    costs_no_record(Protocol::Consumer).await;
}

/// The broker is gone for longer than a session, and a member has records in hand for longer than that.
#[tokio::test]
async fn a_member_out_of_reach_of_its_group_begins_nothing_until_it_hears_of_it() {
    let mut kafka = Kafka::start().await.unwrap();
    let mut scene = Scene::new(MEMBER, &kafka, 1).await.unwrap();
    scene.role.protocol = Protocol::Consumer;
    scene.role.session = SESSION;
    scene.produce(400, "20", None).await.unwrap();
    let one = scene.member("one").unwrap();
    scene.until_done_by("one", 10).await;
    scene.fault(Fault::Cut).unwrap();
    kafka.kill().await.unwrap();
    let mut before = 0;
    until("nothing is done for a second", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::mem::replace(&mut before, scene.done_by(Some("one"))) == before
    })
    .await;
    assert!(before < 400, "all that was in hand was begun");
    kafka.restart().await.unwrap();
    scene.fault(Fault::Mended).unwrap();
    scene.until_all_committed().await;
    one.ended().await.unwrap();
    clean(&scene.verdict().await.unwrap());
}

#[tokio::test]
async fn a_member_that_ends_at_an_error_of_the_broker_leaves_records_undone() {
    let naive = Naive { dies_of_errors: true, ..Naive::with(Commits::Nothing) };
    let verdict = broker_restart(Protocol::Eager, Kind::Naive(naive)).await;
    assert!(verdict.broken(Rule::NoLoss) > 0, "{verdict}");
}

/// One of two members is cut off until the other has its partitions, and comes back. That it was put out it learns late: the
/// broker's answers take their time, the first to a new connection as well as the one that says so.
async fn cut_off(protocol: Protocol) {
    let kafka = shared().await.unwrap();
    let proxy = kafka.proxy().await.unwrap();
    let mut scene = scene(2).await;
    scene.role.protocol = protocol;
    scene.role.options = vec![("reconnect.backoff.max.ms".to_owned(), "200".to_owned())];
    // It has some left when it takes itself for cut off, and when it comes back.
    scene.produce(500, "50", None).await.unwrap();
    let two = scene.member("two").unwrap();
    let one = scene.member_with("one", |role| role.brokers = proxy.brokers()).unwrap();
    scene.until_done_by("one", 10).await;
    one.record(Fault::Cut).unwrap();
    proxy.refuse();
    proxy.cut();
    until("the other has all", async || scene.owners().iter().all(|owner| &**owner == "two")).await;
    proxy.pass();
    proxy.delay(Direction::ToClient, Duration::from_millis(1500));
    one.record(Fault::Mended).unwrap();
    let before = scene.done_by(Some("one"));
    // For some of these answers.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(scene.done_by(Some("one")), before, "it goes on with what is not its own any more");
    proxy.pass();
    scene.produce_until_done_by("one", 1).await;
    scene.until_all_committed().await;
    one.ended().await.unwrap();
    two.ended().await.unwrap();
    let verdict = scene.verdict().await.unwrap();
    clean(&verdict);
    assert_eq!(verdict.produced, verdict.done, "{verdict}");
    assert!(verdict.assignments > 2, "{verdict}");
}

#[tokio::test]
async fn a_member_that_is_cut_off_loses_nothing_with_the_cooperative_protocol() {
    cut_off(Protocol::Cooperative).await;
}

#[tokio::test]
async fn a_member_that_is_cut_off_loses_nothing_with_the_eager_protocol() {
    cut_off(Protocol::Eager).await;
}

#[tokio::test]
async fn a_member_that_is_cut_off_loses_nothing_with_the_protocol_of_the_brokers() {
    cut_off(Protocol::Consumer).await;
}
