//! A password is in the URL and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::error::Error;
use std::time::Duration;

use redis_lock::{Client, Lock, LostReason, RedisLocks};
use tokio::time::timeout;
use turnstile_integration_tests::{Log, SAFETY_NET, connect, name, ttl};
use turnstile_testkit::redis::Redis;

#[tokio::test]
async fn no_error_log_line_or_debug_output_shows_a_password() {
    const SECRET: &str = "s3cretOfTheServer";
    let log = Log::capture();
    let server = Redis::builder().password(SECRET).start().await.unwrap();
    let proxy = server.proxy().await.unwrap();
    let mut shown = Vec::new();

    // Without one, and with a wrong one.
    for user in ["", ":wr0ng@"] {
        let client = Client::new(format!("redis://{user}{}:{}", server.host(), server.port())).unwrap();
        shown.push(format!("{client:?}"));
        let lock = RedisLocks::new(client).lock(name("denied")).unwrap();
        shown.push(everything(&lock.try_acquire().await.unwrap_err()));
        shown.push(everything(&lock.acquire().await.unwrap_err()));
    }

    // With the right one, through all that goes wrong later.
    let builder = RedisLocks::builder(connect(proxy.url()).await).holder("holder");
    shown.push(format!("{builder:?}"));
    let locks = builder.build();
    let mutex = locks.lock(name("secret")).unwrap();
    let lease = mutex.clone().with_options(ttl(600)).acquire().await.unwrap();
    shown.push(format!("{lease:?} {:?} {:?}", locks.who(lease.name()).await, mutex.resource()));
    proxy.refuse();
    proxy.cut();
    let other = locks.lock(name("other")).unwrap().with_options(ttl(600));
    shown.push(everything(&other.try_acquire().await.unwrap_err()));
    shown.push(everything(&other.acquire_timeout(Duration::from_millis(300)).await.unwrap_err()));
    assert_eq!(lease.lost().await, LostReason::Expired);
    shown.push(everything(&lease.check().unwrap_err()));
    shown.push(everything(&lease.release().await.unwrap_err()));
    shown.push(everything(&locks.who("x").await.unwrap_err()));
    for error in timeout(SAFETY_NET, locks.manager().shutdown()).await.unwrap() {
        shown.push(everything(&error));
    }

    shown.push(log.text());
    assert!(log.text().contains("not connected") && log.text().contains("lease lost"), "captured: {}", log.text());
    for text in &shown {
        assert!(!text.contains(SECRET) && !text.contains("wr0ng"), "{text}");
    }
}

/// All that an error can say: as text, as Debug, its sources too.
fn everything(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text += &format!("{error} {error:?} {error:#?} ");
        next = error.source();
    }
    text
}
