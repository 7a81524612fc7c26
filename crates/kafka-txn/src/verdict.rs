//! Errors by class: the same call again, abort, make the producer anew, or give up.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

/// What an error of a transaction's call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same call again.
    Again,
    /// The transaction is to be aborted.
    Abort,
    /// The producer is of no use any more.
    Rebuild,
    /// The same, and another producer may have taken over its id.
    Fenced,
    /// It is forbidden.
    Denied,
    /// The brokers cannot do it.
    Unsupported,
}

pub(crate) fn of(error: &KafkaError) -> Verdict {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    let (retriable, abort) = match error {
        KafkaError::Transaction(error) => (error.is_retriable(), error.txn_requires_abort()),
        _ => (false, false),
    };
    match code {
        _ if is_denied(code) => Verdict::Denied,
        Code::UnsupportedFeature | Code::UnsupportedVersion | Code::UnsupportedForMessageFormat => Verdict::Unsupported,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Verdict::Fenced,
        _ if abort => Verdict::Abort,
        _ if retriable => Verdict::Again,
        // In a flush: it is not over yet.
        Code::OperationTimedOut if matches!(error, KafkaError::Flush(_)) => Verdict::Again,
        _ => Verdict::Rebuild,
    }
}

/// What became of an output that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The output itself is at fault.
    Output,
    /// It, or one of those that were sent together with it.
    Company,
    /// Nobody: it went down with others.
    Nobody,
    /// The brokers: it may work at another time.
    Brokers,
    /// It is forbidden.
    Denied,
}

pub(crate) fn blame(error: &KafkaError) -> Blame {
    match error.rdkafka_error_code().unwrap_or(Code::Unknown) {
        code if is_denied(code) => Blame::Denied,
        // Brokers judge batches, and not the records in them.
        Code::MessageSizeTooLarge | Code::InvalidMessage | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            Blame::Company
        }
        Code::InvalidRecord | Code::InvalidTimestamp => Blame::Company,
        Code::UnknownPartition
        | Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::InvalidTopic
        | Code::InvalidArgument => Blame::Output,
        Code::PurgeQueue | Code::PurgeInflight | Code::State | Code::Fatal => Blame::Nobody,
        _ => Blame::Brokers,
    }
}

fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
    )
}
