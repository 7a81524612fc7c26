//! Servers and connections fail, and others meddle with the stream: nothing is lost that Redis still has, and effects
//! happen once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use parking_lot::Mutex;
use redis_lua::redis::cmd;
use redis_streams::{Attempt, Client, Effect, Handler, Job, Name, NewJob, Order, Outcome, Queue, WorkerBuilder};
use support::*;
use tokio::sync::Semaphore;
use turnstile_testkit::proxy::Direction;

const ALIVE: Duration = Duration::from_millis(400);

/// Each job's effect is counted in `{q}:once` with the acknowledgement; every third fails at first.
struct Once(Name);

#[async_trait::async_trait]
impl Handler<Job> for Once {
    async fn handle(&self, job: &Job, attempt: Attempt<'_>) -> Outcome {
        let number = String::from_utf8_lossy(job.body()).into_owned();
        if attempt.number().get() == 1 && number.ends_with(['0', '3', '6']) {
            return Outcome::retry(anyhow!("the first attempt"));
        }
        job.on_done(Effect::new("HINCRBY", self.0.key("once")).arg(number).arg("1"));
        Outcome::Done
    }
}

fn once(builder: WorkerBuilder, queue: &Queue) -> Running {
    start(builder.alive_for(ALIVE).retries(attempts(1_000)).handler(Once(queue.name().clone())).unwrap())
}

async fn add(queue: &Queue, numbers: std::ops::Range<u32>) {
    let jobs = numbers.map(|n| NewJob::new(n.to_string()).key(format!("k{}", n % 3)));
    queue.producer().add_all(jobs).await.unwrap();
}

