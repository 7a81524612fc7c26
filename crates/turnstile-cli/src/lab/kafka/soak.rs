//! A strategy on Kafka that faults come over: processes that reach their broker by a path of their own. The broker is shared
//! with other strategies; what comes over it [`Round`] does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::time::{sleep, timeout};
use turnstile_testkit::history::{Fault as Harm, What};
use turnstile_testkit::kafka::KafkaProxy;
use turnstile_testkit::proxy::Direction;

use super::{Delivered, Observer, PATIENCE, Pace, Producer, Scene, Trial};
use crate::lab::crew::Worker;
use crate::lab::soak::{Fault, Faults, Ills, Round, Step};

/// What clients of Kafka bear.
pub const ILLS: Ills = Ills {
    kinds: &[Fault::Kill, Fault::Stop, Fault::Cut, Fault::Delay, Fault::LostReply],
    lasts: Duration::from_millis(200)..Duration::from_secs(6),
    rest: Duration::from_millis(500)..Duration::from_secs(3),
};
/// After how long without a sign of life a member counts as dead, on a machine that does much else.
pub const SESSION: Duration = Duration::from_secs(4);
/// How many processes.
const CREW: u32 = 3;
/// How long a request is waited for whose reply is to be lost.
const ASKED: Duration = Duration::from_secs(5);

pub struct Patient {
    pub scene: Scene,
    pub workers: Vec<Worker>,
    observer: Observer,
    producer: Option<Producer>,
    proxy: KafkaProxy,
    born: u32,
    /// Of the last that ended by itself; and, if not all was committed in the end, of all.
    pub last_words: String,
}

/// A trial on the broker of this round.
pub fn trial<'a>(round: &Round<'a>, strategy: &'static str) -> Result<Trial<'a>> {
    Ok(Trial::on(round.lab, strategy, round.kafka.clone().context("no Kafka")?))
}

impl Patient {
    /// Observer and producer keep the straight way to the broker.
    pub async fn start(round: &Round<'_>, trial: &Trial<'_>, mut scene: Scene, pace: Option<Pace>) -> Result<Self> {
        round.tell(scene.history.recorder("broker")?);
        let (observer, producer) = (scene.observer()?, pace.map(|pace| scene.producer(pace)).transpose()?);
        let proxy = trial.server.proxy().await?;
        scene.brokers = proxy.brokers();
        let mut patient =
            Self { scene, workers: Vec::new(), observer, producer, proxy, born: 0, last_words: String::new() };
        for _ in 0..CREW {
            patient.join().await?;
        }
        Ok(patient)
    }

    /// All that comes over it, and then the calm, until all is committed or will not be any more. Each process works by its
    /// `order`, also one that takes another's place; `stand` asks where it stands. What was produced, whether all of it is
    /// committed, and the faults.
    pub async fn endure<O: Serialize>(
        &mut self,
        round: &Round<'_>,
        strategy: &str,
        order: impl Fn(u32) -> O,
        stand: &O,
    ) -> Result<(Delivered, bool, Faults)> {
        let mut faults = round.begin(strategy, &ILLS).await;
        for worker in &mut self.workers {
            worker.ask::<()>(&order(worker.number())).await?;
        }
        while let Some(step) = faults.next().await {
            if let Some(new) = self.suffer(&mut faults, &step).await? {
                new.ask::<()>(&order(new.number())).await?;
            }
            self.replace(&order, stand).await?;
        }
        round.calm().await;
        let (produced, until) = (self.produced()?, Instant::now() + PATIENCE);
        loop {
            self.replace(&order, stand).await?;
            if let Some(settled) = self.settled(&produced, until).await {
                if !settled {
                    self.last_words = self.standings(stand).await;
                }
                return Ok((produced, settled, faults));
            }
        }
    }

    /// Whoever has ended by itself.
    async fn replace<O: Serialize>(&mut self, order: &impl Fn(u32) -> O, stand: &O) -> Result<()> {
        while let Some(new) = self.ended(stand).await? {
            new.ask::<()>(&order(new.number())).await?;
        }
        Ok(())
    }

