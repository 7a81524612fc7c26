//! A strategy on Redis that faults come over: servers that keep all on disk, a proxy in front of each, and processes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis_lua::redis::cmd;
use tokio::time::{Instant, sleep, timeout};
use turnstile_testkit::proxy::Direction;
use turnstile_testkit::redis::{RedisProxy, Server};

use super::{Fault, Faults, Ills, Round, Step};
use crate::lab::crew::Worker;
use crate::lab::trial::Trial;

/// All that Redis and its clients bear.
pub const ILLS: Ills = Ills {
    kinds: &[
        Fault::Kill,
        Fault::Stop,
        Fault::Cut,
        Fault::Delay,
        Fault::LostReply,
        Fault::ServerStop,
        Fault::ServerRestart,
        Fault::Flush,
    ],
    lasts: Duration::from_millis(50)..Duration::from_millis(2_500),
    rest: Duration::from_millis(200)..Duration::from_millis(1_500),
};
/// How many processes.
const CREW: u32 = 3;
/// Each way, at all times: a network, and no more calls than others leave time for.
const NETWORK: Duration = Duration::from_millis(2);
/// The longest that a process is started for.
const STARTING: Duration = Duration::from_secs(60);
/// How long a request is waited for whose reply is to be lost.
const ASKED: Duration = Duration::from_secs(5);

pub struct Patient<'a> {
    pub trial: Trial<'a>,
    pub workers: Vec<Worker>,
    proxies: Vec<RedisProxy>,
    urls: String,
    born: u32,
}

impl<'a> Patient<'a> {
    /// So many servers that faults come over, and `spared` ones.
    pub async fn start(round: &Round<'a>, strategy: &'static str, servers: usize, spared: usize) -> Result<Self> {
        let trial = Trial::on_disk(round.lab, strategy, servers + spared).await?;
        let (mut proxies, mut urls) = (Vec::new(), Vec::new());
        for (nth, server) in trial.servers().enumerate() {
            if nth < servers {
                let proxy = server.proxy().await?;
                proxy.delay(Direction::Both, NETWORK);
                urls.push(proxy.url());
                proxies.push(proxy);
            } else {
                urls.push(server.url());
            }
        }
        let mut patient = Self { trial, workers: Vec::new(), proxies, urls: urls.join(","), born: 0 };
        for _ in 0..CREW {
            patient.join().await?;
        }
        Ok(patient)
    }

    /// One more process, which has no orders yet.
    pub async fn join(&mut self) -> Result<&mut Worker> {
        let until = Instant::now() + STARTING;
        let worker = loop {
            let worker = self.trial.worker(self.born, &self.urls).await;
            self.born += 1;
            match worker {
                Ok(worker) => break worker,
                // On a machine that does much else it may not connect in time, and is started again, as others would.
                Err(error) => ensure!(Instant::now() < until, error),
            }
        };
        self.workers.push(worker);
        self.workers.last_mut().context("no worker")
    }

    /// The fault comes over it and goes again. Whether a process is missing then.
    pub async fn suffer(&mut self, faults: &mut Faults, step: &Step) -> Result<bool> {
        let Step { fault, whom, lasts, .. } = *step;
        let proxy = &self.proxies[whom % self.proxies.len()];
        let worker = whom % self.workers.len();
        match fault {
            Fault::Kill => {
                let mut victim = self.workers.swap_remove(worker);
                victim.child().kill()?;
                victim.child().wait().await?;
                return Ok(true);
            }
            Fault::Stop => {
                self.workers[worker].child().stop()?;
                sleep(lasts).await;
                self.workers[worker].child().cont()?;
            }
            Fault::Cut => proxy.cut(),
            Fault::Delay => {
                proxy.delay(Direction::Both, lasts / 20);
                sleep(lasts).await;
            }
            Fault::LostReply => {
                if !timeout(ASKED, proxy.cut_reply().happened()).await.is_ok_and(|cut| cut.is_ok()) {
                    faults.missed(step);
                }
            }
            Fault::ServerStop => {
                self.server(whom).stop().await?;
                sleep(lasts / 2).await;
                self.server(whom).cont().await?;
            }
            Fault::ServerRestart => self.server(whom).restart().await?,
            Fault::Flush => {
                let nth = whom % self.proxies.len();
                let client = self.trial.clients().nth(nth).context("no client")?;
                // It was lost with the server's restart, perhaps: it is asked again.
                if client.run::<()>(cmd("SCRIPT").arg("FLUSH")).await.is_err() {
                    client.run::<()>(cmd("SCRIPT").arg("FLUSH")).await?;
                }
            }
        }
        let proxy = &self.proxies[whom % self.proxies.len()];
        proxy.pass();
        proxy.delay(Direction::Both, NETWORK);
        Ok(false)
    }

    fn server(&mut self, whom: usize) -> &mut Server {
        match whom % self.proxies.len() {
            0 => &mut self.trial.server,
            nth => &mut self.trial.others[nth - 1],
        }
    }
}
