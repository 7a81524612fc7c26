//! The semaphore across processes that are killed and stopped, and limits that change: the word of a register outside of it,
//! order, and no permit lost.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;
use std::time::Duration;

use redis_lock::RedisLocks;
use redis_semaphore::{Lock, Semaphore, Semaphores};
use turnstile_integration_tests::{Crowd, SAFETY_NET, connect, long, name, ttl, until};
use turnstile_testkit::child::Child;

const FORMS: [&str; 2] = ["set", "counter"];
/// A stopped process has lost its permits after this.
const TTL: Duration = Duration::from_millis(1_500);
const LIMIT: u32 = 4;

async fn url() -> String {
    turnstile_testkit::redis::shared().await.unwrap().url()
}

async fn process(name: &str, form: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semaphore_holder"));
    command.args([&url().await, name, form, &LIMIT.to_string(), &TTL.as_millis().to_string()]);
    Child::spawn(command).unwrap()
}

async fn semaphore(name: &str, form: &str) -> Semaphore {
    let semaphores = Semaphores::new(connect(url().await).await);
    let semaphore = if form == "set" { semaphores.by_set(name, LIMIT) } else { semaphores.by_counter(name, LIMIT) };
    semaphore.unwrap().with_options(long())
}

async fn until_waiting(semaphore: &Semaphore, count: usize) {
    until("they wait", async || semaphore.queue().await.unwrap().len() == count).await;
}

/// Everything that is held is given back, and the counter says so too.
async fn all_is_back(semaphore: &Semaphore) -> bool {
    let state = semaphore.state().await.unwrap();
    state.holders.is_empty() && state.queue.is_empty() && semaphore.review().await.unwrap().before == 0
}

/// Waits until it says so: that is much work for a busy machine.
async fn done(process: &mut Child) {
    let mut said = process.line_with("done").await;
    for _ in 0..3 {
        if said.is_err() {
            said = process.line_with("done").await;
        }
    }
    said.unwrap();
}

#[tokio::test]
async fn never_more_than_the_limit_and_no_permit_lost_whatever_is_killed_stopped_or_changed() {
    for form in FORMS {
        let name = name("crowd");
        let semaphore = semaphore(&name, form).await.by_any_limit();
        let crowd = Crowd::new(connect(url().await).await, &format!("{name}/crowd")).unwrap();
        let mut processes = Vec::new();
        for _ in 0..5 {
            processes.push(process(&name, form).await);
        }
        // One more than is asked for dies on the way.
        for process in &mut processes {
            process.say("churn 5 400").await.unwrap();
        }
        until("they come and go", async || semaphore.state().await.unwrap().holders.len() > 1).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        processes[0].kill().unwrap();
        processes[1].stop().unwrap();
        tokio::time::sleep(TTL + TTL / 2).await;
        processes[1].cont().unwrap();
        assert!(crowd.most().await.unwrap() <= u64::from(LIMIT));

        semaphore.set_limit(6).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(crowd.most().await.unwrap() <= 6);
        semaphore.set_limit(3).await.unwrap();
        until("no more than that are held", async || semaphore.state().await.unwrap().held() <= 3).await;
        crowd.most().await.unwrap();
        for process in &mut processes[1..] {
            process.say("churn 2 20").await.unwrap();
        }
        for process in &mut processes[1..] {
            done(process).await;
            done(process).await;
        }
        let most = crowd.most().await.unwrap();
        assert!((2..=3).contains(&most), "{most} inside where three may be");
        until("every permit is back", async || all_is_back(&semaphore).await).await;
        assert_eq!(semaphore.available().await.unwrap(), 3);

        // Control: what is kept is seen to be missing, and who enters without a permit to be too many.
        let kept = semaphore.acquire().await.unwrap();
        assert!(!all_is_back(&semaphore).await);
        let rest = semaphore.acquire_many(2).await.unwrap();
        let intruder = RedisLocks::new(connect(url().await).await).lock(format!("{name}/other")).unwrap();
        let intruder = intruder.acquire().await.unwrap();
        crowd.enter(&kept, 1).await.unwrap();
        crowd.enter(&rest, 2).await.unwrap();
        assert_eq!(crowd.enter(&intruder, 1).await.unwrap(), 4);
        assert_eq!(crowd.most().await.unwrap(), 4);
    }
}

#[tokio::test]
async fn the_order_over_processes_is_that_of_arrival_whatever_they_weigh_and_though_one_is_killed() {
    for form in FORMS {
        let name = name("order");
        let semaphore = semaphore(&name, form).await;
        let mut holder = process(&name, form).await;
        holder.say("hold first 3").await.unwrap();
        holder.line_with("granted").await.unwrap();
        let mut waiters = Vec::new();
        for _ in 0..4 {
            waiters.push(process(&name, form).await);
        }
        let heavy_and_light = [4, 1, 2, 4, 1, 3];
        for place in 0..24 {
            let order = format!("visit {place} {}", heavy_and_light[place % 6]);
            waiters[place % 4].say(&order).await.unwrap();
            until_waiting(&semaphore, place + 1).await;
        }
        // A permit is free, but not to who comes later; to one who keeps to no order it is.
        assert!(semaphore.try_acquire().await.unwrap().is_none());
        semaphore.unfair().try_acquire().await.unwrap().unwrap().release().await.unwrap();
        // The head's process dies, and then the holder's: nobody is left to say so.
        waiters.remove(0).kill().unwrap();
        holder.kill().unwrap();

        let mut history = Vec::new();
        for waiter in &mut waiters {
            for _ in 0..6 {
                let line = waiter.line_with("granted").await.unwrap();
                let mut numbers = line.split(' ').skip(1).map(|word| word.parse::<u64>().unwrap());
                history.push((numbers.next().unwrap(), numbers.next().unwrap()));
            }
        }
        history.sort_by_key(|(_, token)| *token);
        let places: Vec<u64> = history.into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, (0..24).filter(|place| place % 4 != 0).collect::<Vec<_>>());
        let all = semaphore.weighing(LIMIT).unwrap().acquire_timeout(SAFETY_NET).await.unwrap();
        all.release().await.unwrap();
    }
}

#[tokio::test]
async fn without_the_queue_the_heavy_are_passed_by_the_light() {
    for form in FORMS {
        let name = name("starved");
        let semaphore = semaphore(&name, form).await.with_options(ttl(20_000));
        let (fair, unfair) = (semaphore.weighing(LIMIT).unwrap(), semaphore.unfair());
        let mut held = unfair.acquire().await.unwrap();
        let heavy = tokio::spawn(async move { fair.acquire().await.unwrap() });
        until_waiting(&semaphore, 1).await;
        for _ in 0..20 {
            let next = unfair.try_acquire().await.unwrap().expect("it passes the heavy one");
            held.release().await.unwrap();
            held = next;
        }
        assert!(!heavy.is_finished(), "starved as long as they come");
        held.release().await.unwrap();
        heavy.await.unwrap().release().await.unwrap();
    }
}
