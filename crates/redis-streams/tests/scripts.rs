//! What may not be left to chance between two workers, step by step, as the scripts have it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use redis_lua::redis::{FromRedisValue, Value, cmd};
use redis_streams::{Client, DEFAULT_GROUP, NewJob, Queue, Trim};
use support::*;

const JOIN: &str = concat!(include_str!("../src/lua/common.lua"), include_str!("../src/lua/join.lua"));
const TAKE: &str = concat!(include_str!("../src/lua/common.lua"), include_str!("../src/lua/take.lua"));
const SETTLE: &str = concat!(include_str!("../src/lua/common.lua"), include_str!("../src/lua/settle.lua"));

struct Scene {
    client: Client,
    queue: Queue,
}

impl Scene {
    async fn new() -> Self {
        let scene = Self { client: client().await, queue: queue().await };
        scene.call::<String>(JOIN, "me", &["60000", "0"]).await;
        scene
    }

    async fn call<T: FromRedisValue>(&self, script: &str, consumer: &str, args: &[&str]) -> T {
        let key = self.queue.name().as_key();
        let mut eval = cmd("EVAL");
        eval.arg(script).arg(8).arg(key);
        for part in
            ["workers:alive", "workers:due", "workers:lanes", "workers:dead", "workers:meta", "delayed", "workers:left"]
        {
            eval.arg(format!("{key}:{part}"));
        }
        eval.arg(DEFAULT_GROUP).arg(consumer).arg("none").arg("PUBLISH").arg(format!("{key}/look")).arg(args);
        self.client.run(&eval).await.unwrap()
    }

    /// A job in the hands of `me`.
    async fn read(&self) -> String {
        let id = self.queue.producer().add(NewJob::new("x")).await.unwrap().id().unwrap().to_string();
        let read = format!("XREADGROUP GROUP workers me STREAMS {} >", self.queue.name().as_key());
        run::<Value>(&self.client, &read).await;
        id
    }

    /// `again`, at once, of this delivery: whether it counted.
    async fn again(&self, id: &str, delivery: &str) -> bool {
        let words = ["0", "-", "0", "again", id, delivery, "-", "0"];
        let (alive, _, replies, _, _): (bool, u32, Vec<u32>, Vec<Value>, u32) = self.call(SETTLE, "me", &words).await;
        assert!(alive);
        replies == [1]
    }
}

/// What `take.lua` replies; last the jobs, each with its fields and its delivery.
type Taken = (bool, u32, i64, bool, Vec<(String, Value, u32)>);

#[tokio::test]
async fn a_word_on_an_attempt_that_is_said_again_counts_no_more_once_the_next_has_begun() {
    let scene = Scene::new().await;
    let id = scene.read().await;
    assert!(scene.again(&id, "1").await);
    // As after a reply that was lost, when the caller has the job for the next attempt by then.
    let (_, _, _, _, jobs): Taken = scene.call(TAKE, "me", &["1"]).await;
    assert!(jobs.len() == 1 && jobs[0].2 == 2);
    assert!(!scene.again(&id, "1").await);
    assert_eq!(scene.queue.stats().await.unwrap().due, 0, "nobody else gets it");
    // The control: the word on the attempt that is under way counts.
    assert!(scene.again(&id, "2").await);
    assert_eq!(scene.queue.stats().await.unwrap().due, 1);
}

#[tokio::test]
async fn what_a_new_group_has_not_read_is_not_deleted_behind_its_back() {
    for groups in [1, 2] {
        let scene = Scene::new().await;
        let id = scene.read().await;
        if groups == 2 {
            run::<()>(&scene.client, &format!("XGROUP CREATE {} new 0", scene.queue.name().as_key())).await;
        }
        // As a worker does that last saw one group.
        let words = ["0", "XDEL", "1", &id];
        let (_, acknowledged, _, _, _): (bool, u32, Vec<u32>, Vec<Value>, u32) = scene.call(SETTLE, "me", &words).await;
        assert_eq!(acknowledged, 1);
        assert_eq!(scene.queue.stats().await.unwrap().length, groups - 1);
    }
}

#[tokio::test]
async fn dead_letters_go_back_into_a_stream_that_was_deleted() {
    let scene = Scene::new().await;
    let id = scene.read().await;
    let words = ["0", "-", "0", "dead", &id, "1", "-", "1", "no", "2", "body", "x"];
    scene.call::<Value>(SETTLE, "me", &words).await;
    run::<u32>(&scene.client, &format!("DEL {}", scene.queue.name().as_key())).await;
    assert_eq!(scene.queue.dead_letters().replay_all().await.unwrap(), 1);
    let stats = scene.queue.stats().await.unwrap();
    assert_eq!((stats.length, stats.dead), (1, 0));
    assert_eq!(scene.queue.trim(Trim::Acknowledged).await.unwrap().removed, 0);
}
