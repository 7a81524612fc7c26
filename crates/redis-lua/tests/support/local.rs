//! Servers that need files or company: a Sentinel, the nodes of a cluster, one with a certificate. As processes of
//! redis-server on the PATH, or of the program in `TURNSTILE_REDIS_SERVER`, on loopback; they end when dropped.

#![allow(dead_code, reason = "no test uses all of it")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

/// A redis-server of one test.
pub struct Local {
    pub port: u16,
    child: Child,
    _dir: TempDir,
}

impl Local {
    /// Starts one with these options beside its port; `prepare` may put files into its directory.
    pub fn start(port_option: &str, options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let port = free_port();
        let program = std::env::var("TURNSTILE_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(program)
            .args(options.first().filter(|option| !option.starts_with('-')))
            .args([port_option, &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no", "--dir"])
            .arg(dir.path())
            .args(options.iter().filter(|option| option.starts_with('-')).flat_map(|option| option.split(' ')))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server on the PATH");
        Self { port, child, _dir: dir }
    }

    /// One that saves nothing.
    pub fn plain(options: &[&str]) -> Self {
        Self::start("--port", &[&["--appendonly no"], options].concat(), |_| {})
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops it: its connections stay open, and nobody answers on them.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn cont(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
        assert!(told.unwrap().success());
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Below the range that systems give to outgoing connections, and low enough for a cluster's bus (port + 10,000).
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}