    /// What everyone says of where it stands, and what the last that ended by itself said.
    async fn standings(&mut self, stand: &impl Serialize) -> String {
        let mut told = std::mem::take(&mut self.last_words);
        for worker in &mut self.workers {
            let stands = worker.ask::<serde_json::Value>(stand).await;
            let stands = stands.map_or_else(|error| format!("{error:#}"), |stands| stands.to_string());
            told += &format!("; {}: {stands}", name(worker.number()));
        }
        told
    }

    async fn join(&mut self) -> Result<&mut Worker> {
        self.workers.push(self.scene.worker(self.born).await?);
        self.born += 1;
        self.workers.last_mut().context("no worker")
    }

    /// The fault comes over it and goes again, and is written down. Whoever took the place of a killed process is given back,
    /// for orders.
    pub async fn suffer(&mut self, faults: &mut Faults, step: &Step) -> Result<Option<&mut Worker>> {
        let Step { fault, whom, lasts, .. } = *step;
        let worker = whom % self.workers.len();
        if fault == Fault::Kill {
            let mut victim = self.workers.swap_remove(worker);
            let who = name(victim.number());
            self.scene.kill(&mut victim, &who).await?;
            return Ok(Some(self.join().await?));
        }
        if fault == Fault::Stop {
            let worker = &mut self.workers[worker];
            let whom = || Some(name(worker.number()).into());
            self.scene.lab.record(&What::Fault { fault: Harm::Stop, whom: whom() })?;
            let cont = What::Fault { fault: Harm::Cont, whom: whom() };
            worker.child().stop()?;
            sleep(lasts).await;
            self.scene.lab.record(&cont)?;
            worker.child().cont()?;
            return Ok(None);
        }
        self.scene.lab.record(&What::Fault { fault: Harm::Cut, whom: None })?;
        match fault {
            Fault::Delay => {
                self.proxy.delay(Direction::Both, lasts / 20);
                sleep(lasts).await;
            }
            Fault::LostReply => {
                if !timeout(ASKED, self.proxy.cut_reply().happened()).await.is_ok_and(|cut| cut.is_ok()) {
                    faults.missed(step);
                }
            }
            _ => {
                self.proxy.refuse();
                self.proxy.cut();
                sleep(lasts).await;
            }
        }
        self.proxy.pass();
        self.scene.lab.record(&What::Fault { fault: Harm::Mended, whom: None })?;
        Ok(None)
    }

    /// Whoever has ended by itself is replaced, as its supervisor would: with no broker to be had it may not even begin. It
    /// is asked where it stands by `order`.
    async fn ended(&mut self, order: &impl Serialize) -> Result<Option<&mut Worker>> {
        for nth in 0..self.workers.len() {
            if let Err(error) = self.workers[nth].ask::<serde_json::Value>(order).await {
                let mut ended = self.workers.swap_remove(nth);
                self.last_words = format!("{error:#}");
                let who = name(ended.number());
                self.scene.kill(&mut ended, &who).await?;
                return Ok(Some(self.join().await?));
            }
        }
        Ok(None)
    }

    /// Ends to produce, and says what has arrived.
    fn produced(&mut self) -> Result<Delivered> {
        let produced = self.producer.take().context("nothing was produced")?.end()?;
        ensure!(produced.records > 0, "nothing has arrived");
        Ok(produced)
    }

    /// Whether all is committed, or will not be any more by all that can be said.
    async fn settled(&self, produced: &Delivered, until: Instant) -> Option<bool> {
        let reached = self.observer.reached(&produced.ends);
        sleep(Duration::from_millis(50)).await;
        (reached || Instant::now() > until).then_some(reached)
    }
}

/// The name of the member of this number, in histories.
pub fn name(number: u32) -> String {
    format!("member-{number}")
}
