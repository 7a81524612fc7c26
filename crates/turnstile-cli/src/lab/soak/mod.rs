//! `turnstile lab --soak`: a week of faults in an hour. Round after round, all strategies are at work at once, while processes
//! are killed and stopped, networks cut and servers restarted, by a plan that a seed draws. Each round has histories of its
//! own, which are judged at its end.

mod plan;
mod redis;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Barrier, watch};
use tokio::time::{Instant, sleep_until};
use turnstile_testkit::history::{self, Recorder, What};
use turnstile_testkit::kafka::{Kafka, Server};

pub use self::plan::{Fault, Ills, Step};
pub use self::redis::{ILLS as REDIS, Patient};
use super::args::LabArgs;
use super::findings::Check;
use super::progress::Progress;
use super::report;
use super::strategies::{self, Strategy};
use super::trial::NoServer;
use super::words::count;
use super::{BROKEN, Lab};

/// How long a round's faults go on.
const ROUND: Duration = Duration::from_secs(50);
/// What comes over a Kafka's broker.
const BROKER: Ills = Ills {
    kinds: &[Fault::ServerStop, Fault::ServerRestart],
    lasts: Duration::from_millis(200)..Duration::from_secs(3),
    rest: Duration::from_secs(4)..Duration::from_secs(15),
};

/// A round under way.
pub struct Round<'a> {
    pub lab: &'a Lab,
    /// The one that all strategies of Kafka share.
    pub kafka: Option<Kafka>,
    seed: u64,
    time: Duration,
    ready: Barrier,
    begun: AtomicBool,
    /// Whether the broker's faults are over.
    calm: watch::Sender<bool>,
    /// Who has to know when the broker is away.
    told: Mutex<Vec<Recorder>>,
    /// Where histories are kept that show something.
    folder: PathBuf,
}

/// What became of a strategy in a round, or in all.
#[derive(Debug, Serialize)]
pub struct Soaked {
    pub name: &'static str,
    pub operations: u64,
    pub faults: BTreeMap<Fault, u64>,
    /// Claims that did not hold.
    pub violations: Vec<Check>,
    /// What happened, if one did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<PathBuf>,
}

/// All rounds.
#[derive(Debug, Serialize)]
pub struct Soak {
    /// Of the first round; each next one has the next.
    pub seed: u64,
    pub rounds: u64,
    pub seconds: u64,
    /// Of the broker that all strategies of Kafka share.
    pub broker: BTreeMap<Fault, u64>,
    pub strategies: Vec<Soaked>,
    /// What repeats the round that showed something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
}

/// The faults of one strategy in a round.
pub struct Faults {
    steps: std::vec::IntoIter<Step>,
    begun: Instant,
    met: BTreeMap<Fault, u64>,
}

impl Faults {
    /// The next one, when it is due.
    pub async fn next(&mut self) -> Option<Step> {
        let step = self.steps.next()?;
        sleep_until(self.begun + step.at).await;
        *self.met.entry(step.fault).or_default() += 1;
        Some(step)
    }

    /// The last one was not met.
    pub fn missed(&mut self, step: &Step) {
        self.met.entry(step.fault).and_modify(|times| *times -= 1);
    }
}

