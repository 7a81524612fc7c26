//! Waiters are woken by messages alone; lost messages, lost connections, dead waiters and lost keys are made good.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use redis_semaphore::{Client, Lock, SemaphoreError, Semaphores};
use support::{FORMS, Form, Redis, SAFETY_NET, connect, long, run, unique, until, until_waiting};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longer than any test: no timed check at all.
const NEVER: Duration = Duration::from_secs(3600);

async fn unchecked(url: &str) -> Semaphores {
    Semaphores::builder(connect(url).await).heartbeat(NEVER).build()
}

/// Has the process wait once: then its subscription stands, and nobody of it is told so later on.
async fn subscribe(semaphores: &Semaphores, holder: &Semaphores) {
    let name = unique("subscribed");
    let holder = holder.by_set(&name, 1).unwrap().with_options(long());
    let waiter = semaphores.by_set(&name, 1).unwrap().with_options(long());
    let held = holder.acquire().await.unwrap();
    let waiting = tokio::spawn(async move { waiter.acquire().await.unwrap() });
    until_waiting(&holder, 1).await;
    held.release().await.unwrap();
    timeout(SAFETY_NET, waiting).await.unwrap().unwrap().release().await.unwrap();
}

/// How many scripts the server has run since its statistics were reset.
async fn scripts(client: &Client) -> u64 {
    let stats: String = run(client, "INFO commandstats").await;
    let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    stats.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(calls).sum()
}

