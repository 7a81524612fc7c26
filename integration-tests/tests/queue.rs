//! A queue across processes that are killed and stopped: nothing is lost, nothing is in two hands, effects happen once,
//! and order holds, by the word of a history outside the queue.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use redis_lua::redis::cmd;
use redis_streams::{Attempt, Client, Handler, Job, Limit, NewJob, Outcome, Queue, Shutdown, WorkerStats};
use turnstile_integration_tests::{Jobs, connect, name, until};
use turnstile_testkit::child::Child;
use turnstile_testkit::jobs::Findings;
use turnstile_testkit::redis::{Redis, Server, shared};

/// How long a worker counts as alive, in ms.
const ALIVE: u64 = 1_000;

struct Scene {
    server: Server,
    queue: Queue,
    oracle: String,
    history: Jobs,
    order: &'static str,
    started: u32,
}

impl Scene {
    async fn new(order: &'static str) -> Self {
        let (server, oracle) = (Redis::start().await.unwrap(), shared().await.unwrap().url());
        let name = name("jobs");
        let queue = Queue::new(connect(server.url()).await, &name).unwrap();
        let history = Jobs::new(connect(&oracle).await, &name);
        Self { server, queue, oracle, history, order, started: 0 }
    }

    /// A worker, with the name by which the history knows it.
    fn worker(&mut self, dies: &str) -> (Child, String) {
        self.worker_with(dies, |_| ())
    }

    fn worker_with(&mut self, dies: &str, set: impl FnOnce(&mut Command)) -> (Child, String) {
        self.started += 1;
        let who = format!("w{}", self.started);
        let mut command = Command::new(env!("CARGO_BIN_EXE_queue_worker"));
        command.args([self.queue.name().as_str(), &self.server.url(), &self.oracle, &who, self.order]);
        command.arg(ALIVE.to_string()).arg(dies);
        set(&mut command);
        (Child::spawn(command).unwrap(), who)
    }

    async fn add(&self, numbers: std::ops::Range<u32>) {
        let jobs = numbers.map(|n| NewJob::new(n.to_string()).key(format!("k{}", n % 8)));
        self.queue.producer().add_all(jobs).await.unwrap();
    }

    async fn until_empty(&self) {
        until("all is done", async || {
            let stats = self.queue.stats().await.unwrap();
            stats.unread == Some(0) && stats.pending == 0 && stats.in_lanes == 0 && stats.due == 0
        })
        .await;
    }

    async fn counts(&self, key: &str) -> HashMap<u32, u32> {
        let client = connect(self.server.url()).await;
        client.run(cmd("HGETALL").arg(self.queue.name().key(key))).await.unwrap()
    }

    /// Nothing lost, nothing in two hands, and each effect once.
    async fn check(&self, jobs: u32) -> Findings {
        let findings = self.history.check(jobs).await.unwrap();
        assert!(findings.lost.is_empty() && findings.overlaps.is_empty(), "{findings:?}");
        let once = self.counts("once").await;
        assert!((0..jobs).all(|job| once.get(&job) == Some(&1)), "{once:?}");
        findings
    }
}

/// Takes out whoever begins a job next.
async fn at_work(workers: &mut Vec<(Child, String)>) -> (Child, String) {
    let begun = workers.iter_mut().map(|(worker, _)| Box::pin(worker.line_with("begun")));
    let (line, at, _) = futures_util::future::select_all(begun).await;
    line.unwrap();
    workers.remove(at)
}

/// Kills and stops workers while `jobs` are worked on.
async fn under_fire(scene: &mut Scene, jobs: u32) {
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(scene.worker(""));
    }
    let part = jobs / 4;
    for round in 0..4 {
        scene.add(round * part..(round + 1) * part).await;
        let (mut killed, who) = at_work(&mut workers).await;
        killed.kill().unwrap();
        killed.wait().await.unwrap();
        scene.history.out(&who).await.unwrap();
        workers.push(scene.worker(""));
        if round % 2 == 0 {
            continue;
        }
        // Stopped for longer than it counts as alive, at whatever it is.
        let (stopped, who) = at_work(&mut workers).await;
        stopped.stop().unwrap();
        scene.history.out(&who).await.unwrap();
        until("it counts as dead", async || {
            let stats = scene.queue.stats().await.unwrap();
            let its = |worker: &&WorkerStats| worker.name.starts_with(&format!("{who}:"));
            stats.workers.iter().filter(its).all(|worker| worker.alive_for.is_none())
        })
        .await;
        stopped.cont().unwrap();
        workers.push((stopped, who));
    }
    scene.until_empty().await;
}

