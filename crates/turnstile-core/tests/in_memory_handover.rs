//! Hand-over in memory: without a request, with a higher token, and never at the cost of other processes.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{Flaw, MS, Op, SECOND, Server, Step, Thing, pass, ttl, yield_all};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use turnstile_core::{Lease, LeaseManager, LeaseOptions, Lock, LostReason, ManagedLock};

const TTL: Duration = Duration::from_secs(30);

/// One who got it, and how.
#[derive(Clone, Debug)]
struct Turn {
    token: u64,
    owner: String,
    at: Instant,
}

type Turns = Arc<Mutex<Vec<Turn>>>;

/// `count` tasks in line, each holding it for `time`. The first is refused once, so that it reserves tokens.
async fn line(
    server: &Server,
    lock: &ManagedLock<Server>,
    count: usize,
    time: Duration,
) -> (Turns, Vec<JoinHandle<()>>) {
    let turns = Turns::default();
    server.script(Op::Grant, [Step::refuse()]);
    let mut tasks = Vec::new();
    for _ in 0..count {
        let (lock, turns) = (lock.clone(), turns.clone());
        tasks.push(tokio::spawn(async move {
            let lease = lock.acquire().await.unwrap();
            let (token, owner) = (lease.fencing_token().get(), lease.owner().to_string());
            turns.lock().unwrap().push(Turn { token, owner, at: Instant::now() });
            if !time.is_zero() {
                sleep(time).await;
            }
            lease.check().unwrap();
            lease.release().await.unwrap();
        }));
        yield_all().await;
    }
    (turns, tasks)
}

#[tokio::test(start_paused = true)]
async fn a_lease_goes_from_task_to_task_without_a_request_with_strictly_higher_tokens_of_its_range() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL).handover(100, SECOND));
    let (turns, tasks) = line(&server, &lock, 50, Duration::ZERO).await;
    join_all(tasks).await;
    let turns = turns.lock().unwrap().clone();
    assert_eq!(turns.iter().map(|turn| turn.token).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    assert!(turns.iter().all(|turn| turn.owner == turns[0].owner));
    assert_eq!((server.grants("x"), server.tokens("x")), (1, 101));
    assert_eq!((server.calls(Op::Grant).len(), server.calls(Op::Release).len()), (2, 1));
    // The next grant, of anybody, is above the whole range.
    let next = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    assert_eq!(next.fencing_token().get(), 102);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_when_it_is_granted_costs_one_token() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL));
    for i in 1..=10 {
        assert_eq!(lock.acquire().await.unwrap().fencing_token().get(), i);
        yield_all().await;
    }
}

#[tokio::test(start_paused = true)]
async fn hand_overs_are_bounded_in_number() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL).handover(3, TTL));
    let (turns, tasks) = line(&server, &lock, 12, Duration::ZERO).await;
    join_all(tasks).await;
    assert_eq!(server.grants("x"), 3, "twelve turns, four a grant");
    let turns = turns.lock().unwrap();
    assert!(turns.is_sorted_by(|a, b| a.token < b.token));
}

#[tokio::test(start_paused = true)]
async fn hand_overs_are_bounded_in_time() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL).handover(1000, 50 * MS));
    let (turns, tasks) = line(&server, &lock, 60, 5 * MS).await;
    join_all(tasks).await;
    let turns = turns.lock().unwrap();
    for tenure in turns.chunk_by(|a, b| a.owner == b.owner) {
        assert!(tenure[tenure.len() - 1].at - tenure[0].at <= 50 * MS);
    }
    assert_eq!(server.grants("x"), 6, "eleven of sixty turns each");
}

#[tokio::test(start_paused = true)]
async fn zero_hand_overs_turns_it_off() {
    let server = Server::new();
    let lock = server.lock("x", ttl(TTL).handover(0, SECOND));
    let (_, tasks) = line(&server, &lock, 10, Duration::ZERO).await;
    join_all(tasks).await;
    assert_eq!((server.grants("x"), server.tokens("x")), (10, 10));
}

async fn waits(lock: &ManagedLock<Server>) -> JoinHandle<Lease> {
    let lock = lock.clone();
    let task = tokio::spawn(async move { lock.acquire().await.unwrap() });
    yield_all().await;
    task
}

/// A holder whose grant reserved tokens, and one who waits behind it by `next`.
async fn holder_and_waiter(
    server: &Server,
    manager: &LeaseManager<Server>,
    options: LeaseOptions,
    next: LeaseOptions,
) -> (Lease, JoinHandle<Lease>) {
    server.script(Op::Grant, [Step::refuse()]);
    let first = waits(&manager.lock(Thing::exclusive("x"), options)).await;
    let second = waits(&manager.lock(Thing::exclusive("x"), next)).await;
    (first.await.unwrap(), second)
}

