//! Jobs are worked on, tried again, set aside, delayed and handed back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use parking_lot::Mutex;
use redis_streams::{AddError, Added, Attempt, Effect, Handler, Job, Limit, NewJob, Order, Outcome, Queue, Trim};
use support::*;
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_is_done_once_and_the_stream_is_empty_then() {
    let queue = queue().await;
    let done = Arc::new(Mutex::new(HashMap::<Arc<str>, u32>::new()));
    let seen = done.clone();
    let worker = start(queue.worker(With(move |body: Arc<str>, _| {
        *seen.lock().entry(body).or_default() += 1;
        async { Outcome::Done }
    })));
    let jobs = (0..5_000).map(|n| NewJob::new(n.to_string()));
    assert_eq!(queue.producer().add_all(jobs).await.unwrap().len(), 5_000);
    until_empty(&queue).await;
    let report = worker.end().await;
    assert_eq!((report.done, report.handed_back), (5_000, 0));
    assert_eq!(done.lock().len(), 5_000);
    assert!(done.lock().values().all(|times| *times == 1));
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.unread, stats.workers.len()), (Some(0), 0), "{stats:?}");
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again_and_set_aside_after_exactly_so_many_attempts() {
    let queue = queue().await;
    let tried = Arc::new(Mutex::new(Vec::new()));
    let seen = tried.clone();
    let handler = With(move |body: Arc<str>, attempt| {
        seen.lock().push((body.clone(), attempt));
        async move {
            match (&*body, attempt) {
                ("bad", _) => Outcome::retry(anyhow!("no {attempt}")),
                ("late", ..3) => Outcome::retry(anyhow!("not yet")),
                ("never", _) => Outcome::DeadLetter(anyhow!("nonsense")),
                ("panics", 1) => panic!("on purpose"),
                _ => Outcome::Done,
            }
        }
    });
    let worker = start(queue.worker_builder().retries(attempts(4)).handler(handler).unwrap());
    for body in ["bad", "late", "never", "panics", "good"] {
        queue.producer().add(NewJob::new(body).field("of", "test")).await.unwrap();
    }
    until_empty(&queue).await;
    let report = worker.end().await;
    assert_eq!((report.done, report.retries, report.dead_letters), (3, 3 + 2 + 1, 2));
    let numbers = |of: &str| tried.lock().iter().filter(|(body, _)| &**body == of).map(|(_, n)| *n).collect::<Vec<_>>();
    assert_eq!(numbers("bad"), [1, 2, 3, 4]);
    assert_eq!(numbers("late"), [1, 2, 3]);
    assert_eq!(numbers("never"), [1]);
    assert_eq!(numbers("panics"), [1, 2]);

    let dead = queue.dead_letters();
    let letters = dead.list(None, 10).await.unwrap();
    let by_body: BTreeMap<_, _> =
        letters.iter().map(|l| (l.fields[0].1.clone(), (l.attempts, l.error.as_str(), l.fields.len()))).collect();
    assert_eq!(by_body["bad".as_bytes()], (4, "no 4", 2));
    assert_eq!(by_body["never".as_bytes()], (1, "nonsense", 2));

    // Replayed, they begin anew; purged, they are gone.
    let bad = letters.iter().find(|letter| letter.error == "no 4").unwrap();
    let replayed = dead.replay(&[bad.id, "1-1".parse().unwrap()]).await.unwrap();
    assert!(replayed[0].is_some() && replayed[1].is_none());
    assert_eq!(dead.len().await.unwrap(), 1);
    let worker = start(queue.worker(With(|_, attempt| async move {
        assert_eq!(attempt, 1);
        Outcome::Done
    })));
    until_empty(&queue).await;
    assert_eq!(worker.end().await.done, 1);
    assert_eq!(dead.purge_all().await.unwrap(), 1);
    assert!(dead.is_empty().await.unwrap());
}