#[tokio::test]
async fn nothing_is_lost_and_effects_happen_once_though_workers_are_killed_and_stopped() {
    let mut scene = Scene::new("key").await;
    under_fire(&mut scene, 800).await;
    let findings = scene.check(800).await;
    assert!(findings.out_of_order.is_empty() && findings.beside.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn sequentially_one_job_is_at_work_over_four_processes() {
    let mut scene = Scene::new("all").await;
    under_fire(&mut scene, 200).await;
    // One lane for all: then keys do not matter.
    let findings = scene.check(200).await;
    assert!(findings.out_of_order.is_empty() && findings.beside.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn a_worker_may_die_at_each_step() {
    let mut repeated = 0;
    for step in ["read", "begin", "end", "settled"] {
        let mut scene = Scene::new("none").await;
        scene.add(0..100).await;
        let (mut dying, who) = scene.worker(step);
        assert!(!dying.wait().await.unwrap().success());
        scene.history.out(&who).await.unwrap();
        let _other = scene.worker("");
        scene.until_empty().await;
        let findings = scene.check(100).await;
        repeated += findings.again.len();
        if step == "end" {
            // The control: what is done before it is acknowledged is done again, and a plain effect happens twice.
            let plain = scene.counts("plain").await;
            assert!(plain.values().any(|times| *times > 1), "{plain:?}");
        }
    }
    assert!(repeated > 0);
}

/// The wall clock of whoever loads it jumps by two hours, to and fro, each tenth of a second.
const JUMPS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    struct timespec steady;
    real(CLOCK_MONOTONIC, &steady);
    int status = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += steady.tv_nsec / 100000000 % 2 ? 3600 : -3600;
    return status;
}
"#;

#[cfg(target_os = "linux")]
#[tokio::test]
async fn workers_whose_clocks_jump_lose_nothing_and_take_nothing_from_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("jumps.c"), folder.path().join("jumps.so"));
    std::fs::write(&source, JUMPS).unwrap();
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    assert!(made.unwrap().success());
    let mut scene = Scene::new("key").await;
    let mut workers: Vec<_> = (0..2)
        .map(|_| scene.worker_with("", |command| _ = command.env("LD_PRELOAD", &library).env("TELL_JUMPS", "1")))
        .collect();
    for part in 0..4 {
        // The fault is there.
        for (worker, _) in &mut workers {
            worker.line_with("jumped").await.unwrap();
        }
        scene.add(part * 100..(part + 1) * 100).await;
    }
    scene.until_empty().await;
    let findings = scene.check(400).await;
    assert!(findings.out_of_order.is_empty() && findings.beside.is_empty(), "{findings:?}");
    let plain = scene.counts("plain").await;
    assert!(plain.len() == 400 && plain.values().all(|times| *times == 1), "{plain:?}");
}

struct Nothing;

#[async_trait::async_trait]
impl Handler<Job> for Nothing {
    async fn handle(&self, _: &Job, _: Attempt<'_>) -> Outcome {
        Outcome::Done
    }
}

async fn used(client: &Client) -> u64 {
    let info: String = client.run(cmd("INFO").arg("memory")).await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap()
}

/// The most memory and the longest stream while so many jobs are added and worked off.
async fn most_of(jobs: u64, trims: bool) -> (u64, u64) {
    let server = Redis::start().await.unwrap();
    // A busy machine may keep a reply waiting, which is not what this is about.
    let patient = async || Client::builder(server.url()).response_timeout(Duration::from_secs(30)).connect().await;
    let client = patient().await.unwrap();
    let queue = Queue::new(client.clone(), name("many")).unwrap();
    let before = used(&client).await;
    let builder = queue.worker_builder().concurrency(128);
    let builder = if trims { builder } else { builder.without_trimming() };
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let run = tokio::spawn(builder.handler(Nothing).unwrap().run(shutdown.clone()));
    let producer = Queue::new(patient().await.unwrap(), queue.name().as_str()).unwrap().producer();
    let producer =
        if trims { producer.limit(Limit::Jobs(20_000)).wait_for_room(Duration::from_secs(60)) } else { producer };
    let (mut memory, mut length) = (0, 0);
    for _ in 0..jobs / 10_000 {
        producer.add_all((0..10_000).map(|n| NewJob::new(format!("{n:0100}")))).await.unwrap();
        memory = memory.max(used(&client).await.saturating_sub(before));
        length = length.max(queue.stats().await.unwrap().length);
    }
    until("all is done", async || {
        let stats = queue.stats().await.unwrap();
        stats.unread == Some(0) && stats.pending == 0
    })
    .await;
    shutdown.begin();
    assert_eq!(run.await.unwrap().unwrap().done, jobs);
    (memory, length)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded_over_a_million_jobs() {
    let (memory, length) = most_of(1_000_000, true).await;
    assert!(memory < 64 << 20 && length <= 20_000, "{memory} bytes, {length} jobs");
    // The control: without trimming all of them stay.
    let (_, length) = most_of(100_000, false).await;
    assert_eq!(length, 100_000);
}

#[tokio::test]
async fn a_plain_acknowledgement_from_the_past_would_count() {
    // The control for what the first test shows of stopped workers: XACK asks nobody who owns the job.
    let scene = Scene::new("none").await;
    let client = connect(scene.server.url()).await;
    let stream = scene.queue.name().as_key();
    scene.add(0..1).await;
    let words = |words: &str| turnstile_integration_tests::words(&words.replace('@', stream));
    client.run::<()>(&words("XGROUP CREATE @ workers 0")).await.unwrap();
    client.run::<redis_lua::redis::Value>(&words("XREADGROUP GROUP workers old STREAMS @ >")).await.unwrap();
    let (_, _, _): (String, Vec<redis_lua::redis::Value>, Vec<String>) =
        client.run(&words("XAUTOCLAIM @ workers new 0 0")).await.unwrap();
    let id: Vec<(String, redis_lua::redis::Value)> = client.run(&words("XRANGE @ - +")).await.unwrap();
    let acknowledged: u32 = client.run(&words(&format!("XACK @ workers {}", id[0].0))).await.unwrap();
    assert_eq!(acknowledged, 1);
}
