//! Brokers out of Maven's jars as local processes on loopback.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::find::{Places, clients};
use super::server::{Broker, Builder, Host};
use super::settings::{self, Common, Listener, PATHS};
use super::{Kafka, proxies, ready};
use crate::{ports, process};

const HOST: &str = "127.0.0.1";

/// The oldest Java that runs Kafka 4.
const JAVA: u32 = 17;

/// Starts so many brokers, and waits until all of them answer.
pub(crate) async fn start(options: &Builder, brokers: usize) -> Result<(Kafka, Vec<Broker>)> {
    for _ in 0..10 {
        match once(options, brokers).await {
            // Somebody else took a port in the meantime.
            Err(error) if format!("{error:#}").contains("Address already in use") => continue,
            done => return done,
        }
    }
    Err(anyhow!("each of ten times a port was taken by others while Kafka started"))
}

async fn once(options: &Builder, brokers: usize) -> Result<(Kafka, Vec<Broker>)> {
    ensure!(brokers > 0, "a Kafka has a broker at least");
    let (jars, java) = (jars()?, java()?);
    let formatted = formatted(&jars, &java)?;
    let proxies = proxies::listen(brokers)?;
    let each = 4 + PATHS;
    let ports = ports::some(ports::SERVERS, brokers * each)?;
    let at = |broker: usize, which: usize| (HOST.to_owned(), ports[broker * each + which]);
    let all = |which| (0..brokers).map(|broker| at(broker, which)).collect::<Vec<_>>();
    let voters: Vec<_> = (1..).zip(all(0)).map(|(id, (host, port))| format!("{id}@{host}:{port}")).collect();
    let common = options.common(brokers, voters.join(","));

    let (mut ours, mut alive) = (Vec::new(), Vec::new());
    for broker in 0..brokers {
        let same =
            |name: &str, at: (String, u16)| Listener { name: name.to_owned(), binds: at.clone(), tells: Some(at) };
        let mut listeners = vec![
            Listener { tells: None, ..same("CONTROLLER", at(broker, 0)) },
            same("INTERNAL", at(broker, 1)),
            same("CLIENT", at(broker, 2)),
            same("ADMIN", at(broker, 3)),
        ];
        for (path, proxies) in proxies.iter().enumerate() {
            let tells = Some((HOST.to_owned(), proxies[broker].local_addr()?.port()));
            listeners.push(Listener { name: settings::path(path), binds: at(broker, 4 + path), tells });
        }
        let mut java = Command::new(&java);
        java.args(if options.measuring { MEASURING } else { TESTING }).arg("-cp").arg(jars.join("*"));
        let mut process = Process::new(java, &formatted, &common, broker + 1, &listeners)?;
        alive.push(process.spawn()?);
        let clients = clients(&common, &[at(broker, 3)]);
        ours.push(Broker { id: broker + 1, clients, host: Host::Process(Box::new(process)) });
    }

    let paths = proxies.into_iter().enumerate().map(|(path, proxies)| {
        proxies.into_iter().enumerate().map(|(broker, proxy)| (proxy, at(broker, 4 + path))).collect()
    });
    let places = Places { clients: all(2), admins: all(3), paths: paths.collect() };
    let kafka = Kafka::at(&common, places);
    let ids: Vec<_> = ours.iter().map(Broker::id).collect();
    let alive = move || alive.iter_mut().try_for_each(|alive| alive());
    kafka.clients.run(move |config| ready::wait(config, &ids, alive)).await?;
    Ok((kafka, ours))
}

/// One broker process and its folder. Both end with it, and with us.
pub(crate) struct Process {
    pub(crate) process: process::Process,
    command: Command,
}

