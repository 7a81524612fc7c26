//! What librdkafka calls on the polling thread, in the middle of a poll.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::Engine;

pub(crate) struct Context(pub Arc<Engine>);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.served.store(true, Ordering::Relaxed);
        self.0.note_statistics(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.served.store(true, Ordering::Relaxed);
        self.0.note_trouble(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.0.served.store(true, Ordering::Relaxed);
        metrics::counter!(crate::metric::REBALANCES, "group" => self.0.settings.group.to_string()).increment(1);
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.0.assigned(consumer, list);
        } else if consumer.assignment_lost() {
            self.0.lost(consumer, list);
        } else {
            self.0.revoked(consumer, list);
        }
        // No sign of life if the process stood still meanwhile.
        self.0.pulse.still_alive();
    }
}

/// librdkafka's own words, into `tracing`: for the context of another client beside the member's. It says much aloud that
/// it mends by itself.
pub fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(target: "librdkafka", fac, message);
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", fac, message);
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", fac, message),
    }
}
