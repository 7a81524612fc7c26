//! Options that would break a promise, contradict each other, or do not exist.

use std::time::Duration;

use anyhow::Result;
use kafka_group::{AtLimit, ConfigError, GroupBuilder, RetryPolicy};

use crate::says;
use crate::support::{EARLIEST, Log, member_of};

fn refusal(builder: GroupBuilder) -> ConfigError {
    builder.handler(Log::default()).expect_err("it should be refused")
}

fn member() -> GroupBuilder {
    member_of("127.0.0.1:1", "group", "topic")
}

#[test]
fn options_that_would_break_a_promise_are_refused_with_the_reason_and_the_remedy() {
    for (key, value, remedy) in [
        ("enable.auto.commit", "true", "`commits`"),
        ("enable.auto.offset.store", "true", "kept here"),
        ("auto.commit.interval.ms", "100", "`commits`"),
        ("auto.offset.reset", "latest", "`Start`"),
        ("group.id", "another", "`GroupBuilder::new`"),
        ("bootstrap.servers", "127.0.0.1:2", "`GroupBuilder::new`"),
        ("metadata.broker.list", "127.0.0.1:2", "`GroupBuilder::new`"),
        ("group.protocol", "consumer", "`protocol`"),
        ("partition.assignment.strategy", "roundrobin", "`protocol`"),
        ("group.instance.id", "left", "`instance_id`"),
        ("session.timeout.ms", "1000", "`session_timeout`"),
        ("heartbeat.interval.ms", "100", "`session_timeout`"),
        ("max.poll.interval.ms", "1000", "`max_poll_interval`"),
        ("statistics.interval.ms", "0", "watchdog"),
        // Older names of the same options, which librdkafka still takes.
        ("auto.commit.enable", "true", "`commits`"),
        ("enable.auto.commit ", "true", ""),
    ] {
        let error = refusal(member().option(key, value));
        says(&error, &[key.trim_end(), value, remedy]);
    }
}

#[test]
fn options_that_do_not_exist_or_have_no_such_value_are_named() {
    for (key, value) in [("no.such.option", "1"), ("fetch.min.bytes", "many"), ("isolation.level", "none")] {
        let error = refusal(member().option(key, value));
        assert!(matches!(error, ConfigError::Client(_)), "{error:?}");
        says(&error, &[key]);
    }
}

#[test]
fn what_is_missing_or_contradicts_itself_is_said() {
    let none: [&str; 0] = [];
    let attempts = std::num::NonZeroU32::MIN;
    let nothing = |mut budget: kafka_group::Amount| {
        budget.records = 0;
        budget
    };
    let some = kafka_group::Amount { records: 1, bytes: 1 };
    for (builder, words) in [
        (GroupBuilder::new("127.0.0.1:1", "group", none, EARLIEST), "at least one topic"),
        (GroupBuilder::new("127.0.0.1:1", "group", [""], EARLIEST), "topic"),
        (GroupBuilder::new("127.0.0.1:1", "", ["topic"], EARLIEST), "name of its group"),
        (GroupBuilder::new("", "group", ["topic"], EARLIEST), "address of a broker"),
        (member().dead_letters("topic"), "round for ever"),
        (member().dead_letters(""), "topic"),
        (member().retries(RetryPolicy::new(attempts, AtLimit::DeadLetter)), "`dead_letters`"),
        (member().max_poll_interval(Duration::from_secs(1)), "poll interval"),
        (member().session_timeout(Duration::ZERO), "session"),
        (member().instance_id(""), "instance"),
        (member().budget(nothing(some)), "budget"),
        (member().without_headers().dead_letters("letters"), "headers"),
    ] {
        says(&refusal(builder), &[words]);
    }
}

#[test]
fn a_password_is_in_no_error_and_no_debug() -> Result<()> {
    let secret = "hunter2-hunter2";
    let builder = member().option("sasl.password", secret).option("fetch.min.bytes", "many");
    assert!(!format!("{builder:?}").contains(secret), "{builder:?}");
    let error = refusal(builder);
    assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    let member = member().option("sasl.password", secret).handler(Log::default())?;
    assert!(!format!("{member:?}").contains(secret), "{member:?}");
    Ok(())
}
