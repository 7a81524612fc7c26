//! `./justw peers [--json] [--only ID] [--rounds N]`: the same work done by other libraries and by ours, by turns in one
//! run. What a machine lacks is named and left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use turnstile_benches::options::Options;
use turnstile_benches::peers::figures::Round;
use turnstile_benches::peers::run::Program;
use turnstile_benches::peers::scenarios::{
    CONSUMERS, EMPTY_HANDLER, In, MEDIAN, PATIENCE, QUORUMS, SCENARIOS, SLOW_HANDLER, Scenario, WORK,
};
use turnstile_benches::peers::serve::Order;
use turnstile_benches::peers::{ours, records};
use turnstile_benches::runtime;
use turnstile_testkit::kafka::Kafka;
use turnstile_testkit::redis::Redis;
use turnstile_testkit::unique;

/// Rounds that do not count, so that connections are open and a JVM has compiled what it runs often.
const WARM_UP: usize = 3;
/// The most processes that a scenario has.
const PROCESSES: usize = 4;
const NODES: usize = 5;
const PARTITIONS: i32 = 8;
const RECORDS: u64 = 1_000_000;
/// Records that are produced at once.
const CHUNK: u64 = 100_000;
/// Handlers at once, of those peers that let it be chosen.
const CONCURRENCY: u32 = 64;

/// Others' locks and semaphores and ours, by turns in one run: a table, or JSON.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// What this program says to itself: `redis` or `kafka`, and where it is.
    #[arg(long, hide = true, num_args = 2)]
    serve: Vec<String>,
}

fn main() -> Result<()> {
    let Args { options, serve } = Args::parse();
    let runtime = runtime()?;
    match serve.as_slice() {
        [server, urls] if server == "redis" => return runtime.block_on(ours::serve_ours(urls)),
        [_, brokers] => return runtime.block_on(records::serve_ours(brokers)),
        _ => {}
    }
    let ids = SCENARIOS.iter().map(|scenario| scenario.id).chain([EMPTY_HANDLER, SLOW_HANDLER]);
    options.check(&ids.collect::<Vec<_>>())?;
    let report = Report { json: options.json, rounds: options.rounds(5), quick: options.quick() };
    let built = built(options.bench);
    runtime.block_on(async {
        let one = |scenario: &&Scenario| options.wants(scenario.id) && scenario.peers != QUORUMS;
        let five = |scenario: &&Scenario| options.wants(scenario.id) && scenario.peers == QUORUMS;
        on_redis(1, SCENARIOS.iter().filter(one).collect(), &built, &report).await?;
        on_redis(NODES, SCENARIOS.iter().filter(five).collect(), &built, &report).await?;
        if options.wants_any(&[EMPTY_HANDLER, SLOW_HANDLER]) {
            on_kafka(&options, &built, &report).await?;
        }
        Ok(())
    })
}

/// The programs that are there; what is not is named on standard error, by `benches/peers/build.sh` also why.
fn built(all: bool) -> BTreeMap<In, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.turnstile/peers");
    let mut built = BTreeMap::from([(In::Turnstile, std::env::current_exe().unwrap_or_default())]);
    for (language, file) in [(In::Rust, "rust"), (In::Go, "go"), (In::Java, "java/Peer.class")] {
        let path = folder.join(file);
        if all && path.exists() {
            built.insert(language, path);
        } else {
            eprintln!("peers: those in {language:?} are left out: they are not built (`./justw peers` does)");
        }
    }
    built
}

fn command(language: In, path: &Path, server: &str, at: &str) -> Command {
    let mut command = Command::new(path);
    match language {
        In::Turnstile => {
            command.arg("--serve");
        }
        In::Rust | In::Go => {}
        In::Java => {
            let folder = path.parent().unwrap_or(path).display();
            command = Command::new("java");
            command.arg("-cp").arg(format!("{folder}:{folder}/jars/*")).arg("Peer");
        }
    }
    command.args([server, at]);
    command
}

