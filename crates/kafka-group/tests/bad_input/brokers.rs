//! Where no Kafka answers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use anyhow::Result;
use kafka_group::RunError;

use crate::support::{Log, Running, member_of};
use crate::{end, failure, says};

/// Something that listens, and answers whatever comes with `answer`; or with nothing at all.
fn something_else(answer: Option<&'static [u8]>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut asked = [0; 1024];
                while let Ok(1..) = stream.read(&mut asked) {
                    let _ = answer.map(|answer| stream.write_all(answer));
                }
            });
        }
    });
    Ok(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_the_run_fails_within_its_limit_and_says_where_it_looked() -> Result<()> {
    let http = something_else(Some(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))?;
    let redis = something_else(Some(b"-ERR unknown command\r\n"))?;
    let huge = something_else(Some(&[0x7f; 64]))?;
    let silent = something_else(None)?;
    for brokers in ["127.0.0.1:1", &http, &redis, &huge, &silent, "no-such-host.invalid:9092", "127.0.0.1:port"] {
        let error = failure(member_of(brokers, "group", "topic").connect_timeout(Duration::from_secs(1))).await?;
        assert!(matches!(error, RunError::Unreachable { .. }), "{brokers}: {error:?}");
        says(&error, &[brokers, "1s", "check the address"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_brokers_that_are_not_there() -> Result<()> {
    let silent = something_else(None)?;
    for brokers in ["127.0.0.1:1", &silent] {
        let member = member_of(brokers, "group", "topic").connect_timeout(Duration::from_secs(3600));
        let report = end(Running::start(member.handler(Log::default())?)).await?;
        assert_eq!((report.done, report.handed_back), (0, 0), "{brokers}");
    }
    Ok(())
}
