//! A headless browser, spoken to by its debugging protocol over a pair of pipes: messages in JSON, with a zero after each.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The longest that an answer is waited for, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
/// The browser reads its orders from 3 and writes its answers to 4.
const PIPES: &str = r#"exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1"#;
/// No sandbox, as root may have none: only pages of our own are opened. The rest keeps it from asking the world for anything.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-pipe",
];

/// A browser with one page. Dropping it ends it.
pub struct Browser {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    number: u64,
    session: Option<String>,
    /// What was told without having been asked for, and was not looked at yet.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn start(program: &Path) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        command.args(["-c", PIPES, "sh"]).arg(program).args(FLAGS);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("no pipe")?;
        let pipe = BufReader::new(child.stdout.take().context("no pipe")?);
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for message in pipe.split(0) {
                let message = message.ok().and_then(|message| serde_json::from_slice(&message).ok());
                let Some(Ok(())) = message.map(|message| tell.send(message)) else { break };
            }
        });
        let (number, session, events) = (0, None, Vec::new());
        let mut browser = Self { child, orders, answers, number, session, events, _profile: profile };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }))?["targetId"].clone();
        let attached = browser.ask("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session =
            attached.with_context(|| program.display().to_string())?["sessionId"].as_str().map(Into::into);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.orders.write_all(&bytes).context("the browser has gone")?;
        loop {
            let mut answer = self.next()?;
            if answer["id"] != self.number {
                self.events.push(answer);
            } else if answer["error"].is_null() {
                return Ok(answer["result"].take());
            } else {
                bail!("{method}: {}", answer["error"]);
            }
        }
    }

    fn next(&mut self) -> Result<Value> {
        self.answers.recv_timeout(PATIENCE).with_context(|| format!("the browser says nothing for {PATIENCE:?}"))
    }

    /// Opens a page, and waits until it is there. The answer is what the browser complained of, and what else it asked for.
    pub fn open(&mut self, url: &str) -> Result<Vec<String>> {
        self.events.clear();
        self.ask("Page.navigate", json!({ "url": url }))?;
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.next()?;
            self.events.push(event);
        }
        // What was under way when it was loaded has been told by the time that this is answered.
        self.evaluate("document.fonts.ready.then(() => 0)")?;
        let complaint = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Network.requestWillBeSent" => {
                    let asked = params["request"]["url"].as_str()?;
                    (asked != url && !asked.starts_with("data:")).then(|| format!("it asks for {asked}"))
                }
                "Runtime.exceptionThrown" => Some(format!("it throws {}", params["exceptionDetails"]["text"])),
                "Runtime.consoleAPICalled" => Some(format!("it says {}", params["args"])),
                "Log.entryAdded" => Some(format!("the browser says {}", params["entry"]["text"])),
                _ => None,
            }
        };
        Ok(self.events.iter().filter_map(complaint).collect())
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.ask("Runtime.evaluate", params)?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].take())
    }

    pub fn end(mut self) -> Result<()> {
        self.session = None;
        self.ask("Browser.close", json!({}))?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