impl Process {
    /// Makes a folder with the settings and a storage like `formatted` in it; nothing runs yet.
    fn new(mut java: Command, formatted: &Path, common: &Common, id: usize, listeners: &[Listener]) -> Result<Self> {
        let process = process::Process::new("Kafka")?;
        let (data, file) = (process.dir().join("data"), process.dir().join("server.properties"));
        copy(formatted, &data)?;
        let meta = format!("version=1\nnode.id={id}\ncluster.id={}\n", common.cluster);
        fs::write(data.join("meta.properties"), meta)?;
        let settings = settings::of(common, id, listeners, &data.to_string_lossy());
        let line = |(name, value): &(String, String)| format!("{name}={}\n", value.replace('\\', "\\\\"));
        fs::write(&file, settings.iter().map(line).collect::<String>())?;
        java.arg("kafka.Kafka").arg(file).current_dir(process.dir());
        Ok(Self { process, command: java })
    }

    /// Starts the process if it does not run. What comes back tells whether it lives.
    pub(crate) fn spawn(&mut self) -> Result<impl FnMut() -> Result<()> + Send + use<>> {
        let log = File::options().create(true).append(true).open(self.process.dir().join("log"))?;
        self.process.spawn(self.command.stdout(log.try_clone()?).stderr(log))
    }
}

/// Up soon, and small.
pub(crate) const TESTING: &[&str] = &["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"];
/// As fast as Kafka's own scripts make it.
pub(crate) const MEASURING: &[&str] = &["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"];

/// The folder of jars: the one in `TURNSTILE_KAFKA_LIBS`, else the one that setup fills.
fn jars() -> Result<PathBuf> {
    let folder = match std::env::var_os("TURNSTILE_KAFKA_LIBS") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.turnstile/kafka"),
    };
    let has_broker = |folder: &Path| {
        let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| name.to_string_lossy().starts_with("kafka_2."))
    };
    if !has_broker(&folder) {
        bail!("there are no jars of Kafka in {}; `./justw setup kafka` brings them", folder.display());
    }
    folder.canonicalize().with_context(|| format!("cannot use {}", folder.display()))
}

/// A folder with an empty storage as this Kafka formats it: with all its features on, such as the newer protocol of
/// groups, but for the broker's own names. It takes a second and a half, so it is kept beside the jars.
fn formatted(jars: &Path, java: &Path) -> Result<PathBuf> {
    let kept = jars.join("formatted");
    if kept.is_dir() {
        return Ok(kept);
    }
    let dir = tempfile::Builder::new().prefix("formatted-").tempdir_in(jars)?;
    let (data, file) = (dir.path().join("data"), dir.path().join("server.properties"));
    let settings = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@{HOST}:9093\n\
         listeners=PLAINTEXT://{HOST}:9092,CONTROLLER://{HOST}:9093\ncontroller.listener.names=CONTROLLER\n\
         log.dirs={}\n",
        data.display()
    );
    fs::write(&file, settings)?;
    let mut command = Command::new(java);
    command.args(TESTING).arg("-cp").arg(jars.join("*")).args(["kafka.tools.StorageTool", "format", "-t"]);
    let done = command.arg("AAAAAAAAAAAAAAAAAAAAAA").arg("-c").arg(&file).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "Kafka's StorageTool failed: {}", process::last_lines(&said));
    // Another process may have been quicker: its is as good.
    let moved = fs::rename(&data, &kept);
    if !kept.is_dir() {
        moved.with_context(|| format!("cannot keep a formatted storage in {}", jars.display()))?;
    }
    Ok(kept)
}

/// Copies a folder and all that is in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

/// A Java that runs Kafka: the one in `JAVA_HOME`, else the one on the PATH.
fn java() -> Result<PathBuf> {
    let java = match std::env::var_os("JAVA_HOME") {
        Some(home) if !home.is_empty() => Path::new(&home).join("bin/java"),
        _ => PathBuf::from("java"),
    };
    let said = Command::new(&java).arg("-version").output();
    let said = said.with_context(|| format!("cannot run `{}`; `./justw setup kafka` brings Java", java.display()))?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let version = said.split_once("version \"").and_then(|(_, rest)| rest.split(['.', '-', '"']).next()?.parse().ok());
    let version: u32 = version.with_context(|| format!("`{} -version` says {said:?}", java.display()))?;
    ensure!(
        version >= JAVA,
        "`{}` is Java {version}, and Kafka needs {JAVA} or later: `./justw setup kafka`",
        java.display()
    );
    Ok(java)
}