async fn each_once(queue: &Queue, client: &Client, jobs: u32) {
    until_empty(queue).await;
    let counts: HashMap<u32, u32> = client.run(cmd("HGETALL").arg(queue.name().key("once"))).await.unwrap();
    for job in 0..jobs {
        assert_eq!(counts.get(&job), Some(&1), "job {job}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_are_lost_lose_no_job_and_repeat_no_effect() {
    for order in [Order::None, Order::ByKey] {
        let server = Redis::start().await.unwrap();
        let proxy = server.proxy().await.unwrap();
        let observer = connect(server.url()).await;
        let queue = Queue::new(observer.clone(), unique("lost")).unwrap();
        let cut_off = Queue::new(connect(proxy.url()).await, queue.name().as_str()).unwrap();
        let worker = once(cut_off.worker_builder().order(order), &queue);
        let mut cuts = 0;
        for round in 0..30 {
            add(&queue, round * 10..(round + 1) * 10).await;
            // Each sort of request by turns.
            let cut = match round % 5 {
                0 => proxy.cut_reply_to("XREADGROUP"),
                1 => proxy.cut_reply_to("again"),
                2 => proxy.cut_reply_to("HINCRBY"),
                _ => proxy.cut_reply(),
            };
            // Not each sort is under way each time.
            cuts += u32::from(tokio::time::timeout(Duration::from_millis(500), cut.happened()).await.is_ok());
            proxy.pass();
        }
        each_once(&queue, &observer, 300).await;
        assert!(cuts > 5, "{cuts}");
        worker.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_killed_again_and_again_lose_no_job() {
    let server = Redis::start().await.unwrap();
    let observer = connect(server.url()).await;
    let queue = Queue::new(observer.clone(), unique("killed")).unwrap();
    let worker = once(Queue::new(connect(server.url()).await, queue.name().as_str()).unwrap().worker_builder(), &queue);
    for round in 0..20 {
        add(&queue, round * 100..(round + 1) * 100).await;
        run::<u32>(&observer, "CLIENT KILL TYPE normal SKIPME yes").await;
    }
    each_once(&queue, &observer, 2_000).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_with_its_file_has_lost_no_job() {
    let mut server =
        Redis::builder().config("appendonly", "yes").config("appendfsync", "always").start().await.unwrap();
    let client = connect(server.url()).await;
    let queue = Queue::new(client.clone(), unique("aof")).unwrap();
    let worker = once(Queue::new(connect(server.url()).await, queue.name().as_str()).unwrap().worker_builder(), &queue);
    for round in 0..3 {
        add(&queue, round * 300..(round + 1) * 300).await;
        server.kill().await.unwrap();
        server.restart().await.unwrap();
        until("it is there again", async || client.run::<String>(&cmd("PING")).await.is_ok()).await;
    }
    each_once(&queue, &client, 900).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_delete_is_made_anew_and_what_is_left_is_done() {
    let server = Redis::start().await.unwrap();
    let client = connect(server.url()).await;
    let queue = Queue::new(client.clone(), unique("deleted")).unwrap();
    let worker = once(queue.worker_builder(), &queue);
    let (stream, mut next) = (queue.name().as_key().to_owned(), 0);
    for meddle in
        [format!("XGROUP DESTROY {stream} workers"), "SCRIPT FLUSH".into(), format!("DEL {stream}"), "FLUSHALL".into()]
    {
        add(&queue, next..next + 50).await;
        each_once(&queue, &client, next + 50).await;
        run::<redis_lua::redis::Value>(&client, &meddle).await;
        if meddle == "FLUSHALL" {
            next = 0;
        } else {
            next += 50;
        }
        add(&queue, next..next + 50).await;
        let all = next..next + 50;
        until("what came after it is done", async || {
            let counts: HashMap<u32, u32> = client.run(cmd("HGETALL").arg(queue.name().key("once"))).await.unwrap();
            all.clone().all(|job| counts.get(&job) == Some(&1))
        })
        .await;
        next += 50;
    }
    worker.end().await;

    // In the midst of work: what the stream still has is done, though it may be done twice.
    let queue = Queue::new(client.clone(), unique("destroyed")).unwrap();
    let done = Arc::new(Mutex::new(HashMap::<Arc<str>, u32>::new()));
    let seen = done.clone();
    let worker = start(
        queue
            .worker_builder()
            .alive_for(ALIVE)
            .handler(With(move |body: Arc<str>, _| {
                let seen = seen.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    *seen.lock().entry(body).or_default() += 1;
                    Outcome::Done
                }
            }))
            .unwrap(),
    );
    add(&queue, 0..500).await;
    until("some are done", async || done.lock().len() > 50).await;
    run::<u32>(&client, &format!("XGROUP DESTROY {} workers", queue.name().as_key())).await;
    until("all are done", async || done.lock().len() == 500).await;
    until_empty(&queue).await;
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_trim_holds_up_nobody() {
    let queue = queue().await;
    let client = client().await;
    let stream = queue.name().as_key().to_owned();
    let (gate, begun, done) =
        (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (held, seen, finished) = (gate.clone(), begun.clone(), done.clone());
    let handler = With(move |body: Arc<str>, _| {
        let (held, seen, finished) = (held.clone(), seen.clone(), finished.clone());
        async move {
            seen.lock().push(body.clone());
            if body.starts_with("held") {
                held.acquire().await.unwrap().forget();
            }
            if body.starts_with("later") {
                return Outcome::Retry { after: Some(SAFETY_NET * 10), error: anyhow!("later") };
            }
            finished.lock().push(body);
            Outcome::Done
        }
    });
    let worker = start(queue.worker_builder().alive_for(ALIVE).order(Order::ByKey).handler(handler).unwrap());
    let add = async |body: &str, key: &str| {
        queue.producer().add(NewJob::new(body.to_owned()).key(key.to_owned())).await.unwrap().id().unwrap()
    };
    // A job in hand is finished, one behind it that was deleted is passed over.
    add("held 1", "a").await;
    let second = add("gone", "a").await;
    add("after gone", "a").await;
    // One that waits for its next attempt at the head of its lane.
    let later = add("later", "b").await;
    add("after later", "b").await;
    until("they are where they are to be", async || {
        begun.lock().len() == 2 && queue.stats().await.unwrap().in_lanes == 5 && queue.stats().await.unwrap().due == 1
    })
    .await;
    run::<u32>(&client, &format!("XDEL {stream} {second} {later}")).await;
    gate.add_permits(1);
    until("the lanes went on", async || done.lock().len() == 3).await;
    // All at once, under a job in hand.
    add("held 2", "a").await;
    until("it is begun", async || begun.lock().iter().any(|body| &**body == "held 2")).await;
    run::<u32>(&client, &format!("XTRIM {stream} MAXLEN 0")).await;
    gate.add_permits(1);
    add("last", "a").await;
    until("the last is done", async || done.lock().iter().any(|body| &**body == "last")).await;
    until("nothing is left of the lanes", async || queue.stats().await.unwrap().in_lanes == 0).await;
    worker.end().await;
    assert!(done.lock().iter().all(|body| &**body != "gone" && &**body != "later"));
}

/// Tells when its token fires, and when it is dropped.
struct Watches {
    begun: Arc<AtomicU32>,
    told: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Handler<Job> for Watches {
    async fn handle(&self, _: &Job, attempt: Attempt<'_>) -> Outcome {
        let _on_drop = OnDrop(self.dropped.clone());
        self.begun.fetch_add(1, Ordering::SeqCst);
        attempt.cancelled().cancelled().await;
        self.told.store(true, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_cut_off_gives_up_before_another_begins() {
    let server = Redis::start().await.unwrap();
    let proxy = server.proxy().await.unwrap();
    let queue = Queue::new(connect(server.url()).await, unique("cut")).unwrap();
    let cut_off = Queue::new(connect(proxy.url()).await, queue.name().as_str()).unwrap();
    let (begun, told, dropped): (Arc<AtomicU32>, Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let watches = Watches { begun: begun.clone(), told: told.clone(), dropped: dropped.clone() };
    let first = start(cut_off.worker_builder().alive_for(ALIVE).handler(watches).unwrap());
    queue.producer().add(NewJob::new("x")).await.unwrap();
    until("it is begun", async || begun.load(Ordering::SeqCst) == 1).await;
    let gave_up = Arc::new(Mutex::new(None));
    let (seen, was_dropped) = (gave_up.clone(), dropped.clone());
    let second = start(
        queue
            .worker_builder()
            .alive_for(ALIVE)
            .handler(With(move |_, attempt| {
                seen.lock().get_or_insert((was_dropped.load(Ordering::SeqCst), attempt));
                async { Outcome::Done }
            }))
            .unwrap(),
    );
    proxy.hold(Direction::ToServer);
    until("another has it", async || gave_up.lock().is_some()).await;
    assert!(told.load(Ordering::SeqCst));
    assert_eq!(
        *gave_up.lock(),
        Some((true, 1)),
        "dropped before, and a first delivery that was left behind is not counted"
    );
    proxy.cut();
    proxy.pass();
    until_empty(&queue).await;
    // It works on, under another name.
    assert_eq!(second.end().await.done, 1);
    queue.producer().add(NewJob::new("y")).await.unwrap();
    until("it has the next", async || begun.load(Ordering::SeqCst) == 2).await;
    let report = first.end().await;
    assert_eq!((report.done, report.handed_back), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_dropped_leaves_its_jobs_to_others() {
    let queue = queue().await;
    let (begun, told, dropped): (Arc<AtomicU32>, Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let watches = Watches { begun: begun.clone(), told, dropped: dropped.clone() };
    let first = start(queue.worker_builder().alive_for(ALIVE).handler(watches).unwrap());
    queue.producer().add(NewJob::new("x")).await.unwrap();
    until("it is begun", async || begun.load(Ordering::SeqCst) == 1).await;
    first.run.abort();
    until("its handler is dropped", async || dropped.load(Ordering::SeqCst)).await;
    let second = start(queue.worker_builder().alive_for(ALIVE).handler(With(|_, _| async { Outcome::Done })).unwrap());
    until_empty(&queue).await;
    assert_eq!(second.end().await.done, 1);
}

/// Never ends, and writes down which attempts it was given.
struct Kills(Arc<Mutex<Vec<u32>>>);

#[async_trait::async_trait]
impl Handler<Job> for Kills {
    async fn handle(&self, _: &Job, attempt: Attempt<'_>) -> Outcome {
        self.0.lock().push(attempt.number().get());
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_kills_whoever_begins_it_is_set_aside() {
    for order in [Order::None, Order::ByKey] {
        let server = Redis::start().await.unwrap();
        let client = connect(server.url()).await;
        let queue = Queue::new(client.clone(), unique("poison")).unwrap();
        let begun = Arc::new(Mutex::new(Vec::new()));
        let builder = |queue: &Queue| queue.worker_builder().alive_for(ALIVE).order(order).retries(attempts(2));
        queue.producer().add(NewJob::new("poison").key("k")).await.unwrap();
        // Its first death may have come before it was begun; the next ones count.
        for death in 1..=3 {
            let proxy = server.proxy().await.unwrap();
            let mortal = Queue::new(connect(proxy.url()).await, queue.name().as_str()).unwrap();
            let worker = start(builder(&mortal).handler(Kills(begun.clone())).unwrap());
            // On a busy machine a worker may count as dead by itself.
            let set_aside = async || queue.stats().await.unwrap().dead == 1;
            until("it is begun", async || begun.lock().len() >= death || set_aside().await).await;
            // As if killed: not a word more.
            proxy.hold(Direction::ToServer);
            worker.run.abort();
            let _ = worker.run.await;
        }
        assert_eq!(*begun.lock(), [1, 1, 2]);
        let worker = start(builder(&queue).handler(Kills(begun.clone())).unwrap());
        until("it is set aside", async || queue.stats().await.unwrap().dead == 1).await;
        until_empty(&queue).await;
        let left = format!("EXISTS {}:workers:left", queue.name().as_key());
        until("nothing is left of it", async || run::<u32>(&client, &left).await == 0).await;
        worker.end().await;
        assert_eq!(begun.lock().len(), 3);
        let letter = &queue.dead_letters().list(None, 1).await.unwrap()[0];
        assert!(letter.error.contains("no worker came to an end"), "{}", letter.error);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_another_client_left_behind_are_taken_over_and_its_name_goes() {
    let queue = queue().await;
    let client = client().await;
    let stream = queue.name().as_key().to_owned();
    run::<()>(&client, &format!("XGROUP CREATE {stream} workers 0 MKSTREAM")).await;
    add(&queue, 0..5).await;
    run::<redis_lua::redis::Value>(&client, &format!("XREADGROUP GROUP workers stranger COUNT 5 STREAMS {stream} >"))
        .await;
    let worker = start(queue.worker_builder().alive_for(ALIVE).handler(With(|_, _| async { Outcome::Done })).unwrap());
    until_empty(&queue).await;
    until("the stranger's name is gone", async || queue.stats().await.unwrap().workers.len() == 1).await;
    assert_eq!(worker.end().await.done, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_memory_is_short_producers_are_refused_and_workers_go_on() {
    let server = Redis::builder().config("maxmemory-policy", "noeviction").start().await.unwrap();
    let client = connect(server.url()).await;
    let queue = Queue::new(client.clone(), unique("oom")).unwrap();
    add(&queue, 0..200).await;
    run::<()>(&client, "CONFIG SET maxmemory 1").await;
    let error = queue.producer().add(NewJob::new("x")).await.unwrap_err();
    let redis_streams::AddError::Redis(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), turnstile_core::ErrorKind::OutOfMemory);
    assert!(queue.producer().add(NewJob::new("x").delay(ALIVE)).await.is_err());
    let plain = Arc::new(AtomicU32::new(0));
    let counted = plain.clone();
    let worker =
        start(
            queue
                .worker_builder()
                .alive_for(ALIVE)
                .retries(attempts(3))
                .handler(With(move |body: Arc<str>, attempt| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    async move {
                        if &*body == "7" && attempt < 3 { Outcome::retry(anyhow!("again")) } else { Outcome::Done }
                    }
                }))
                .unwrap(),
        );
    until_empty(&queue).await;
    assert_eq!(worker.end().await.done, 200);
    assert_eq!(plain.load(Ordering::SeqCst), 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_worker_left_behind_does_not_wait_for_busy_lanes_to_end() {
    let queue = queue().await;
    let (begun, told, dropped): (Arc<AtomicU32>, Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let watches = Watches { begun: begun.clone(), told, dropped };
    let builder = || queue.worker_builder().alive_for(ALIVE).order(Order::ByKey).concurrency(1);
    let dying = start(builder().handler(watches).unwrap());
    queue.producer().add(NewJob::new("left").key("a")).await.unwrap();
    until("it is begun", async || begun.load(Ordering::SeqCst) == 1).await;
    // One lane that keeps the other worker busy for as long as the test lasts.
    queue.producer().add_all((0..5_000).map(|n| NewJob::new(n.to_string()).key("b"))).await.unwrap();
    let done = Arc::new(AtomicU32::new(0));
    let (taken, count) = (Arc::new(Mutex::new(None)), done.clone());
    let seen = taken.clone();
    let other = start(
        builder()
            .handler(With(move |body: Arc<str>, _| {
                let (seen, count) = (seen.clone(), count.clone());
                async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let nth = count.fetch_add(1, Ordering::SeqCst);
                    if &*body == "left" {
                        seen.lock().get_or_insert(nth);
                    }
                    Outcome::Done
                }
            }))
            .unwrap(),
    );
    until("it is busy", async || done.load(Ordering::SeqCst) > 5).await;
    dying.run.abort();
    until("the job is taken over", async || taken.lock().is_some()).await;
    assert!(taken.lock().is_some_and(|nth| nth < 5_000));
    other.end().await;
}
