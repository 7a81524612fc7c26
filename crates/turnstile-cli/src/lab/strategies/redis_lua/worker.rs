//! A worker process: it calls scripts as it is told, all tasks by one client.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use redis_lua::redis::cmd;
use redis_lua::{Client, Error, GuardedWrite, Name, Script, Written};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};
use turnstile_core::FencingToken;

use super::orders::{By, Count, OnLoss, Order, Work, Write};
use crate::lab::clock;
use crate::lab::crew::WorkerArgs;
use crate::lab::post::Post;

static COUNT_BOTH: Script = Script::new("count_both", include_str!("count_both.lua"));
static READ_BOTH: Script = Script::new("read_both", include_str!("read_both.lua"));

/// The longest that a reply is waited for: the lab's machine may be a busy one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Works until the lab has gone.
pub async fn work(args: WorkerArgs, mut post: Post) -> Result<()> {
    let client = match Client::builder(&args.url).response_timeout(PATIENCE).connect().await {
        Ok(client) => client,
        Err(error) => return post.answer(Err::<(), _>(error)).await,
    };
    post.answer(anyhow::Ok(())).await?;
    while let Some(order) = post.order().await? {
        let mut tasks = JoinSet::new();
        let stop = Arc::new(AtomicBool::new(false));
        match order {
            Order::Count(order) => {
                let name = Name::new(&order.name)?;
                for task in 0..order.writers + order.readers {
                    let (client, order, name, url) = (client.clone(), order.clone(), name.clone(), args.url.clone());
                    let task = Task { client, url, name, writes: task < order.writers, order, stop: stop.clone() };
                    tasks.spawn(task.run());
                }
            }
            Order::Write(order) => {
                let guarded = GuardedWrite::new(Name::new(&order.name)?);
                for _ in 0..order.tasks {
                    tasks.spawn(write(client.clone(), order.clone(), guarded.clone()));
                }
            }
            Order::Stop => continue,
        }
        let mut done = pin!(tasks.join_all());
        let all = tokio::select! {
            all = &mut done => all,
            order = post.order::<Order>() => {
                order?;
                stop.store(true, Ordering::Relaxed);
                done.await
            }
        };
        post.answer(anyhow::Ok(Work::sum(all))).await?;
    }
    Ok(())
}

struct Task {
    client: Client,
    url: String,
    name: Name,
    /// Or reads.
    writes: bool,
    order: Count,
    stop: Arc<AtomicBool>,
}

impl Task {
    async fn run(mut self) -> Work {
        let until = Instant::now() + Duration::from_millis(self.order.millis);
        let mut work = Work::default();
        while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
            let result = if self.writes {
                let asked = clock::now();
                self.count().await.map(|()| {
                    work.calls += 1;
                    let now = clock::now();
                    work.times.record(now.saturating_sub(asked));
                    work.tally.note(now);
                })
            } else {
                // A reader is there to look, not to be fast.
                sleep(Duration::from_millis(1)).await;
                self.differ().await.map(|differ| {
                    work.reads += 1;
                    work.torn += u64::from(differ);
                })
            };
            match result {
                Ok(()) => {}
                Err(error) if self.order.on_loss == OnLoss::Fail || !error.is_transient() => work.fail(&error),
                Err(_) => {
                    work.lost += 1;
                    if self.order.on_loss == OnLoss::ConnectAnew
                        && let Ok(client) = Client::connect(&self.url).await
                    {
                        self.client = client;
                    }
                }
            }
        }
        work
    }

    async fn count(&self) -> Result<(), Error> {
        let keys = [self.name.key("left"), self.name.key("right")];
        match self.order.by {
            By::Script => COUNT_BOTH.keys(keys).run(&self.client).await,
            By::Sha1Alone => {
                let mut call = cmd("EVALSHA");
                call.arg(COUNT_BOTH.sha1()).arg(keys.len()).arg(&keys[..]);
                self.client.run(&call).await
            }
            By::TwoCommands => {
                for key in keys {
                    self.client.run::<()>(cmd("INCR").arg(key)).await?;
                    yield_now().await;
                }
                Ok(())
            }
        }
    }

    async fn differ(&self) -> Result<bool, Error> {
        let call = READ_BOTH.keys([self.name.key("left"), self.name.key("right")]);
        let (left, right): (u64, u64) = call.run(&self.client).await?;
        Ok(left != right)
    }
}

/// Writes its token as the data, with tokens that stand for the time of some moment up to five milliseconds ago.
async fn write(client: Client, order: Write, guarded: GuardedWrite) -> Work {
    let until = Instant::now() + Duration::from_millis(order.millis);
    let mut work = Work::default();
    while Instant::now() < until {
        let micros = clock::now() / 1000;
        let token = micros - micros.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 5000;
        let written = if order.plain {
            let set = client.run::<()>(cmd("SET").arg(guarded.name().as_key()).arg(token)).await;
            set.map(|()| Written::Done)
        } else {
            guarded.set(&client, FencingToken::new(token), token).await
        };
        match written {
            Ok(Written::Done) => {
                work.calls += 1;
                work.newest = work.newest.max(token);
            }
            Ok(_) => work.refused += 1,
            Err(error) => work.fail(&error),
        }
    }
    work
}