/// Waiters of these processes take one to three of three permits in turn until so many grants were made; without the
/// timed check, each lost wake-up is a waiter that waits for ever.
async fn hand_overs(processes: &[Semaphores], make: Form, name: &str, grants: u64) {
    let (done, inside, mut tasks) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU32::new(0)), JoinSet::new());
    for waiter in 0..12 {
        let semaphore = make(&processes[waiter as usize % processes.len()], name, 3).unwrap().with_options(long());
        let (done, inside) = (done.clone(), inside.clone());
        tasks.spawn(async move {
            let weight = 1 + waiter % 3;
            while done.fetch_add(1, Ordering::Relaxed) < grants {
                let permits = timeout(SAFETY_NET, semaphore.acquire_many(weight)).await;
                let permits = permits.expect("a wake-up was lost").unwrap();
                assert!(inside.fetch_add(weight, Ordering::Relaxed) + weight <= 3, "too many at once");
                tokio::task::yield_now().await;
                inside.fetch_sub(weight, Ordering::Relaxed);
                permits.release().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost_while_subscriptions_are_killed() {
    let server = Redis::start().await.unwrap();
    for make in FORMS {
        let mut processes = Vec::new();
        for _ in 0..3 {
            processes.push(unchecked(&server.url()).await);
        }
        let (admin, killed) = (connect(server.url()).await, Arc::new(AtomicU64::new(0)));
        let killing = tokio::spawn({
            let killed = killed.clone();
            async move {
                loop {
                    sleep(Duration::from_millis(30)).await;
                    killed.fetch_add(run(&admin, "CLIENT KILL TYPE pubsub").await, Ordering::Relaxed);
                }
            }
        });
        hand_overs(&processes, make, &unique("killed"), 3_000).await;
        killing.abort();
        assert!(killed.load(Ordering::Relaxed) >= 20, "the fault was there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contended_grant_takes_three_round_trips_and_waiting_takes_none() {
    let server = Redis::start().await.unwrap();
    let (admin, name) = (connect(server.url()).await, unique("counted"));
    let processes = [unchecked(&server.url()).await, unchecked(&server.url()).await];
    // Subscriptions stand, and the server knows the scripts.
    hand_overs(&processes, FORMS[0], &name, 100).await;
    run::<()>(&admin, "CONFIG RESETSTAT").await;
    let grants = 1_000;
    hand_overs(&processes, FORMS[0], &name, grants).await;
    let sent = scripts(&admin).await;
    assert!(sent <= 3 * grants, "{sent} scripts for {grants} grants: the ask, the release, the confirmation");

    let held = FORMS[0](&processes[0], &name, 3).unwrap().with_options(long()).acquire_many(3).await.unwrap();
    let waiter = FORMS[0](&processes[1], &name, 3).unwrap().with_options(long());
    let looker = waiter.clone();
    let waiting = tokio::spawn(async move { waiter.acquire().await.unwrap() });
    until_waiting(&looker, 1).await;
    run::<()>(&admin, "CONFIG RESETSTAT").await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(scripts(&admin).await, 0);
    held.release().await.unwrap();
    drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_lost_message_is_made_good_and_without_the_timed_check_it_is_not() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    // A holder whose messages the server does not let through: its release hands the permit on, and nobody hears.
    run::<()>(&admin, "ACL SETUSER mute on >secret +@all ~* resetchannels").await;
    let client = Client::builder(server.url()).username("mute").password("secret").connect().await.unwrap();
    let mute = Semaphores::new(client);
    let checked = Semaphores::new(connect(server.url()).await);
    let heard = unchecked(&server.url()).await;
    for (semaphores, is_checked) in [(checked, true), (unchecked(&server.url()).await, false)] {
        subscribe(&semaphores, &heard).await;
        for make in FORMS {
            let name = unique("lost");
            let holder = make(&mute, &name, 1).unwrap().with_options(long());
            let held = holder.acquire().await.unwrap();
            let waiter = make(&semaphores, &name, 1).unwrap().with_options(long());
            let mut waiting = tokio::spawn(async move { waiter.acquire().await.unwrap() });
            until_waiting(&holder, 1).await;
            held.release().await.unwrap();
            if is_checked {
                drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
            } else {
                assert!(!holder.holders().await.unwrap()[0].confirmed, "it is granted, and does not know");
                assert!(timeout(Duration::from_secs(3), &mut waiting).await.is_err(), "the control waits on");
                waiting.abort();
            }
        }
    }
}

#[tokio::test]
async fn a_head_that_was_killed_is_passed_over() {
    let server = Redis::start().await.unwrap();
    for make in FORMS {
        let (url, name) = (server.url(), unique("head"));
        let holder = make(&Semaphores::new(connect(&url).await), &name, 2).unwrap().with_options(long());
        let held = holder.acquire_many(2).await.unwrap();
        let dead = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let semaphores = {
            let _entered = dead.enter();
            Semaphores::new(Client::new(&url).unwrap())
        };
        let heavy = make(&semaphores, &name, 2).unwrap();
        dead.spawn(async move { heavy.acquire_many(2).await });
        until_waiting(&holder, 1).await;
        let survivor = make(&Semaphores::new(connect(&url).await), &name, 2).unwrap();
        let waiting = tokio::spawn(async move { survivor.acquire().await.unwrap() });
        until_waiting(&holder, 2).await;
        // Where blocking is allowed.
        std::thread::spawn(|| dead.shutdown_timeout(SAFETY_NET)).join().unwrap();
        held.release().await.unwrap();
        assert!(!holder.holders().await.unwrap()[0].confirmed, "the dead one has it");
        drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn waiters_hear_of_another_limit() {
    let server = Redis::start().await.unwrap();
    for make in FORMS {
        let (name, semaphores) = (unique("limit"), unchecked(&server.url()).await);
        let two = make(&semaphores, &name, 2).unwrap().with_options(long());
        let held = two.acquire_many(2).await.unwrap();
        let strict = two.clone();
        let strict = tokio::spawn(async move { strict.acquire().await });
        until_waiting(&two, 1).await;
        let follower = two.by_any_limit();
        let following = tokio::spawn(async move { follower.acquire_many(3).await });
        until("it is told that it is too heavy", async || following.is_finished()).await;
        let error = following.await.unwrap().unwrap_err();
        assert!(
            matches!(SemaphoreError::of(&error), Some(SemaphoreError::TooHeavy { weight: 3, limit: 2 })),
            "{error:?}"
        );
        let follower = two.by_any_limit();
        let following = tokio::spawn(async move { follower.acquire().await });
        until_waiting(&two, 2).await;

        let three = two.set_limit(3).await.unwrap();
        let error = timeout(SAFETY_NET, strict).await.unwrap().unwrap().unwrap_err();
        let told = SemaphoreError::of(&error);
        assert!(matches!(told, Some(SemaphoreError::OtherLimit { theirs: 3, yours: 2, .. })), "{error:?}");
        let third = timeout(SAFETY_NET, following).await.unwrap().unwrap().unwrap();
        assert_eq!((three.available().await.unwrap(), three.queue().await.unwrap().len()), (0, 0));
        drop((held, third));
    }
}

#[tokio::test]
async fn a_limit_that_was_lost_and_set_anew_is_told_to_those_who_know_another() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    for make in FORMS {
        let (name, semaphores) = (unique("anew"), unchecked(&server.url()).await);
        subscribe(&semaphores, &semaphores).await;
        let two = make(&semaphores, &name, 2).unwrap().with_options(long());
        let held = two.acquire_many(2).await.unwrap();
        let waiter = two.clone();
        let waiting = tokio::spawn(async move { waiter.acquire().await });
        until_waiting(&two, 1).await;
        run::<()>(&admin, &format!("DEL {{{name}}}")).await;
        drop(make(&semaphores, &name, 5).unwrap().try_acquire().await.unwrap().expect("two of five are held"));
        let error = timeout(SAFETY_NET, waiting).await.unwrap().unwrap().unwrap_err();
        let told = SemaphoreError::of(&error);
        assert!(matches!(told, Some(SemaphoreError::OtherLimit { theirs: 5, yours: 2, .. })), "{error:?}");
        drop(held);
    }
}

#[tokio::test]
async fn waiters_go_on_when_the_server_loses_keys_of_the_queue_or_the_limit() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    for make in FORMS {
        for lost in [":queue", ":alive", ":waiters", ""] {
            let (name, semaphores) = (unique("evicted"), Semaphores::new(connect(server.url()).await));
            let holder = make(&semaphores, &name, 1).unwrap().with_options(long());
            let held = holder.acquire().await.unwrap();
            let waiter = holder.clone();
            let waiting = tokio::spawn(async move { waiter.acquire().await.unwrap() });
            until_waiting(&holder, 1).await;
            run::<()>(&admin, &format!("DEL {{{name}}}{lost}")).await;
            held.release().await.unwrap();
            drop(timeout(SAFETY_NET, waiting).await.unwrap().unwrap());
        }
    }
}

#[tokio::test]
async fn a_permit_of_which_the_server_lost_a_part_is_lost_and_lets_nobody_in_before() {
    let server = Redis::start().await.unwrap();
    let admin = connect(server.url()).await;
    for make in FORMS {
        let (name, semaphores) = (unique("part"), Semaphores::new(connect(server.url()).await));
        let holder = make(&semaphores, &name, 3).unwrap().with_options(support::ttl(1_500));
        let held = holder.acquire_many(3).await.unwrap();
        run::<()>(&admin, &format!("DEL {{{name}}}:holders")).await;
        let other = make(&Semaphores::new(connect(server.url()).await), &name, 3).unwrap();
        assert!(other.try_acquire().await.unwrap().is_none(), "how much it holds is not known: nobody gets in");
        timeout(SAFETY_NET, held.lost()).await.unwrap();
        drop(timeout(SAFETY_NET, other.acquire_many(3)).await.unwrap().unwrap());
    }
}
