//! What clients may do on a restricted Kafka. librdkafka's Rust binding has no calls for that, so these few requests
//! are written here, as <https://kafka.apache.org/protocol> has them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Kafka;
use super::clients::WITHIN;
use super::settings::ADMIN;

/// What something may be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic of this name.
    Topic(&'a str),
    /// A consumer group of this name.
    Group(&'a str),
    /// A transactional id.
    TransactionalId(&'a str),
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// All of these, and all else.
    All,
    /// Fetch from a topic; join a group, commit. Contains `Describe`.
    Read,
    /// Produce to a topic. Contains `Describe`.
    Write,
    /// See that it is there.
    Describe,
}

const ALLOWED: u8 = 3;
const DENIED: u8 = 2;

impl Kafka {
    /// Lets clients do this on a restricted Kafka, from now on.
    ///
    /// # Errors
    /// When this Kafka is not one that [`Builder::restricted`](super::Builder::restricted) made.
    pub async fn allow(&self, resource: Resource<'_>, operation: Operation) -> Result<()> {
        self.rule(resource, operation, ALLOWED).await
    }

    /// Forbids it for good, whatever is allowed: the way to take a right away in the middle of a test.
    ///
    /// # Errors
    /// When this Kafka is not one that [`Builder::restricted`](super::Builder::restricted) made.
    pub async fn deny(&self, resource: Resource<'_>, operation: Operation) -> Result<()> {
        self.rule(resource, operation, DENIED).await
    }

    async fn rule(&self, resource: Resource<'_>, operation: Operation, permission: u8) -> Result<()> {
        let Some((password, brokers)) = self.admin.clone() else {
            bail!("on this Kafka clients may do all; Kafka::builder().restricted() makes one where they may not");
        };
        let (kind, name) = match resource {
            Resource::Topic(name) => (2, name),
            Resource::Group(name) => (3, name),
            Resource::TransactionalId(name) => (5, name),
        };
        let operation = match operation {
            Operation::All => 2,
            Operation::Read => 3,
            Operation::Write => 4,
            Operation::Describe => 8,
        };
        // As Kafka has it, resource and rule; all names are taken as they are.
        let (anyone, anywhere) = (text("User:ANONYMOUS"), text("*"));
        let rule = [&[kind], &*text(name), &[3], &*anyone, &*anywhere, &[operation, permission]].concat();
        self.clients
            .run(move |_| {
                let until = Instant::now() + WITHIN;
                for (index, broker) in brokers.iter().enumerate() {
                    let mut stream = log_in(broker, &password)?;
                    if index == 0 {
                        let answer = ask(&mut stream, CREATE_ACLS, &[&1_i32.to_be_bytes(), rule.as_slice()].concat())?;
                        // After the throttle time and the count of answers, its error.
                        ensure!(answer.get(8..10) == Some(&[0, 0]), "Kafka refused the rule: {answer:?}");
                    }
                    // Each broker learns of it in its own time. After throttle time, error and its text: how many.
                    while ask(&mut stream, DESCRIBE_ACLS, &rule)?.get(8..12) == Some(&[0, 0, 0, 0]) {
                        ensure!(Instant::now() < until, "a broker did not learn of the rule within {WITHIN:?}");
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                Ok(())
            })
            .await
    }
}

/// Requests, by Kafka's numbers for them and their versions.
const SASL_HANDSHAKE: [i16; 2] = [17, 1];
const DESCRIBE_ACLS: [i16; 2] = [29, 1];
const CREATE_ACLS: [i16; 2] = [30, 1];
const SASL_AUTHENTICATE: [i16; 2] = [36, 0];

fn log_in(broker: &(String, u16), password: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(broker)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_nodelay(true)?;
    let answer = ask(&mut stream, SASL_HANDSHAKE, &text("PLAIN"))?;
    ensure!(answer.starts_with(&[0, 0]), "the broker takes no password");
    let login = format!("\0{ADMIN}\0{password}");
    let answer =
        ask(&mut stream, SASL_AUTHENTICATE, &[&(login.len() as i32).to_be_bytes(), login.as_bytes()].concat())?;
    ensure!(answer.starts_with(&[0, 0]), "the broker refused the testkit's password");
    Ok(stream)
}

/// Sends a request and gives the answer's body.
fn ask(stream: &mut TcpStream, [request, version]: [i16; 2], body: &[u8]) -> Result<Vec<u8>> {
    let head = [&request.to_be_bytes()[..], &version.to_be_bytes(), &0_i32.to_be_bytes(), &text("turnstile-testkit")];
    let all = [head.concat().as_slice(), body].concat();
    stream.write_all(&[&(all.len() as i32).to_be_bytes(), all.as_slice()].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("the broker closed the connection")?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    ensure!(answer.len() >= 4, "the broker's answer is too short");
    Ok(answer.split_off(4))
}

/// A name as Kafka writes it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat()
}
