//! Never too many, none lost, in order: on a real Redis, in both forms.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rand::RngExt;
use redis_lua::redis::cmd;
use redis_semaphore::{Client, Lock, ReleaseOutcome, SemaphoreError, Semaphores};
use support::{FORMS, Form, SAFETY_NET, client, process, ttl, unique, until};
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnstile_core::{GrantReply, GrantRequest, LeaseBackend, Owner, RenewReply, Renewal};

/// Counts who is inside, outside of Redis.
#[derive(Default)]
struct Inside {
    now: AtomicU32,
    most: AtomicU32,
}

impl Inside {
    async fn visit(&self, weight: u32) {
        let inside = self.now.fetch_add(weight, Ordering::SeqCst) + weight;
        self.most.fetch_max(inside, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.now.fetch_sub(weight, Ordering::SeqCst);
    }
}

/// The most that were ever inside when three processes crowd semaphores of these limits.
async fn crowd(make: Form, limits: [u32; 3], fair: bool) -> u32 {
    let (name, inside, mut tasks) = (unique("crowd"), Arc::new(Inside::default()), JoinSet::new());
    for (nth, limit) in limits.into_iter().enumerate() {
        // Other limits are refused on one name: a name for each.
        let name = if limits[0] == limits[2] { name.clone() } else { format!("{name}{nth}") };
        let semaphore = make(&process().await, &name, limit).unwrap();
        let semaphore = if fair { semaphore } else { semaphore.unfair() };
        for task in 0..4 {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            tasks.spawn(async move {
                for round in 0..15 {
                    let weight = 1 + (task + round) % 2;
                    let permit = semaphore.acquire_many(weight).await.unwrap();
                    inside.visit(weight).await;
                    assert_eq!(permit.release().await.unwrap(), ReleaseOutcome::Released);
                }
            });
        }
    }
    timeout(SAFETY_NET, tasks.join_all()).await.unwrap();
    inside.most.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_than_the_limit_are_inside() {
    for make in FORMS {
        for fair in [true, false] {
            assert!((2..=3).contains(&crowd(make, [3, 3, 3], fair).await));
        }
        // Control: the same crowd at three semaphores is seen to be too many.
        assert!(crowd(make, [3, 3, 4], true).await > 3);
    }
}

#[tokio::test]
async fn waiters_of_all_processes_are_served_in_order_of_arrival_whatever_they_weigh() {
    for make in FORMS {
        let (name, processes) = (unique("order"), [process().await, process().await]);
        let first = make(&processes[0], &name, 3).unwrap();
        let held = first.acquire_many(2).await.unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for (place, weight) in [3, 1, 1, 2, 3, 1].into_iter().enumerate() {
            let (semaphore, order) = (make(&processes[place % 2], &name, 3).unwrap(), order.clone());
            tasks.spawn(async move {
                let permit = semaphore.acquire_many(weight).await.unwrap();
                order.lock().unwrap().push((permit.fencing_token(), place));
                permit.release().await.unwrap();
            });
            until("it stands in the queue", async || first.queue().await.unwrap().len() == place + 1).await;
        }
        assert_eq!(first.available().await.unwrap(), 1);
        assert!(first.try_acquire().await.unwrap().is_none(), "nobody passes the heavy one at the head");
        first.unfair().try_acquire().await.unwrap().unwrap().release().await.unwrap(); // but the unfair do
        held.release().await.unwrap();
        timeout(SAFETY_NET, tasks.join_all()).await.unwrap();
        let mut order = order.lock().unwrap().clone();
        order.sort_unstable();
        assert_eq!(order.into_iter().map(|(_, place)| place).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn permits_and_places_of_a_process_that_is_gone_come_back() {
    for make in FORMS {
        let (name, url) = (unique("gone"), turnstile_testkit::redis::shared().await.unwrap().url());
        let dead_name = name.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let all = Semaphores::new(Client::connect(url).await.unwrap());
                let semaphore = make(&all, &dead_name, 2).unwrap().with_options(ttl(300));
                std::mem::forget(semaphore.acquire_many(2).await.unwrap());
                let waiter = semaphore.clone();
                tokio::spawn(async move { std::mem::forget(waiter.acquire_many(2).await) });
                until("it waits", async || semaphore.queue().await.unwrap().len() == 1).await;
            });
        })
        .join()
        .unwrap();
        let semaphore = make(&process().await, &name, 2).unwrap();
        let permit = timeout(SAFETY_NET, semaphore.acquire_many(2)).await.unwrap().unwrap();
        permit.release().await.unwrap();
        assert_eq!(semaphore.available().await.unwrap(), 2);
        assert!(semaphore.queue().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_permit_is_lost_by_random_acquires_releases_and_cancels() {
    for make in FORMS {
        let (name, mut tasks) = (unique("lost"), JoinSet::new());
        let processes = [process().await, process().await];
        for task in 0..8 {
            let semaphore = make(&processes[task % 2], &name, 5).unwrap().with_options(ttl(60_000));
            tasks.spawn(async move {
                for _ in 0..300 {
                    let (weight, patience, drops) = {
                        let mut random = rand::rng();
                        (random.random_range(1..=5), random.random_range(0..3_000), random.random_bool(0.5))
                    };
                    let within = Duration::from_micros(patience);
                    match timeout(within, semaphore.acquire_many(weight)).await {
                        Ok(Ok(permit)) if drops => drop(permit),
                        Ok(permit) => drop(permit.unwrap().release().await.unwrap()),
                        Err(_) => {}
                    }
                }
            });
        }
        timeout(SAFETY_NET, tasks.join_all()).await.unwrap();
        for process in &processes {
            assert!(process.manager().shutdown().await.is_empty());
        }
        let semaphore = make(&process().await, &name, 5).unwrap();
        let state = semaphore.state().await.unwrap();
        assert!(state.holders.is_empty() && state.queue.is_empty(), "{state:?}");
        assert_eq!(semaphore.review().await.unwrap().before, 0, "the counter says so too");
    }
}

#[tokio::test]
async fn the_limit_is_kept_on_the_server_and_changed_on_purpose_only() {
    for make in FORMS {
        let (name, all) = (unique("limit"), process().await);
        let two = make(&all, &name, 2).unwrap();
        let held = two.acquire_many(2).await.unwrap();
        let error = make(&all, &name, 9).unwrap().try_acquire().await.unwrap_err();
        assert!(
            matches!(SemaphoreError::of(&error), Some(SemaphoreError::OtherLimit { theirs: 2, yours: 9, .. })),
            "{error:?}"
        );
        let three = two.set_limit(3).await.unwrap();
        let third = three.try_acquire().await.unwrap().unwrap();
        let error = two.acquire().await.unwrap_err();
        assert!(matches!(SemaphoreError::of(&error), Some(SemaphoreError::OtherLimit { theirs: 3, yours: 2, .. })));

        let one = three.set_limit(1).await.unwrap();
        held.check().unwrap();
        third.release().await.unwrap();
        assert!(one.try_acquire().await.unwrap().is_none(), "two are still held");
        held.release().await.unwrap();
        let last = one.try_acquire().await.unwrap().unwrap();
        assert_eq!((one.limit().await.unwrap(), one.available().await.unwrap()), (Some(1), 0));
        last.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_counter_that_somebody_changed_is_repaired() {
    let (name, client) = (unique("tampered"), client().await);
    let semaphore = Semaphores::new(client.clone()).by_counter(&name, 3).unwrap().with_options(ttl(60_000));
    let held = semaphore.acquire_many(2).await.unwrap();
    for wrong in ["0", "-5", "3", "nonsense"] {
        let set = async || {
            let mut set = cmd("HSET");
            set.arg(format!("{{{name}}}")).arg("used").arg(wrong);
            client.run::<u32>(&set).await.unwrap()
        };
        set().await;
        assert_eq!(semaphore.review().await.unwrap().after, 2);
        assert!(semaphore.try_acquire_many(2).await.unwrap().is_none());
        semaphore.try_acquire().await.unwrap().unwrap().release().await.unwrap();
        // By itself, too.
        set().await;
        let got = AtomicBool::new(false);
        until("a permit is had", async || {
            if let Some(permit) = semaphore.try_acquire().await.unwrap() {
                permit.release().await.unwrap();
                got.store(true, Ordering::SeqCst);
            }
            got.load(Ordering::SeqCst)
        })
        .await;
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn an_owner_is_told_who_holds_and_what_was_asked_in_vain() {
    let (name, all) = (unique("bad"), Semaphores::builder(client().await).holder("a label: 100%").build());
    assert!(matches!(all.by_set(&name, 0), Err(SemaphoreError::NoLimit)));
    let semaphore = all.by_set(&name, 4).unwrap();
    assert!(matches!(semaphore.weighing(0), Err(SemaphoreError::NoWeight)));
    let error = semaphore.acquire_many(5).await.unwrap_err();
    assert!(matches!(SemaphoreError::of(&error), Some(SemaphoreError::TooHeavy { weight: 5, limit: 4 })));

    let permit = semaphore.acquire_many(3).await.unwrap();
    let holders = semaphore.holders().await.unwrap();
    let [holder] = &holders[..] else { panic!("{holders:?}") };
    assert_eq!((holder.label.as_str(), holder.weight, holder.token), ("a label: 100%", 3, permit.fencing_token()));
    assert_eq!(holder.owner, permit.owner().to_string());
    assert!(holder.remaining > Duration::from_secs(1));
    let error = all.by_counter(&name, 4).unwrap().try_acquire().await.unwrap_err();
    assert!(matches!(SemaphoreError::of(&error), Some(SemaphoreError::OtherForm { .. })));
    permit.release().await.unwrap();

    let client = client().await;
    for (old, command) in [(unique("old"), "HSET"), (unique("other"), "SET")] {
        let mut write = cmd(command);
        write.arg(format!("{{{old}}}"));
        if command == "HSET" {
            write.arg("limit");
        }
        write.arg(4);
        client.run::<redis_lua::redis::Value>(&write).await.unwrap();
        let error = all.by_set(&old, 4).unwrap().acquire().await.unwrap_err();
        let known = matches!(SemaphoreError::of(&error), Some(SemaphoreError::OtherVersion { .. }));
        assert_eq!(known, command == "HSET", "{error:?}");
    }
}

#[tokio::test]
async fn one_owner_gets_one_grant_and_what_is_gone_stays_gone() {
    for make in FORMS {
        let (name, all, client) = (unique("again"), process().await, client().await);
        let semaphore = make(&all, &name, 2).unwrap();
        let (backend, resource, owner) = (all.manager().backend(), semaphore.resource(), Owner::random());
        let minute = Duration::from_secs(60);
        let first = backend.grant(GrantRequest::new(resource, owner, minute)).await.unwrap();
        // Its reply was lost: asked again.
        assert_eq!(backend.grant(GrantRequest::new(resource, owner, minute)).await.unwrap(), first);
        assert_eq!(semaphore.available().await.unwrap(), 1);
        let renewals = [Renewal::new(resource.clone(), owner, minute)];
        assert_eq!(backend.renew(&renewals).await[0].as_ref().unwrap(), &RenewReply::Renewed);

        // It ends: moved into the past by the server's clock.
        let mut end = cmd("ZADD");
        end.arg(format!("{{{name}}}:permits")).arg(1).arg(owner.to_string());
        client.run::<u32>(&end).await.unwrap();
        assert_eq!(backend.renew(&renewals).await[0].as_ref().unwrap(), &RenewReply::NotHeld);
        let both = semaphore.try_acquire_many(2).await.unwrap().unwrap();
        assert_eq!(backend.release(resource, owner).await.unwrap().outcome, ReleaseOutcome::AlreadyExpired);
        assert_eq!(semaphore.available().await.unwrap(), 0, "it gave back nothing of another's");
        assert!(matches!(first, GrantReply::Granted { first_token } if first_token < both.fencing_token()));
        both.release().await.unwrap();
        assert_eq!(backend.release(resource, owner).await.unwrap().outcome, ReleaseOutcome::AlreadyExpired);
        assert_eq!(semaphore.review().await.unwrap().before, 0);
    }
}

#[tokio::test]
async fn without_messages_the_next_gets_its_turn_all_the_same() {
    for make in FORMS {
        let (name, client, semaphores) = (unique("deaf"), client().await, [process().await, process().await]);
        let [holder, waiter] = semaphores.map(|all| make(&all, &name, 1).unwrap());
        let held = holder.acquire().await.unwrap();
        let waiting = tokio::spawn(async move { waiter.acquire().await.unwrap() });
        until("it waits", async || holder.queue().await.unwrap().len() == 1).await;
        let mut kill = cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        client.run::<u32>(&kill).await.unwrap();
        held.release().await.unwrap();
        timeout(SAFETY_NET, waiting).await.unwrap().unwrap().release().await.unwrap();
    }
}
