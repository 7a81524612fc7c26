//! What cannot be is refused by a typed error that says what to do; what is odd is worked on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use parking_lot::Mutex;
use redis_lua::Key;
use redis_lua::redis::cmd;
use redis_streams::{
    AddError, Attempt, Client, ConfigError, Effect, Handler, Job, NewJob, Order, Outcome, Queue, RunError, Shutdown,
};
use support::*;
use turnstile_core::ErrorKind;

fn done() -> With<impl Fn(Arc<str>, u32) -> std::future::Ready<Outcome>> {
    With(|_, _| std::future::ready(Outcome::Done))
}

async fn run_of(queue: &Queue, order: Order) -> RunError {
    let worker = queue.worker_builder().order(order).alive_for(Duration::from_millis(300)).handler(done()).unwrap();
    tokio::time::timeout(SAFETY_NET, worker.run(Shutdown::new(Duration::ZERO))).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_key_that_holds_another_type_ends_the_run_and_is_named() {
    let client = client().await;
    for part in ["", ":workers:alive", ":workers:due", ":workers:lanes", ":workers:meta", ":delayed"] {
        let queue = queue().await;
        let key = format!("{}{part}", queue.name().as_key());
        client.run::<()>(cmd("SET").arg(&key).arg("text")).await.unwrap();
        queue.producer().add(NewJob::new("x")).await.err();
        if part == ":delayed" {
            let refused = queue.producer().add(NewJob::new("x").delay(SAFETY_NET)).await;
            assert!(matches!(refused, Err(AddError::Redis(error)) if error.kind() == ErrorKind::WrongType));
        }
        let RunError::Redis(error) = run_of(&queue, Order::ByKey).await else { panic!("{part}") };
        assert_eq!(error.kind(), ErrorKind::WrongType, "{part}: {error}");
        assert!(error.to_string().contains("another type"), "{error}");
        let text: String = client.run(cmd("GET").arg(&key)).await.unwrap();
        assert_eq!(text, "text");
    }
}

/// Counts how often the job with the foreign effect was begun.
#[derive(Clone, Default)]
struct Odd(Arc<AtomicU32>);

#[async_trait::async_trait]
impl Handler<Job> for Odd {
    async fn handle(&self, job: &Job, _: Attempt<'_>) -> Outcome {
        match job.body() {
            b"dead" => return Outcome::DeadLetter(anyhow!("on purpose")),
            b"foreign" => {
                self.0.fetch_add(1, Ordering::SeqCst);
                job.on_done(Effect::new("INCR", Key::raw("elsewhere")));
            }
            _ => {}
        }
        Outcome::Done
    }
}

#[tokio::test]
async fn what_cannot_be_written_down_holds_up_no_other_job() {
    let (queue, client) = (queue().await, client().await);
    let dead = format!("{}:workers:dead", queue.name().as_key());
    client.run::<()>(cmd("SET").arg(&dead).arg("text")).await.unwrap();
    let odd = Odd::default();
    let worker = start(queue.worker_builder().retries(attempts(2)).handler(odd.clone()).unwrap());
    queue.producer().add_all(["1", "dead", "2", "foreign", "3"].map(NewJob::new)).await.unwrap();
    until("the others are done, and these are left", async || {
        let mut pending = cmd("XPENDING");
        pending.arg(queue.name().as_key()).arg("workers").arg("-").arg("+").arg(10);
        let pending: Vec<redis_lua::redis::Value> = client.run(&pending).await.unwrap();
        let due: u32 = client.run(cmd("ZCARD").arg(format!("{}:workers:due", queue.name().as_key()))).await.unwrap();
        (pending.len(), due, odd.0.load(Ordering::SeqCst)) == (2, 0, 2)
    })
    .await;
    let report = worker.end().await;
    assert_eq!((report.done, report.dead_letters), (3, 0));
    assert_eq!(report.halted.len(), 2, "{report:?}");
    assert!(report.halted.iter().all(|(_, error)| error.to_string().contains("another type")), "{report:?}");

    // Nothing is lost: with the place free they are set aside.
    client.run::<()>(cmd("DEL").arg(&dead)).await.unwrap();
    let worker = start(queue.worker_builder().retries(attempts(2)).handler(Odd::default()).unwrap());
    until_empty(&queue).await;
    worker.end().await;
    let letters = queue.dead_letters().list(None, 10).await.unwrap();
    assert_eq!(letters.len(), 2);

    queue.producer().add(NewJob::new("foreign")).await.unwrap();
    let worker = start(queue.worker_builder().retries(attempts(1)).handler(Odd::default()).unwrap());
    until_empty(&queue).await;
    worker.end().await;
    let letters = queue.dead_letters().list(None, 10).await.unwrap();
    assert!(letters[2].error.contains("elsewhere"), "{letters:?}");
}

#[tokio::test]
async fn settings_and_names_that_make_no_sense_are_refused() {
    let queue = queue().await;
    assert!(Queue::new(client().await, "a{b").is_err());
    assert!(Queue::new(client().await, "{a}:dead").is_err(), "the place of another's dead letters");
    for group in ["", "a:b", "{a}", "a\n"] {
        assert!(matches!(queue.dead_letters_of(group), Err(ConfigError::Group { .. })), "{group:?}");
        assert!(queue.worker_builder().group(group).handler(done()).is_err(), "{group:?}");
    }
    let builders = [
        queue.worker_builder().concurrency(0),
        queue.worker_builder().batch(0),
        queue.worker_builder().lanes(0),
        queue.worker_builder().alive_for(Duration::from_millis(99)),
        queue.worker_builder().timeout(Duration::ZERO),
        queue.worker_builder().name(""),
    ];
    for builder in builders {
        assert!(matches!(builder.clone().handler(done()), Err(ConfigError::Invalid(_))), "{builder:?}");
    }
    let wide = (0..1_001).fold(NewJob::empty(), |job, n| job.field(n.to_string(), "x"));
    for job in
        [NewJob::empty(), wide, NewJob::new("x").dedup("", SAFETY_NET), NewJob::new("x").dedup("a", Duration::ZERO)]
    {
        assert!(matches!(queue.producer().add(job).await, Err(AddError::Invalid(_))));
    }
    assert_eq!(queue.stats().await.unwrap().length, 0);
}

#[tokio::test]
async fn who_keeps_another_order_is_refused_while_the_others_live() {
    let queue = queue().await;
    let worker = start(queue.worker(done()));
    until("it is there", async || queue.stats().await.unwrap().workers.len() == 1).await;
    let refused = run_of(&queue, Order::Sequential).await;
    assert!(matches!(&refused, RunError::OtherOrder { theirs, ours: "all", .. } if &**theirs == "none"), "{refused}");
    worker.end().await;
    let worker = start(queue.worker_builder().order(Order::Sequential).handler(done()).unwrap());
    until("it is there", async || queue.stats().await.unwrap().workers.len() == 1).await;
    worker.end().await;
}

#[tokio::test]
async fn jobs_that_wait_in_lanes_are_done_when_the_order_changes() {
    let queue = queue().await;
    let short = Duration::from_millis(300);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = With(move |_, _| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Outcome::Done
        }
    });
    let first = queue.worker_builder().order(Order::Sequential).alive_for(short).handler(held).unwrap();
    let first = start_with(first, Duration::ZERO);
    queue.producer().add_all((0..20).map(|n| NewJob::new(n.to_string()))).await.unwrap();
    until("all but one wait", async || queue.stats().await.unwrap().in_lanes == 20).await;
    assert_eq!(first.end().await.done, 0);
    let second = start(queue.worker_builder().alive_for(short).handler(done()).unwrap());
    until_empty(&queue).await;
    assert_eq!(second.end().await.done, 20);
}

