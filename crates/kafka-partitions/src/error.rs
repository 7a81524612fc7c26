//! What can go wrong, and what to do about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use thiserror::Error;

use crate::limits::Overload;

/// No partitioner has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "there is no partitioner {0:?}: use murmur2_random (Java's), murmur2, consistent_random (librdkafka's), consistent, \
     fnv1a_random or fnv1a"
)]
pub struct UnknownPartitioner(pub(crate) String);

/// What a topic or the brokers were asked came to nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TopicError {
    /// No broker answers.
    #[error("{what}: no broker answers: check the addresses, the network and security.protocol")]
    Unreachable {
        /// What was asked.
        what: String,
        /// What the client says.
        #[source]
        source: Box<KafkaError>,
    },
    /// There is no such topic, or this client may not see it.
    #[error("there is no topic {0:?}, or it is hidden from this client: check the name, and DESCRIBE on the topic")]
    UnknownTopic(String),
    /// The brokers refuse it.
    #[error("{what}: not permitted: allow this client {allow}")]
    Denied {
        /// What was asked.
        what: String,
        /// What to allow.
        allow: &'static str,
    },
    /// An option of the client is wrong.
    #[error("librdkafka knows no option {option}, or not with this value: see its list of properties")]
    Option {
        /// Its name; not its value, which may be a password.
        option: String,
    },
    /// The layouts were written by a newer version of this software.
    #[error("{log} was written by version {version} of its format, which is newer than this program: update it")]
    Newer {
        /// The topic of the layouts.
        log: String,
        /// The version.
        version: u32,
    },
    /// Anything else that the client says.
    #[error("{what}: {source}")]
    Client {
        /// What was asked.
        what: String,
        /// What the client says.
        source: Box<KafkaError>,
    },
}

impl TopicError {
    /// What an error of the client means.
    pub(crate) fn of(what: impl Into<String>, source: KafkaError) -> Self {
        let (what, source) = (what.into(), Box::new(source));
        if let KafkaError::ClientConfig(_, _, option, _) = &*source {
            return Self::Option { option: option.clone() };
        }
        let allow = match source.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed) => {
                "DESCRIBE and READ on the topic; ALTER to let it grow, WRITE to write"
            }
            Some(Code::ClusterAuthorizationFailed) => "CREATE on the cluster or on the topic, and IDEMPOTENT_WRITE",
            Some(Code::GroupAuthorizationFailed) => "READ on the group, and DESCRIBE on all groups",
            Some(Code::TransactionalIdAuthorizationFailed) => {
                "WRITE and DESCRIBE on the transactional ids that begin with `turnstile.`, the topic's name and a dot"
            }
            Some(code) if is_unreachable(code) => return Self::Unreachable { what, source },
            _ => return Self::Client { what, source },
        };
        Self::Denied { what, allow }
    }

    /// The same for a code alone.
    pub(crate) fn of_code(what: impl Into<String>, code: Code) -> Self {
        Self::of(what, KafkaError::MetadataFetch(code))
    }
}

/// Whether it will do later, perhaps.
pub(crate) const fn is_unreachable(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::Authentication
            | Code::SSL
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::NotEnoughReplicas
            | Code::MessageTimedOut
            | Code::WaitingForCoordinator
            | Code::TimedOutQueue
            | Code::NetworkException
    )
}

/// Whether a consumer that belongs to no group has nothing to mind in this: it will do later, or is about groups.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(|code| is_unreachable(code) || code == Code::GroupAuthorizationFailed)
}

/// A change of a topic's partitions is refused, or did not get to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The brokers or the topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The number makes no sense.
    #[error("{asked} partitions for {topic}, which has {has}: {why}")]
    Count {
        /// The topic.
        topic: String,
        /// The number that was asked for.
        asked: i32,
        /// What it has now.
        has: i32,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The brokers would bear more than they should.
    #[error("{0}: add brokers, delete topics that nobody needs, or force it")]
    Overload(Overload),
    /// Another change is under way.
    #[error(
        "another change of {topic} is under way, to {partitions} partitions of {into}: bring it to its end by asking for it \
         again, or withdraw it"
    )]
    UnderWay {
        /// The topic.
        topic: String,
        /// Where its records are to go by that.
        into: String,
        /// Into how many partitions.
        partitions: i32,
    },
    /// There is something where the new topic was to be.
    #[error("there is a topic {0} already: name another one to move to")]
    Exists(String),
    /// Somebody else changes the same topic, and has fenced this one.
    #[error(
        "somebody else has taken over the changes of {0}, or has withdrawn this one: see its layouts, and ask again"
    )]
    TakenOver(String),
}

/// A record was not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The brokers or the topic, when connecting.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The layouts cannot be made or mended.
    #[error(transparent)]
    Change(Box<ChangeError>),
    /// A writer's name is part of its transactional id.
    #[error("a writer cannot have the name {0:?}: use 1 to 249 letters, digits, dots, dashes and underscores")]
    Name(String),
    /// The key is one of this crate's barriers.
    #[error("keys that begin with a NUL and `turnstile.barrier/` mark where layouts end: use another key")]
    Reserved,
    /// The brokers refuse this record for good.
    #[error("the brokers refuse the record: {0}; see max.message.bytes of the topic and the rights on it")]
    Refused(String),
    /// It could not be written in time.
    #[error("not written in time ({why}){}", if *.doubtful { "; it may be there all the same" } else { "" })]
    Limit {
        /// Whether it may have been written all the same.
        doubtful: bool,
        /// The last error.
        why: String,
    },
    /// The writer is closed.
    #[error("the writer is closed: connect another one")]
    Closed,
    /// No thread could be started.
    #[error("no thread for the writer: {0}")]
    Thread(String),
}

impl From<ChangeError> for WriteError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Topic(error) => Self::Topic(error),
            error => Self::Change(Box::new(error)),
        }
    }
}