async fn on_redis(
    nodes: usize,
    scenarios: Vec<&Scenario>,
    built: &BTreeMap<In, PathBuf>,
    report: &Report,
) -> Result<()> {
    if scenarios.is_empty() {
        return Ok(());
    }
    let mut servers = Vec::new();
    for _ in 0..nodes {
        servers.push(Redis::start().await?);
    }
    let urls = servers.iter().map(|server| server.url()).collect::<Vec<_>>().join(",");
    let processes = scenarios.iter().map(|scenario| scenario.crowd.0).max().unwrap_or(PROCESSES);
    let mut programs = BTreeMap::new();
    for (language, path) in built {
        if scenarios.iter().any(|scenario| scenario.peers.iter().any(|(_, of)| of == language)) {
            let program = Program::start(processes, || command(*language, path, "redis", &urls)).await?;
            programs.insert(*language, program);
        }
    }
    for scenario in scenarios {
        report.head(scenario.what, scenario.id, scenario.columns.iter().map(|(name, ..)| *name).collect());
        let (mut rounds, mut errors) = (BTreeMap::<&str, Vec<Round>>::new(), BTreeMap::<&str, u64>::new());
        for round in 0..WARM_UP + report.rounds {
            let hangs = servers.get(round % nodes).filter(|_| scenario.hung && round >= WARM_UP);
            if let Some(server) = hangs {
                server.stop().await?;
            }
            for turn in 0..scenario.peers.len() {
                let (kind, language) = scenario.peers[(round + turn) % scenario.peers.len()];
                let Some(program) = programs.get_mut(&language) else { continue };
                let (done, failed) =
                    program.round(scenario.crowd.0, &order(scenario, kind), report.length(scenario)).await?;
                if round >= WARM_UP {
                    rounds.entry(kind).or_default().push(done);
                    *errors.entry(kind).or_default() += failed;
                }
            }
            if let Some(server) = hangs {
                server.cont().await?;
                settle(scenario, &mut programs).await?;
            }
        }
        for (kind, language) in scenario.peers {
            let (Some(rounds), Some(program)) = (rounds.get(kind), programs.get(language)) else { continue };
            let figures = scenario
                .columns
                .iter()
                .map(|(name, of, over)| (*name, over(&mut rounds.iter().map(of).collect::<Vec<_>>())));
            let too_many: usize = rounds.iter().map(|round| round.too_many(scenario.permits)).sum();
            // With a name for each task there is nothing to see.
            let too_many = (scenario.crowd.2 == 1).then_some(too_many as u64);
            let version = program.versions.get(*kind).map_or("", String::as_str);
            report.row(scenario.id, kind, version, figures.collect(), (errors[kind], too_many))?;
        }
        for program in programs.values_mut() {
            if let Some(error) = program.error.take() {
                eprintln!("  the first error: {error}");
            }
        }
    }
    Ok(())
}

fn order(scenario: &Scenario, kind: &str) -> Order {
    let (_, tasks, names) = scenario.crowd;
    Order {
        kind: kind.to_owned(),
        name: unique("peers").replace(':', "-"),
        tasks,
        names,
        permits: scenario.permits,
        times: scenario.times,
        span: (0, 0, if scenario.hung { 6 * PATIENCE } else { PATIENCE }),
    }
}

/// A short round of all that does not count: what a server has missed is done, and all are connected to it again.
async fn settle(scenario: &Scenario, programs: &mut BTreeMap<In, Program>) -> Result<()> {
    for (kind, language) in scenario.peers {
        if let Some(program) = programs.get_mut(language) {
            program.round(scenario.crowd.0, &order(scenario, kind), Duration::from_millis(500)).await?;
        }
    }
    Ok(())
}