#[tokio::test]
async fn delayed_jobs_come_when_they_are_due_and_not_before() {
    let queue = queue().await;
    let came = Arc::new(Mutex::new(Vec::new()));
    let seen = came.clone();
    let worker = start(queue.worker(With(move |body: Arc<str>, _| {
        seen.lock().push((body, SystemTime::now()));
        async { Outcome::Done }
    })));
    let producer = queue.producer();
    let due = SystemTime::now() + Duration::from_millis(400);
    let added = producer.add(NewJob::new("at").due_at(due)).await.unwrap();
    assert!(matches!(added, Added::Delayed(_)), "{added:?}");
    producer.add(NewJob::new("soon").delay(Duration::from_millis(150))).await.unwrap();
    producer.add(NewJob::new("past").due_at(SystemTime::UNIX_EPOCH)).await.unwrap();
    until("all came", async || came.lock().len() == 3).await;
    worker.end().await;
    let came = came.lock();
    assert_eq!(came.iter().map(|(body, _)| &**body).collect::<Vec<_>>(), ["past", "soon", "at"]);
    assert!(came[2].1 >= due - Duration::from_millis(2));
}

/// What comes without a message comes with a sign of life: never, as long as these tests last.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_delayed_job_is_seen_to_at_once_also_when_who_sees_to_them_has_left() {
    let queue = queue().await;
    let done = Arc::new(AtomicU32::new(0));
    let idle = || {
        let done = done.clone();
        let handler = With(move |_, _| {
            done.fetch_add(1, Ordering::SeqCst);
            async { Outcome::Done }
        });
        start(queue.worker_builder().alive_for(NEVER).handler(handler).unwrap())
    };
    let first = idle();
    let client = client().await;
    let mover = format!("HGET {}:workers:meta mover", queue.name().as_key());
    until("it has given a sign", async || run::<Option<String>>(&client, &mover).await.is_some()).await;
    let second = idle();
    until("another is there", async || queue.stats().await.unwrap().workers.len() == 2).await;
    queue.producer().add(NewJob::new("x").delay(Duration::from_millis(50))).await.unwrap();
    until("it was done", async || done.load(Ordering::SeqCst) == 1).await;
    let before: String = run(&client, &mover).await;
    first.end().await;
    assert_ne!(run::<String>(&client, &mover).await, before);
    queue.producer().add(NewJob::new("y").delay(Duration::from_millis(50))).await.unwrap();
    until("it was done", async || done.load(Ordering::SeqCst) == 2).await;
    second.end().await;
}

#[tokio::test]
async fn a_dedup_id_is_added_once_within_its_window() {
    let queue = queue().await;
    let producer = queue.producer();
    let job = || NewJob::new("x").dedup("one", Duration::from_millis(300));
    let adds = futures_util::future::join_all((0..50).map(|_| producer.add(job()))).await;
    let queued = adds.iter().filter(|added| matches!(added, Ok(Added::Queued(_)))).count();
    let duplicates = adds.iter().filter(|added| matches!(added, Ok(Added::Duplicate))).count();
    assert_eq!((queued, duplicates), (1, 49));
    assert!(producer.add(NewJob::new("x").dedup("other", Duration::from_secs(1))).await.unwrap().id().is_some());
    until("the window is over", async || producer.add(job()).await.unwrap().id().is_some()).await;
    // In one call as well.
    let twice = producer.add_all([NewJob::new("a"), NewJob::new("a")].map(|job| job.dedup("in", SAFETY_NET))).await;
    assert!(matches!(twice.unwrap()[..], [Added::Queued(_), Added::Duplicate]));
}

#[tokio::test]
async fn a_full_queue_refuses_or_makes_wait_and_drops_nothing() {
    let queue = queue().await;
    let producer = queue.producer().limit(Limit::Jobs(3));
    for n in 0..3 {
        producer.add(NewJob::new(n.to_string())).await.unwrap();
    }
    match producer.add(NewJob::new("4")).await {
        Err(AddError::Full(full)) => assert_eq!((full.size, full.limit), (3, Limit::Jobs(3))),
        other => panic!("{other:?}"),
    }
    let (added, error) = producer.add_all([NewJob::new("4")]).await.unwrap_err();
    assert!(added.is_empty() && matches!(error, AddError::Full(_)));
    // Delayed ones take room too; a duplicate takes none.
    assert!(producer.add(NewJob::new("4").delay(SAFETY_NET)).await.is_err());
    let bytes = queue.stats().await.unwrap().bytes;
    assert!(queue.producer().limit(Limit::Bytes(bytes)).add(NewJob::new("4")).await.is_err());
    queue.producer().limit(Limit::Bytes(bytes * 10)).add(NewJob::new("4")).await.unwrap();
    // Who waits gets in when there is room.
    let patient = queue.producer().limit(Limit::Jobs(3)).wait_for_room(SAFETY_NET);
    let waiting = tokio::spawn(async move { patient.add(NewJob::new("5")).await });
    let worker = start(queue.worker(With(|_, _| async { Outcome::Done })));
    assert!(waiting.await.unwrap().unwrap().id().is_some());
    until_empty(&queue).await;
    assert_eq!(worker.end().await.done, 5);
    // Who waits in vain is told.
    let error =
        queue.producer().limit(Limit::Jobs(0)).wait_for_room(Duration::from_millis(20)).add(NewJob::new("6")).await;
    assert!(matches!(error, Err(AddError::Full(_))));
}

