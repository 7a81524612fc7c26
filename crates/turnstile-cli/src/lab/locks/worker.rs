//! A worker process: it does with locks what it is told, one order after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, to_value};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use turnstile_core::{AcquireError, Lease, LeaseOptions};

use super::orders::{Acquire, Acquired, Contend, Notice, Order, Work};
use super::{LONG, Locks, Locksmith, SHORT};
use crate::lab::crew::WorkerArgs;
use crate::lab::history::TASKS_OF;
use crate::lab::post::Post;
use crate::lab::register::Desk;

mod contend;

/// Works until the lab has gone.
pub async fn work(smith: &dyn Locksmith, args: WorkerArgs, mut post: Post) -> Result<()> {
    let locks = match smith.open(&args.url).await {
        Ok(locks) => Arc::<dyn Locks>::from(locks),
        Err(error) => return post.answer(Err::<(), _>(error)).await,
    };
    let (waiting, over) = (JoinSet::new(), CancellationToken::new());
    let mut hands = Hands { smith, locks, args, held: None, waiting, soaking: None, over };
    post.answer(anyhow::Ok(())).await?;
    while let Some(order) = post.order().await? {
        let answer = hands.carry_out(order).await;
        post.answer(answer).await?;
    }
    Ok(())
}

struct Hands<'a> {
    smith: &'a dyn Locksmith,
    locks: Arc<dyn Locks>,
    args: WorkerArgs,
    held: Option<Held>,
    waiting: JoinSet<Result<()>>,
    soaking: Option<JoinHandle<Result<Work>>>,
    over: CancellationToken,
}

struct Held {
    name: String,
    lease: Lease,
    desk: Desk,
}

/// How a task reaches the register.
#[derive(Clone)]
struct Door {
    register: PathBuf,
    first: u32,
}

impl Door {
    /// The desk of the `task`th task.
    async fn desk(&self, task: u32) -> Result<Desk> {
        Desk::connect(&self.register, self.first + task).await
    }
}

impl Hands<'_> {
    fn door(&self) -> Door {
        Door { register: self.args.register.clone(), first: self.args.number * TASKS_OF }
    }

    async fn carry_out(&mut self, order: Order) -> Result<Value> {
        self.waiting.shutdown().await;
        Ok(match order {
            Order::Contend(contend) => to_value(self.contend(contend).await?)?,
            Order::Soak(contend) => {
                let options = LeaseOptions::new(SHORT * 2)?.max_outage(LONG * 2);
                let (locks, door, over) = (self.locks.clone(), self.door(), self.over.clone());
                let all = async move { contend::all(&*locks, &contend, options, door, over).await };
                self.soaking = Some(tokio::spawn(all));
                Value::Null
            }
            Order::Rest => {
                self.over.cancel();
                to_value(self.soaking.take().context("nothing was begun")?.await??)?
            }
            Order::Acquire(acquire) => to_value(self.acquire(acquire).await?)?,
            Order::Enter => {
                let Held { name, lease, desk } = self.held()?;
                to_value(desk.enter(name, lease, false).await?)?
            }
            Order::Write => {
                let Held { name, lease, desk } = self.held()?;
                to_value(desk.write(name, lease).await?)?
            }
            Order::Notice => to_value(self.notice().await?)?,
            Order::Release => {
                self.held()?;
                if let Some(held) = self.held.take() {
                    // Where it is not confirmed, it goes on in the background; the lab looks at the server.
                    let _ = held.lease.release().await;
                }
                Value::Null
            }
            Order::Wait { name, tasks, apart } => {
                self.wait(&name, tasks, apart).await?;
                Value::Null
            }
            Order::Close => {
                self.held = None;
                let unconfirmed = self.locks.close().await;
                if !unconfirmed.is_empty() {
                    bail!("not given back: {}", unconfirmed.join("; "));
                }
                Value::Null
            }
        })
    }

    fn held(&mut self) -> Result<&mut Held> {
        self.held.as_mut().context("nothing was acquired")
    }

    async fn contend(&self, contend: Contend) -> Result<Work> {
        let over = CancellationToken::new();
        let (time, end) = (Duration::from_millis(contend.millis), over.clone().drop_guard());
        tokio::spawn(async move {
            sleep(time).await;
            drop(end);
        });
        contend::all(&*self.locks, &contend, LeaseOptions::new(LONG)?, self.door(), over).await
    }

    async fn acquire(&mut self, order: Acquire) -> Result<Acquired> {
        let Acquire { name, ttl_ms, wait_ms, anew } = order;
        let mut options = LeaseOptions::new(Duration::from_millis(ttl_ms))?;
        if anew {
            options = options.max_outage(Duration::ZERO);
        }
        let lock = self.locks.lock(&name, false, options)?;
        let lease = loop {
            let asked = match wait_ms {
                0 => lock.try_acquire().await,
                wait_ms => lock.acquire_timeout(Duration::from_millis(wait_ms)).await.map(Some),
            };
            match asked {
                Ok(Some(lease)) => break lease,
                Ok(None) | Err(AcquireError::TimedOut { .. }) => return Ok(Acquired::NotInTime),
                Err(AcquireError::Backend { source, .. }) if anew && source.kind().is_transient() => {}
                Err(error) => return Err(error.into()),
            }
        };
        let token = lease.fencing_token().get();
        let desk = self.door().desk(0).await?;
        self.held = Some(Held { name, lease, desk });
        Ok(Acquired::Token(token))
    }

    async fn notice(&mut self) -> Result<Notice> {
        let lease = &self.held()?.lease;
        let checked_held = lease.check().is_ok();
        let lost = timeout(Duration::from_secs(1), lease.lost()).await.ok();
        Ok(Notice { checked_held, lost: lost.map(|reason| reason.to_string()) })
    }

    async fn wait(&mut self, name: &str, tasks: u32, apart: bool) -> Result<()> {
        let options = LeaseOptions::new(LONG)?;
        for _ in 0..tasks {
            let locks = if apart { Arc::from(self.smith.open(&self.args.url).await?) } else { self.locks.clone() };
            let lock = locks.lock(name, false, options.clone())?;
            self.waiting.spawn(async move {
                let _lease = lock.acquire().await?;
                std::future::pending::<()>().await;
                Ok(())
            });
        }
        Ok(())
    }
}
