//! The one place where the command meets its Kafka.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use crate::exit::{self, Failure};

/// How long brokers are tried.
const CONNECT: Duration = Duration::from_secs(5);

/// Which Kafka. Without `Debug`, as its options may have a password.
#[derive(Args)]
pub struct Brokers {
    /// The addresses.
    #[arg(long, env = "TURNSTILE_KAFKA_BROKERS", value_name = "HOST:PORT,…", help = HELP)]
    brokers: Option<String>,

    /// A file with options of librdkafka, one KEY=VALUE a line: security.protocol, sasl.username and so on. What it has
    /// is never printed
    #[arg(long, env = "TURNSTILE_KAFKA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

const HELP: &str = "The Kafka brokers, of which one that answers is enough: HOST:PORT,HOST:PORT";

/// A client that belongs to a group by name, and never joins it.
pub struct Client {
    pub consumer: BaseConsumer<Complaints>,
    pub addresses: String,
}

impl Brokers {
    /// Connects, within five seconds, and learns of all topics.
    pub fn connect(&self, group: &str) -> Result<(Client, Metadata), Failure> {
        let (mut config, addresses) = self.config()?;
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        // Words of librdkafka would go to stderr beside ours.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        let consumer = config.create_with_context(Complaints::default()).map_err(|error| match error {
            // What librdkafka says of it has the value, which may be a password.
            KafkaError::ClientConfig(_, _, key, _) => Failure::new(
                exit::CONFIG,
                format!("librdkafka knows no option {key}, or not with this value: see its list of properties"),
            ),
            error => Failure::new(exit::CONFIG, format!("no client can be made of these options: {error}")),
        })?;
        let client = Client { consumer, addresses };
        let metadata = client.metadata()?;
        Ok((client, metadata))
    }

    /// Whether it is said which Kafka.
    #[cfg(feature = "top")]
    pub fn is_given(&self) -> bool {
        self.brokers.is_some() || self.config.is_some()
    }

    /// The options for a client, and the addresses among them.
    pub fn config(&self) -> Result<(ClientConfig, String), Failure> {
        let mut config = self.options()?;
        if let Some(brokers) = &self.brokers {
            config.set("bootstrap.servers", brokers);
        }
        let addresses = config.get("bootstrap.servers").or_else(|| config.get("metadata.broker.list"));
        let Some(addresses) = addresses.map(str::to_owned).filter(|addresses| !addresses.trim().is_empty()) else {
            return Err(Failure::new(
                exit::USAGE,
                "which Kafka? Give its brokers by --brokers or TURNSTILE_KAFKA_BROKERS",
            ));
        };
        Ok((config, addresses))
    }

    fn options(&self) -> Result<ClientConfig, Failure> {
        let mut config = ClientConfig::new();
        let Some(file) = &self.config else { return Ok(config) };
        let bad = |why: &str| Failure::new(exit::CONFIG, format!("the options in {}: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| bad(&error.to_string()))?;
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line itself may be a password.
            let pair = line.split_once('=').ok_or_else(|| bad(&format!("line {} is no KEY=VALUE", number + 1)))?;
            config.set(pair.0.trim(), pair.1.trim());
        }
        Ok(config)
    }
}

impl Client {
    /// All topics, as the brokers know them within five seconds.
    pub fn metadata(&self) -> Result<Metadata, Failure> {
        let until = Instant::now() + CONNECT;
        loop {
            let error = match self.consumer.fetch_metadata(None, CONNECT / 10) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            let hopeless = self.complaint().is_some_and(|(code, _)| {
                use RDKafkaErrorCode::{AllBrokersDown, Authentication, SSL};
                matches!(code, AllBrokersDown | Authentication | SSL)
            });
            if hopeless || Instant::now() > until {
                return Err(self.failure("no Kafka broker answers", &error));
            }
        }
    }

    /// Asks, within ten seconds. The client tries again by itself what is forbidden, and only complains of it.
    pub fn ask<T>(
        &self,
        what: &str,
        question: impl Fn(&BaseConsumer<Complaints>, Duration) -> Result<T, KafkaError>,
    ) -> Result<T, Failure> {
        for limit in [1, 3, 6] {
            match question(&self.consumer, Duration::from_secs(limit)) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let timed_out = error.rdkafka_error_code() == Some(RDKafkaErrorCode::OperationTimedOut);
                    let forbidden = self.complaint().is_some_and(|(code, _)| is_forbidden(code));
                    if !timed_out || forbidden || limit == 6 {
                        return Err(self.failure(what, &error));
                    }
                }
            }
        }
        Err(Failure::new(exit::UNAVAILABLE, what))
    }

    /// What the client complained of last. Complaints come with a poll.
    fn complaint(&self) -> Option<(RDKafkaErrorCode, String)> {
        while let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            if let Some(code) = error.rdkafka_error_code() {
                self.consumer.context().note(code, error.to_string());
            }
        }
        self.consumer.context().last()
    }

    /// What an error means, and what to do about it.
    pub fn failure(&self, what: &str, error: &KafkaError) -> Failure {
        use RDKafkaErrorCode as E;
        let complaint = self.consumer.context().reason();
        let why = complaint.as_ref().map_or_else(|| error.to_string(), |(_, reason)| reason.clone());
        let code = complaint.map(|(code, _)| code).filter(|code| *code == E::Authentication || is_forbidden(*code));
        let Self { addresses, .. } = self;
        let (code, todo) = match code.or_else(|| error.rdkafka_error_code()) {
            Some(E::GroupAuthorizationFailed) => (exit::DENIED, "allow this client DESCRIBE and READ on the group"),
            Some(E::TopicAuthorizationFailed) => (exit::DENIED, "allow this client DESCRIBE on the topics"),
            Some(E::ClusterAuthorizationFailed) => (exit::DENIED, "allow this client DESCRIBE on the cluster"),
            Some(E::Authentication | E::SaslAuthenticationFailed) => {
                (exit::DENIED, "check user and password in the options")
            }
            Some(
                E::BrokerTransportFailure
                | E::OperationTimedOut
                | E::RequestTimedOut
                | E::AllBrokersDown
                | E::Resolve
                | E::SSL
                | E::CoordinatorLoadInProgress
                | E::CoordinatorNotAvailable
                | E::NotCoordinator
                | E::LeaderNotAvailable
                | E::WaitingForCoordinator
                | E::TimedOutQueue
                | E::Partial,
            ) => (exit::UNAVAILABLE, "check the addresses, the network and security.protocol"),
            _ => (exit::SOFTWARE, "it is not known what to do about it"),
        };
        Failure::new(code, format!("{what} at {addresses}: {}: {todo}", crate::lock::printable(&why)))
    }
}

fn is_forbidden(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{ClusterAuthorizationFailed, GroupAuthorizationFailed, TopicAuthorizationFailed};
    matches!(code, ClusterAuthorizationFailed | GroupAuthorizationFailed | TopicAuthorizationFailed)
}

/// What librdkafka says when something is wrong.
#[derive(Default)]
pub struct Complaints(Mutex<Vec<(RDKafkaErrorCode, String)>>);

impl Complaints {
    fn note(&self, code: RDKafkaErrorCode, reason: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((code, reason));
    }

    fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }

    /// The last that says more than that nothing can be reached.
    fn reason(&self) -> Option<(RDKafkaErrorCode, String)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().find(|(code, _)| *code != RDKafkaErrorCode::AllBrokersDown).or_else(|| all.last()).cloned()
    }
}

impl ClientContext for Complaints {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.note(code, reason.to_owned());
        }
    }
}

impl ConsumerContext for Complaints {}
