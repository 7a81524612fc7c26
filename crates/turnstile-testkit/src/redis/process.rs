//! A `redis-server` of the PATH as a local process on loopback.

use std::process::{Command, Stdio};

use anyhow::{Result, anyhow};

use super::ping;
use crate::{ports, process, runtime};

/// The program to run; `TURNSTILE_REDIS_SERVER` names another one, such as a newer Redis or a Valkey.
fn program() -> String {
    std::env::var("TURNSTILE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// One server process and its folder. Both end with it, and with us.
pub(crate) struct Process {
    args: Vec<String>,
    pub(crate) port: u16,
    pub(crate) process: process::Process,
}

impl Process {
    /// Starts a server with the given options on a free port, and waits until it answers.
    pub(crate) async fn start(args: Vec<String>) -> Result<Self> {
        for _ in 0..10 {
            let port = ports::free(ports::SERVERS)?;
            let mut server = Self { args: args.clone(), port, process: process::Process::new("Redis")? };
            match server.run().await {
                // Somebody else took the port in the meantime.
                Err(error) if error.to_string().contains("Address already in use") => continue,
                done => return done.map(|()| server),
            }
        }
        Err(anyhow!("each of ten ports was taken by others while redis-server started"))
    }

    /// Starts the process again if it does not run, on the same port with the same options and folder.
    pub(crate) async fn run(&mut self) -> Result<()> {
        if self.process.runs() {
            return Ok(());
        }
        let port = self.port;
        let mut command = Command::new(program());
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--logfile", "log", "--dir"])
            .arg(self.process.dir())
            .args(&self.args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let alive = self.process.spawn(&mut command)?;
        let ready = runtime::run(async move { ping::ready("127.0.0.1", port, alive).await }).await;
        if ready.is_err() {
            self.process.kill();
        }
        ready
    }
}