async fn on_kafka(options: &Options, built: &BTreeMap<In, PathBuf>, report: &Report) -> Result<()> {
    let server = Kafka::builder().for_measuring().start().await?;
    let topic = unique("peers");
    server.topic(&topic, PARTITIONS).await?;
    let all = if report.quick { CHUNK } else { RECORDS };
    for chunk in (0..all).step_by(CHUNK as usize) {
        let records = (chunk..chunk + CHUNK).map(|n| ((n as u32 % records::KEYS).to_be_bytes(), [b'v'; 100]));
        server.produce(&topic, None, records).await?;
    }
    let mut programs = BTreeMap::new();
    for (language, path) in built.iter().filter(|(language, _)| CONSUMERS.iter().any(|(_, of)| of == *language)) {
        let program = Program::start(1, || command(*language, path, "kafka", &server.brokers())).await?;
        programs.insert(*language, program);
    }
    let limit = if report.quick { WORK } else { Duration::from_secs(4) };
    for (id, work) in
        [(EMPTY_HANDLER, Duration::ZERO), (SLOW_HANDLER, WORK)].into_iter().filter(|(id, _)| options.wants(id))
    {
        report.head("one consumer reads a topic of 8 partitions and 1,000 keys", id, vec!["records/s", "out of order"]);
        let mut done = BTreeMap::<&str, Vec<records::Reply>>::new();
        for round in 0..WARM_UP + report.rounds {
            for turn in 0..CONSUMERS.len() {
                let (kind, language) = CONSUMERS[(round + turn) % CONSUMERS.len()];
                let Some(program) = programs.get_mut(&language) else { continue };
                let (kind_of, topic) = (kind.to_owned(), topic.clone());
                let order =
                    records::Order { kind: kind_of, topic, records: all, work, concurrency: CONCURRENCY, limit };
                let reply = program.ask(&order.line(), limit).await.with_context(|| format!("{kind} in {id}"))?;
                if round >= WARM_UP {
                    done.entry(kind).or_default().push(reply);
                }
            }
        }
        for (kind, language) in CONSUMERS {
            let (Some(replies), Some(program)) = (done.get(kind), programs.get(&language)) else { continue };
            let rate = MEDIAN(&mut replies.iter().map(records::Reply::rate).collect::<Vec<_>>());
            let disorder = replies.iter().map(|reply| reply.disorder).sum::<u64>();
            let version = program.versions.get(kind).map_or("", String::as_str);
            report.row(id, kind, version, vec![("records/s", rate), ("out of order", disorder as f64)], (0, None))?;
        }
    }
    Ok(())
}

/// How much is done, and how it is said.
struct Report {
    json: bool,
    rounds: usize,
    quick: bool,
}

impl Report {
    fn length(&self, scenario: &Scenario) -> Duration {
        if self.quick { Duration::from_millis(100) } else { scenario.length }
    }

    fn head(&self, what: &str, id: &str, columns: Vec<&str>) {
        if !self.json {
            print!("\n{id}: {what}\n{:<28}", "");
            println!(
                "{}{:>9}{:>13}",
                columns.iter().map(|name| format!("{name:>17}")).collect::<String>(),
                "errors",
                "too many"
            );
        }
    }

    fn row(
        &self,
        id: &str,
        kind: &str,
        version: &str,
        figures: Vec<(&str, f64)>,
        (errors, too_many): (u64, Option<u64>),
    ) -> Result<()> {
        if self.json {
            let figures: BTreeMap<_, _> = figures.into_iter().collect();
            let line = serde_json::json!({
                "scenario": id, "peer": kind, "version": version, "figures": figures, "errors": errors, "too_many": too_many,
            });
            println!("{line}");
            return Ok(());
        }
        let figures: String = figures.iter().map(|(_, value)| format!("{:>17}", short(*value))).collect();
        let too_many = too_many.map_or_else(|| "–".to_owned(), |number| number.to_string());
        println!("{:<28}{figures}{errors:>9}{too_many:>13}", format!("{kind} {version}"));
        Ok(())
    }
}

fn short(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".to_owned(), // Not one turn was over.
        value if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