impl Round<'_> {
    /// Waits until all are ready, and begins.
    pub async fn begin(&self, name: &str, ills: &Ills) -> Faults {
        self.ready.wait().await;
        self.begun.store(true, Ordering::Relaxed);
        let (steps, begun) = (plan::draw(self.seed, name, ills, self.time).into_iter(), Instant::now());
        Faults { steps, begun, met: BTreeMap::new() }
    }

    /// Waits until no more comes over the broker.
    pub async fn calm(&self) {
        // It fails only when there is no round any more.
        let _ = self.calm.subscribe().wait_for(|calm| *calm).await;
    }

    /// Lets `recorder` write down when the broker is away.
    pub fn tell(&self, recorder: Recorder) {
        self.told.lock().push(recorder);
    }

    /// Sums up, and keeps the history if it shows something.
    pub fn judged<L: std::fmt::Display>(
        &self,
        name: &'static str,
        (operations, faults): (u64, Faults),
        checks: impl IntoIterator<Item = Check>,
        history: impl IntoIterator<Item = L>,
    ) -> Result<Soaked> {
        let violations: Vec<_> = checks.into_iter().filter(|check| !check.held).collect();
        let mut soaked = Soaked { name, operations, faults: faults.met, violations, history: None };
        if !soaked.violations.is_empty() {
            let path = self.folder.join(format!("soak-{}-{name}.history", self.seed));
            std::fs::create_dir_all(&self.folder)?;
            let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
            for line in history {
                writeln!(file, "{line}")?;
            }
            file.flush()?;
            soaked.history = Some(path);
        }
        Ok(soaked)
    }

    /// A strategy's part. What goes wrong once all are at work is something that was found.
    async fn of(&self, strategy: &dyn Strategy) -> Result<Soaked> {
        let soaked = strategy.soak(self).await;
        match soaked.with_context(|| format!("the soak of {} went wrong", strategy.name())) {
            Err(error) if self.begun.load(Ordering::Relaxed) && !error.is::<NoServer>() => {
                let check = Check::new("all go on, whatever happens to others", false, format!("{error:#}"));
                let (name, faults) = (strategy.name(), BTreeMap::new());
                Ok(Soaked { name, operations: 0, faults, violations: vec![check], history: None })
            }
            soaked => soaked,
        }
    }

    /// The broker's part.
    async fn broker(&self, server: Option<&mut Server>) -> Result<BTreeMap<Fault, u64>> {
        let Some(server) = server else { return Ok(BTreeMap::new()) };
        let mut faults = self.begin("kafka", &BROKER).await;
        while let Some(step) = faults.next().await {
            self.write(history::Fault::Cut)?;
            if step.fault == Fault::ServerStop {
                server.stop().await?;
                tokio::time::sleep(step.lasts).await;
                server.cont().await?;
            } else {
                server.restart().await?;
            }
            self.write(history::Fault::Mended)?;
        }
        self.calm.send_replace(true);
        Ok(faults.met)
    }

    fn write(&self, fault: history::Fault) -> Result<()> {
        self.told.lock().iter().try_for_each(|one| one.record(&What::Fault { fault, whom: None }))
    }
}