#[tokio::test(start_paused = true)]
async fn only_who_wants_just_such_a_lease_is_handed_it() {
    let base = ttl(TTL).handover(8, TTL);
    for (next, grants) in [
        (base.clone(), 1),
        (ttl(TTL / 2).handover(8, TTL), 2),
        (base.clone().auto_renew(false), 2),
        (base.clone().handover(9, TTL), 2),
    ] {
        let server = Server::new();
        let (first, second) = holder_and_waiter(&server, &server.manager(), base.clone(), next.clone()).await;
        drop(first);
        let second = second.await.unwrap();
        assert_eq!(server.grants("x"), grants, "{next:?}");
        assert!(second.remaining() <= next.ttl());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_which_little_is_left_is_not_handed_over() {
    let options = ttl(TTL).auto_renew(false).handover(8, TTL);
    for (held_for, grants) in [(TTL / 2 - SECOND, 1), (TTL / 2 + SECOND, 2)] {
        let server = Server::new();
        let (first, second) = holder_and_waiter(&server, &server.manager(), options.clone(), options.clone()).await;
        pass(held_for).await;
        drop(first);
        let second = second.await.unwrap();
        assert_eq!(server.grants("x"), grants);
        assert!(second.remaining() > TTL / 2 - SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_over_is_lost_at_its_deadline_and_the_next_one_asks() {
    let options = ttl(TTL).auto_renew(false).handover(8, TTL);
    let server = Server::new();
    let manager = server.manager();
    let since = Instant::now();
    let (first, second) = holder_and_waiter(&server, &manager, options.clone(), options.clone()).await;
    let deadline = first.remaining() + since.elapsed();
    let third = waits(&manager.lock(Thing::exclusive("x"), options)).await;
    pass(SECOND).await;
    let first_lost = first.lost();
    drop(first);
    let second = second.await.unwrap();
    assert_eq!(server.grants("x"), 1);
    assert_eq!(second.lost().await, LostReason::Expired);
    assert_eq!(since.elapsed(), deadline);
    assert_eq!(first_lost.now_or_never(), Some(LostReason::Released), "whoever gave it up did not lose it");
    let third = third.await.unwrap();
    assert!(third.fencing_token() > second.fencing_token());
    assert_eq!(server.grants("x"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_over_and_is_revoked_is_lost_to_its_holder_alone() {
    let options = ttl(TTL).handover(8, TTL);
    let server = Server::new();
    let (first, second) = holder_and_waiter(&server, &server.manager(), options.clone(), options).await;
    let first_lost = first.lost();
    drop(first);
    let second = second.await.unwrap();
    server.revoke("x");
    assert_eq!(second.lost().await, LostReason::Revoked);
    assert_eq!(first_lost.now_or_never(), Some(LostReason::Released));
}

/// A process whose tasks never leave the lock alone, and the longest that another waits for each of ten turns.
async fn longest_wait(server: &Server, options: LeaseOptions) -> Option<Duration> {
    let busy = server.lock("x", options.clone());
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let busy = busy.clone();
            tokio::spawn(async move {
                loop {
                    let lease = busy.acquire().await.unwrap();
                    sleep(MS).await;
                    lease.release().await.unwrap();
                }
            })
        })
        .collect();
    sleep(SECOND).await;
    let other = server.lock("x", options);
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let since = Instant::now();
        let lease = timeout(60 * SECOND, other.acquire()).await;
        longest = longest.max(since.elapsed());
        let Ok(lease) = lease else {
            longest = Duration::MAX;
            break;
        };
        drop(lease);
        sleep(10 * MS).await;
    }
    tasks.iter().for_each(JoinHandle::abort);
    join_all(tasks).await;
    (longest < Duration::MAX).then_some(longest)
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_tasks_never_pause_starves_no_other() {
    let options = ttl(TTL).handover(1024, 50 * MS);
    let longest = longest_wait(&Server::new(), options.clone()).await;
    assert!(longest.is_some_and(|longest| longest <= 100 * MS), "{longest:?}");
    // Control: handed on without end, or released to oneself.
    assert_eq!(longest_wait(&Server::new(), options.handover(u32::MAX, TTL * 1000)).await, None);
    let unwanted = longest_wait(&Server::with_flaw(Flaw::NeverWanted), ttl(TTL).handover(1024, 50 * MS)).await;
    assert!(unwanted.is_none_or(|longest| longest > 100 * MS), "{unwanted:?}");
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_once_is_not_taken_for_another_that_waits() {
    let server = Server::new();
    let other = server.lock("x", ttl(TTL)).acquire().await.unwrap();
    let lock = server.lock("x", ttl(TTL).handover(0, Duration::ZERO));
    let tasks = [waits(&lock).await, waits(&lock).await, waits(&lock).await];
    pass(20 * MS).await;
    drop(other);
    let since = Instant::now();
    for task in tasks {
        drop(task.await.unwrap());
    }
    assert!(since.elapsed() <= 16 * MS, "one retry; then each in the moment of the release: {:?}", since.elapsed());
}
