//! Errors: what passes by itself, what ends the consumer, what ends the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::context::Context;
use super::topics::partitions_of;
use super::{End, Engine, NAP, REBUILDS};
use crate::builder::Protocol;
use crate::error::RunError;

/// How long a topic that is not known may still be on its way to the brokers.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Before the first join: is there a broker, are there the topics, may we read them?
    pub(super) fn look_around(&self, consumer: &BaseConsumer<Context>) -> Result<(), RunError> {
        let until = Instant::now() + self.settings.connect_timeout;
        let patience = Instant::now() + self.settings.connect_timeout.min(PATIENCE);
        for topic in self.settings.topics.iter().chain(&self.settings.dead_letters) {
            // In slices, so that a shutdown is not kept waiting.
            loop {
                if self.shutdown.is_begun() {
                    return Ok(());
                }
                let source = match partitions_of(consumer, topic, NAP * 20) {
                    Ok(Ok(_)) => break,
                    Ok(Err(code)) if is_denied(code) => {
                        return Err(RunError::Denied { source: KafkaError::MetadataFetch(code) });
                    }
                    Ok(Err(Code::InvalidTopic)) => return Err(RunError::UnknownTopic { topic: topic.clone() }),
                    Ok(Err(Code::UnknownTopicOrPartition | Code::UnknownTopic)) if Instant::now() >= patience => {
                        return Err(RunError::UnknownTopic { topic: topic.clone() });
                    }
                    // One that was made just now is not known to every broker at once.
                    Ok(Err(code)) => KafkaError::MetadataFetch(code),
                    Err(error) => error,
                };
                self.pulse.beat();
                if source.rdkafka_error_code().is_some_and(is_denied) {
                    return Err(RunError::Denied { source });
                }
                if Instant::now() >= until {
                    let (brokers, limit) = (self.settings.brokers.clone(), self.settings.connect_timeout);
                    return Err(RunError::Unreachable { brokers, limit, source });
                }
                std::thread::park_timeout(NAP);
            }
        }
        Ok(())
    }

    /// An error that came instead of a record.
    pub(super) fn judge(&self, consumer: &BaseConsumer<Context>, error: KafkaError) -> Result<(), End> {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        match code {
            Code::PartitionEOF => return Ok(()),
            _ if is_denied(code) => return Err(End::Failed(RunError::Denied { source: error })),
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => return Err(End::Rebuild(error)),
            Code::FencedInstanceId | Code::UnreleasedInstanceId | Code::Fatal => return Err(End::Rebuild(error)),
            Code::AutoOffsetReset | Code::OffsetOutOfRange => return Err(End::Failed(self.out_of_range(consumer))),
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                self.state.lock().topics.at_once()
            }
            _ => {}
        }
        self.note_trouble(&error, "");
        Ok(())
    }

    /// What the client complains of, and mends by itself.
    pub(super) fn note_trouble(&self, error: &KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "the client goes on trying");
        self.state.lock().trouble = Some(match reason {
            "" => error.to_string().into(),
            reason => Arc::from(reason),
        });
    }

    /// Whether there is no sense in another client after this.
    pub(super) fn hopeless(&self, source: KafkaError, failures: u32) -> Option<RunError> {
        let instance = self.settings.instance.clone();
        match (source.rdkafka_error_code(), instance) {
            // Classic: whoever comes later fences the earlier one off. Coming back would fence that one off in turn.
            (Some(Code::FencedInstanceId), Some(instance)) if self.settings.protocol != Protocol::Consumer => {
                Some(RunError::InstanceTaken { instance })
            }
            // KIP-848: the earlier one keeps the name until it leaves, or its session ends.
            (Some(Code::FencedInstanceId | Code::UnreleasedInstanceId), Some(instance)) => {
                (failures > REBUILDS * 2).then_some(RunError::InstanceTaken { instance })
            }
            (Some(code), _) if is_denied(code) => Some(RunError::Denied { source }),
            (Some(Code::UnsupportedVersion), _) => Some(RunError::Unsupported { source }),
            _ => (failures > REBUILDS).then_some(RunError::Client { source }),
        }
    }
}

fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
    )
}