/// Per key the jobs in the order of their begin, and whether two of a key were ever at work together.
#[derive(Default)]
struct Lanes {
    order: Mutex<HashMap<String, Vec<u32>>>,
    at_work: Mutex<HashMap<String, u32>>,
    overlaps: AtomicU32,
}

struct Keyed(Arc<Lanes>, bool);

#[async_trait::async_trait]
impl Handler<Job> for Keyed {
    async fn handle(&self, job: &Job, attempt: Attempt<'_>) -> Outcome {
        let lane = if self.1 { job.key().map(|key| String::from_utf8_lossy(key).into_owned()) } else { None };
        let lane = lane.unwrap_or_default();
        let number: u32 = String::from_utf8_lossy(job.body()).parse().unwrap();
        let others = std::mem::replace(self.0.at_work.lock().entry(lane.clone()).or_default(), 1);
        self.0.overlaps.fetch_add(others, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(u64::from(number % 3))).await;
        self.0.at_work.lock().insert(lane.clone(), 0);
        if number.is_multiple_of(7) && attempt.number().get() < 3 {
            return Outcome::retry(anyhow!("again"));
        }
        self.0.order.lock().entry(lane).or_default().push(number);
        Outcome::Done
    }
}

async fn in_order(order: Order) -> (Arc<Lanes>, u64) {
    let queue = queue().await;
    let lanes = Arc::new(Lanes::default());
    let by_key = order != Order::Sequential;
    let workers: Vec<_> = (0..3)
        .map(|_| {
            // With connections of their own, as processes have.
            let (lanes, name) = (lanes.clone(), queue.name().clone());
            async move {
                let queue = Queue::new(client().await, name.as_str()).unwrap();
                start(queue.worker_builder().order(order).retries(attempts(9)).handler(Keyed(lanes, by_key)).unwrap())
            }
        })
        .collect();
    let workers = futures_util::future::join_all(workers).await;
    let jobs = (0..400u32).map(|n| NewJob::new(n.to_string()).key(format!("k{}", n % 5)));
    queue.producer().add_all(jobs).await.unwrap();
    until_empty(&queue).await;
    let mut retries = 0;
    for worker in workers {
        retries += worker.end().await.retries;
    }
    (lanes, retries)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_key_are_worked_on_one_after_another_in_order_with_retries_over_workers() {
    let (lanes, retries) = in_order(Order::ByKey).await;
    assert_eq!((lanes.overlaps.load(Ordering::Relaxed), lanes.order.lock().len()), (0, 5));
    assert!(retries >= 100);
    for numbers in lanes.order.lock().values() {
        assert_eq!(numbers.len(), 80);
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_order_they_are_not() {
    let (lanes, _) = in_order(Order::None).await;
    assert!(lanes.overlaps.load(Ordering::Relaxed) > 0);
    assert!(lanes.order.lock().values().any(|numbers| !numbers.is_sorted()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequentially_one_job_is_worked_on_at_a_time() {
    let (lanes, _) = in_order(Order::Sequential).await;
    assert_eq!(lanes.overlaps.load(Ordering::Relaxed), 0);
    assert_eq!(lanes.order.lock()[""], (0..400).collect::<Vec<_>>());
}

struct Counts(redis_streams::Name);

#[async_trait::async_trait]
impl Handler<Job> for Counts {
    async fn handle(&self, job: &Job, attempt: Attempt<'_>) -> Outcome {
        let key = String::from_utf8_lossy(job.body()).into_owned();
        job.on_done(Effect::new("INCRBY", self.0.key(&key)).arg("5"));
        job.on_done(Effect::result(&self.0, job, format!("by attempt {}", attempt.number()), SAFETY_NET));
        if attempt.number().get() == 1 { Outcome::retry(anyhow!("its effects do not happen")) } else { Outcome::Done }
    }
}

#[tokio::test]
async fn effects_happen_with_the_acknowledgement_and_only_then() {
    let queue = queue().await;
    let _: () = run(&queue_client().await, &format!("SET {} text", queue.name().key("wrong"))).await;
    let worker = start(queue.worker_builder().retries(attempts(3)).handler(Counts(queue.name().clone())).unwrap());
    let good = queue.producer().add(NewJob::new("total")).await.unwrap().id().unwrap();
    queue.producer().add(NewJob::new("wrong")).await.unwrap();
    until_empty(&queue).await;
    let report = worker.end().await;
    assert_eq!((report.done, report.dead_letters), (1, 1));
    let total: u32 = run(&queue_client().await, &format!("GET {}", queue.name().key("total"))).await;
    assert_eq!(total, 5);
    assert_eq!(queue.result(good).await.unwrap().unwrap(), b"by attempt 2");
    let letter = &queue.dead_letters().list(None, 1).await.unwrap()[0];
    assert!(letter.error.contains("not an integer"), "{}", letter.error);
}

async fn queue_client() -> redis_streams::Client {
    client().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_of_a_worker_others_get_its_jobs_at_once() {
    let queue = queue().await;
    let gate = Arc::new(Semaphore::new(0));
    let (held, free) = (gate.clone(), Arc::new(Mutex::new(Vec::new())));
    let first = start_with(
        queue
            .worker_builder()
            .alive_for(NEVER)
            .concurrency(2)
            .handler(With(move |_, _| {
                let held = held.clone();
                async move {
                    held.acquire().await.unwrap().forget();
                    Outcome::Done
                }
            }))
            .unwrap(),
        Duration::from_millis(50),
    );
    queue.producer().add_all((0..2).map(|n| NewJob::new(n.to_string()))).await.unwrap();
    until("both are at work", async || queue.stats().await.unwrap().pending == 2).await;
    let seen = free.clone();
    let other = Queue::new(client().await, queue.name().as_str()).unwrap();
    let handler = With(move |body: Arc<str>, attempt| {
        seen.lock().push((body, attempt));
        async { Outcome::Done }
    });
    let second = start(other.worker_builder().alive_for(NEVER).handler(handler).unwrap());
    until("it is there", async || queue.stats().await.unwrap().workers.len() == 2).await;
    let report = first.end().await;
    assert_eq!((report.done, report.handed_back), (0, 2));
    until("the other has them", async || free.lock().len() == 2).await;
    // What was cut short by the shutdown counts as no attempt.
    assert!(free.lock().iter().all(|(_, attempt)| *attempt == 1));
    until_empty(&queue).await;
    assert_eq!(second.end().await.done, 2);
    drop(gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_handed_back_they_do_not_get_before_its_worker_counts_as_dead() {
    let server = Redis::start().await.unwrap();
    let proxy = server.proxy().await.unwrap();
    let queue = Queue::new(connect(server.url()).await, unique("left")).unwrap();
    let mortal = Queue::new(connect(proxy.url()).await, queue.name().as_str()).unwrap();
    let pends = With(|_, _| std::future::pending());
    let first = start(mortal.worker_builder().alive_for(NEVER).handler(pends).unwrap());
    queue.producer().add(NewJob::new("left")).await.unwrap();
    until("it is at work", async || queue.stats().await.unwrap().pending == 1).await;
    // As if killed: not a word more.
    proxy.hold(turnstile_testkit::proxy::Direction::ToServer);
    first.run.abort();
    proxy.cut();
    let client = connect(server.url()).await;
    until("it reads no more", async || run::<String>(&client, "INFO clients").await.contains("blocked_clients:0"))
        .await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let came = seen.clone();
    let handler = With(move |body: Arc<str>, _| {
        came.lock().push(body);
        async { Outcome::Done }
    });
    let second = start(queue.worker_builder().alive_for(NEVER).handler(handler).unwrap());
    queue.producer().add(NewJob::new("next")).await.unwrap();
    until("the next is done", async || !seen.lock().is_empty() && queue.stats().await.unwrap().pending == 1).await;
    second.end().await;
    assert_eq!(**seen.lock(), [Arc::from("next")]);
}

#[tokio::test]
async fn every_group_gets_every_job_and_trimming_waits_for_the_slowest() {
    let queue = queue().await;
    let fast = start(queue.worker_builder().group("fast").handler(With(|_, _| async { Outcome::Done })).unwrap());
    until("the first group is there", async || queue.groups().await.unwrap() == ["fast"]).await;
    let _: () = run(&client().await, &format!("XGROUP CREATE {} slow 0", queue.name().as_key())).await;
    queue.producer().add_all((0..50).map(|n| NewJob::new(n.to_string()))).await.unwrap();
    until("one is done", async || {
        let stats = queue.stats_of("fast").await.unwrap();
        stats.unread == Some(0) && stats.pending == 0
    })
    .await;
    assert_eq!(queue.trim(Trim::Acknowledged).await.unwrap().removed, 0);
    assert_eq!(queue.trim(Trim::ToLength(0)).await.unwrap().removed, 0);
    assert_eq!(queue.trim(Trim::OlderThan(Duration::ZERO)).await.unwrap().removed, 0);
    assert_eq!(queue.stats().await.unwrap().length, 50);
    let slow = start(queue.worker_builder().group("slow").handler(With(|_, _| async { Outcome::Done })).unwrap());
    until_empty(&queue).await;
    assert_eq!((fast.end().await.done, slow.end().await.done), (50, 50));
}

#[tokio::test]
async fn a_slow_job_does_not_keep_the_rest_in_memory() {
    let queue = queue().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let worker = start(queue.worker(With(move |body: Arc<str>, _| {
        let held = held.clone();
        async move {
            if &*body == "slow" {
                held.acquire().await.unwrap().forget();
            }
            Outcome::Done
        }
    })));
    queue.producer().add(NewJob::new("slow")).await.unwrap();
    // Once more than a thousand are kept behind it, and a trim has seen that, no more of them stay.
    let (mut jobs, mut length) = (1, 0);
    until("the queue grows no more", async || {
        queue.producer().add_all((0..1_000).map(|n| NewJob::new(n.to_string()))).await.unwrap();
        jobs += 1_000;
        until("they are done", async || {
            let stats = queue.stats().await.unwrap();
            stats.unread == Some(0) && stats.pending == 1
        })
        .await;
        let before = std::mem::replace(&mut length, queue.stats().await.unwrap().length);
        length <= before
    })
    .await;
    gate.add_permits(1);
    until_empty(&queue).await;
    assert_eq!(worker.end().await.done, jobs);
}

#[tokio::test]
async fn on_request_only_what_is_acknowledged_is_trimmed_by_age_and_by_length() {
    let queue = queue().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let handler = With(move |body: Arc<str>, _| {
        let held = held.clone();
        async move {
            if &*body == "held" {
                held.acquire().await.unwrap().forget();
            }
            Outcome::Done
        }
    });
    let worker = start(queue.worker_builder().without_trimming().handler(handler).unwrap());
    queue.producer().add_all((0..100).map(|n| NewJob::new(n.to_string()))).await.unwrap();
    queue.producer().add(NewJob::new("held")).await.unwrap();
    queue.producer().add_all((0..10).map(|n| NewJob::new(n.to_string()))).await.unwrap();
    until("all but one are done", async || {
        let stats = queue.stats().await.unwrap();
        stats.unread == Some(0) && stats.pending == 1
    })
    .await;
    let removed = async |what| queue.trim(what).await.unwrap().removed;
    assert_eq!(removed(Trim::OlderThan(SAFETY_NET)).await, 0);
    assert_eq!(removed(Trim::ToLength(81)).await, 30);
    assert_eq!(removed(Trim::OlderThan(Duration::ZERO)).await, 70, "up to the one that is pending");
    assert_eq!(removed(Trim::ToLength(0)).await, 0);
    gate.add_permits(1);
    until("it is done", async || queue.stats().await.unwrap().pending == 0).await;
    assert_eq!(removed(Trim::Acknowledged).await, 11);
    worker.end().await;
}