#[tokio::test]
async fn a_server_that_is_away_or_refuses_is_an_error_at_the_start() {
    let away = Queue::new(Client::new("redis://127.0.0.1:1").unwrap(), "q").unwrap();
    let error = run_of(&away, Order::None).await;
    assert!(matches!(&error, RunError::Redis(error) if error.kind() == ErrorKind::Unreachable), "{error}");

    let server = Redis::start().await.unwrap();
    let client = connect(server.url()).await;
    run::<()>(&client, "ACL SETUSER worker on >secret ~* &* +@all -xreadgroup").await;
    let url = server.url().replace("redis://", "redis://worker:secret@");
    let denied = Queue::new(connect(url).await, unique("denied")).unwrap();
    for order in [Order::None, Order::ByKey] {
        let error = run_of(&denied, order).await;
        assert!(matches!(&error, RunError::Redis(error) if error.kind() == ErrorKind::Denied), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

type Fields = Vec<(Bytes, Bytes)>;

struct Keeps(Arc<Mutex<Vec<Fields>>>);

#[async_trait::async_trait]
impl Handler<Job> for Keeps {
    async fn handle(&self, job: &Job, _: Attempt<'_>) -> Outcome {
        self.0.lock().push(job.fields().to_vec());
        if job.body() == b"bad" { Outcome::DeadLetter(anyhow!("bad")) } else { Outcome::Done }
    }
}

#[tokio::test]
async fn whatever_others_add_is_a_job() {
    let (queue, client) = (queue().await, client().await);
    let bytes: Vec<u8> = (0..=255).collect();
    for fields in [
        &[&b"odd"[..], &b""[..]][..],
        &[b"", b""],
        &[&bytes, &bytes],
        &[b"@key", b"k", b"@key", b"l"],
        &[b"@for", b"others"],
    ] {
        let mut add = cmd("XADD");
        add.arg(queue.name().as_key()).arg("*");
        fields.iter().for_each(|field| _ = add.arg(*field));
        client.run::<String>(&add).await.unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let worker = start(queue.worker_builder().order(Order::ByKey).handler(Keeps(seen.clone())).unwrap());
    until_empty(&queue).await;
    worker.end().await;
    let seen = seen.lock();
    assert_eq!(seen.len(), 4, "all but the one that is for another group");
    assert!(seen.iter().any(|fields| *fields == [(Bytes::from(bytes.clone()), Bytes::from(bytes.clone()))]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_ten_megabytes_go_every_way() {
    let server = Redis::start().await.unwrap();
    // Such a job takes a while on a busy machine.
    let client = Client::builder(server.url()).response_timeout(SAFETY_NET).connect().await.unwrap();
    let queue = Queue::new(client, unique("large")).unwrap();
    let large = |with: u8| Bytes::from(vec![with; 10 << 20]);
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = bodies.clone();
    let handler = With(move |body: Arc<str>, attempt| {
        let first = body.as_bytes()[0];
        seen.lock().push((first, attempt, body.len()));
        async move {
            match (first, attempt) {
                (b'd', _) => Outcome::DeadLetter(anyhow!("dead")),
                (b'r', 1) => Outcome::retry(anyhow!("again")),
                _ => Outcome::Done,
            }
        }
    });
    let worker = start(queue.worker_builder().retries(attempts(2)).handler(handler).unwrap());
    let producer = queue.producer();
    let (added, _) = tokio::join!(
        producer.add_all([NewJob::new(large(b'd')), NewJob::new(large(b'r'))]),
        producer.add(NewJob::new(large(b'l')).delay(Duration::from_millis(50))),
    );
    assert_eq!(added.unwrap().len(), 2);
    until_empty(&queue).await;
    worker.end().await;
    assert!(bodies.lock().iter().all(|(_, _, length)| *length == 10 << 20));
    let dead = queue.dead_letters();
    assert_eq!(dead.list(None, 1).await.unwrap()[0].fields[0].1, large(b'd'));
    assert_eq!(dead.replay_all().await.unwrap(), 1);
    let worker = start(queue.worker(done()));
    until_empty(&queue).await;
    assert_eq!(worker.end().await.done, 1);
}

#[cfg(feature = "serde")]
#[tokio::test]
async fn a_body_that_does_not_parse_is_set_aside_at_once() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Invoice {
        number: u32,
    }

    struct Sums(Arc<Mutex<u32>>);

    #[async_trait::async_trait]
    impl Handler<Invoice> for Sums {
        async fn handle(&self, invoice: &Invoice, _: Attempt<'_>) -> Outcome {
            *self.0.lock() += invoice.number;
            Outcome::Done
        }
    }

    let queue = queue().await;
    queue.producer().add(NewJob::json(&Invoice { number: 4711 }).unwrap()).await.unwrap();
    queue.producer().add(NewJob::new("{\"number\": \"none\"}")).await.unwrap();
    queue.producer().add(NewJob::new("")).await.unwrap();
    let sum = Arc::new(Mutex::new(0));
    let worker = start(queue.worker(redis_streams::json(Sums(sum.clone()))));
    until_empty(&queue).await;
    let report = worker.end().await;
    assert_eq!((report.done, report.dead_letters, *sum.lock()), (1, 2, 4711));
    let letter = &queue.dead_letters().list(None, 1).await.unwrap()[0];
    assert!(letter.error.contains("invalid type") && letter.attempts == 1, "{}", letter.error);
}