/// Goes on for `time`, or until a claim does not hold.
pub async fn run(args: &LabArgs, time: Duration) -> Result<ExitCode> {
    let lab = Lab { time, broken: args.broken.clone(), progress: Progress::silent() };
    let chosen = |name| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let strategies: Vec<_> = strategies::all().into_iter().filter(|one| chosen(one.name())).collect();
    let mut server = None;
    if strategies.iter().any(|one| one.name().starts_with("kafka")) {
        server = Some(Kafka::start().await.context(NoServer("Kafka"))?);
    }
    let folder = args.report.clone().unwrap_or_else(std::env::temp_dir);
    let begun = Instant::now();
    let mut soak = Soak::new(args.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)), &strategies);
    while soak.again.is_none() && (soak.rounds == 0 || begun.elapsed() < time) {
        let round = Round {
            lab: &lab,
            kafka: server.as_ref().map(|server| (**server).clone()),
            seed: soak.seed + soak.rounds,
            time: time.min(ROUND),
            ready: Barrier::new(strategies.len() + usize::from(server.is_some())),
            begun: AtomicBool::default(),
            calm: watch::Sender::new(false),
            told: Mutex::default(),
            folder: folder.clone(),
        };
        let all = try_join_all(strategies.iter().map(|strategy| round.of(&**strategy)));
        let (all, broker) = tokio::try_join!(all, round.broker(server.as_mut()))?;
        let told = told(round.seed, &all, &broker);
        if all.iter().any(|one| !one.violations.is_empty()) {
            soak.again = Some(again(args, round.time, round.seed));
        }
        soak.add(all, broker);
        soak.seconds = begun.elapsed().as_secs();
        // If nobody reads, there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "round {}, {told}", soak.rounds);
    }
    if let Some(dir) = &args.report {
        report::write_soak(dir, &soak).with_context(|| format!("cannot write the report to {}", dir.display()))?;
    }
    let text = if args.json { serde_json::to_string(&soak)? } else { soak.text() };
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(if soak.again.is_none() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

/// A round, on one line.
fn told(seed: u64, all: &[Soaked], broker: &BTreeMap<Fault, u64>) -> String {
    let operations = all.iter().map(|one| one.operations).sum();
    let mut faults = broker.clone();
    all.iter().for_each(|one| add(&mut faults, &one.faults));
    let broken = all.iter().filter(|one| !one.violations.is_empty()).count();
    let histories =
        if broken == 0 { "all histories hold".to_owned() } else { format!("{broken} histories do NOT hold") };
    format!("seed {seed}: {} operations, {}; {histories}", count(operations), kinds(&faults))
}

/// How many faults, and of which kinds.
pub fn kinds(faults: &BTreeMap<Fault, u64>) -> String {
    let mut text = format!("{} faults", count(faults.values().sum()));
    for (kind, times) in faults.iter().filter(|(_, times)| **times > 0) {
        let kind = serde_json::to_value(kind).unwrap_or_default();
        let _ = write!(text, ", {} {times}", kind.as_str().unwrap_or_default());
    }
    text
}

fn add(sum: &mut BTreeMap<Fault, u64>, faults: &BTreeMap<Fault, u64>) {
    faults.iter().for_each(|(kind, times)| *sum.entry(*kind).or_default() += times);
}

/// The command that repeats a round.
fn again(args: &LabArgs, time: Duration, seed: u64) -> String {
    let mut text = format!("turnstile lab --soak {} --seed {seed}", humantime::format_duration(time));
    if !args.only.is_empty() {
        let _ = write!(text, " --only {}", args.only.join(","));
    }
    for guard in &args.broken {
        let _ = write!(text, " --break {}", guard.name());
    }
    text
}

impl Soak {
    fn new(seed: u64, strategies: &[Box<dyn Strategy>]) -> Self {
        let none =
            |name| Soaked { name, operations: 0, faults: BTreeMap::new(), violations: Vec::new(), history: None };
        let strategies = strategies.iter().map(|strategy| none(strategy.name())).collect();
        Self { seed, rounds: 0, seconds: 0, broker: BTreeMap::new(), strategies, again: None }
    }

    fn add(&mut self, all: Vec<Soaked>, broker: BTreeMap<Fault, u64>) {
        self.rounds += 1;
        add(&mut self.broker, &broker);
        for (sum, one) in self.strategies.iter_mut().zip(all) {
            sum.operations += one.operations;
            add(&mut sum.faults, &one.faults);
            sum.violations.extend(one.violations);
            sum.history = sum.history.take().or(one.history);
        }
    }

    /// For people.
    fn text(&self) -> String {
        let mut text =
            format!("{} rounds in {} s, seeds from {}\n", count(self.rounds), count(self.seconds), self.seed);
        for one in &self.strategies {
            let _ = writeln!(text, "{:17}  {:>11} operations, {}", one.name, count(one.operations), kinds(&one.faults));
        }
        if !self.broker.is_empty() {
            let _ = writeln!(text, "{:17}  {}", "Kafka's broker", kinds(&self.broker));
        }
        for one in &self.strategies {
            for check in &one.violations {
                let _ = writeln!(text, "{}: BROKEN: {}: {}", one.name, check.claim, check.observed);
            }
            if let Some(history) = &one.history {
                let _ = writeln!(text, "  what happened: {}", history.display());
            }
        }
        match &self.again {
            Some(again) => _ = write!(text, "again: {again}"),
            None => text.push_str("no violation"),
        }
        text
    }
}
