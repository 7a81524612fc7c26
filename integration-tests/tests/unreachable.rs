//! Servers that do not answer: holders are told by their deadline, callers within their limit, and nothing is left.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use redis_lock::{Client, ErrorKind, Lock, LostReason, ReleaseOutcome};
use tokio::time::timeout;
use turnstile_integration_tests::{LONG, SAFETY_NET, connect, lock_value, long, name, process, refusal, ttl, until};
use turnstile_testkit::redis::{Redis, RedisProxy, Server};

/// What a caller gives it.
const LIMIT: Duration = Duration::from_millis(1_200);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Killed,
    Stopped,
    HalfOpen,
    CutOff,
}

impl Fault {
    async fn strike(self, server: &mut Server, proxy: &RedisProxy) {
        match self {
            Self::Killed => server.kill().await.unwrap(),
            Self::Stopped => server.stop().await.unwrap(),
            Self::HalfOpen => proxy.half_open(),
            Self::CutOff => {
                proxy.refuse();
                proxy.cut();
            }
        }
    }

    async fn heal(self, server: &mut Server, proxy: &RedisProxy) {
        match self {
            Self::Killed => server.restart().await.unwrap(),
            Self::Stopped => server.cont().await.unwrap(),
            Self::HalfOpen | Self::CutOff => proxy.pass(),
        }
    }
}

async fn strikes(fault: Fault) {
    let mut server = Redis::start().await.unwrap();
    let proxy = server.proxy().await.unwrap();
    let locks = process(proxy.url()).await;
    let [held, given_back, tried, waited, queued] = ["held", "given back", "tried", "waited", "queued"].map(name);
    let held = locks.lock(&held).unwrap().with_options(ttl(1_500)).acquire().await.unwrap();
    let released = locks.lock(&given_back).unwrap().with_options(long()).acquire().await.unwrap();
    let lost = held.lost();

    fault.strike(&mut server, &proxy).await;

    let mutex = |name: &str| locks.lock(name).unwrap().with_options(long());
    let (one, two, three) = (mutex(&tried), mutex(&waited), mutex(&queued).with_options(long().max_outage(LIMIT)));
    let outcomes = async {
        tokio::join!(
            one.try_acquire(),
            two.acquire_timeout(LIMIT),
            three.acquire(),
            three.acquire(),
            released.release()
        )
    };
    let (one, two, three, behind, given) = timeout(SAFETY_NET, outcomes).await.expect("within the limits of all");
    for error in [refusal(one), refusal(two), refusal(three), refusal(behind)] {
        assert!(matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::TimedOut), "{fault:?}: {error}");
        let advice = ["ee that the server runs", "ee whether the server hangs", "try again", "raise `maxclients`"];
        assert!(advice.iter().any(|advice| error.to_string().contains(advice)), "{fault:?}: {error}");
    }
    let given = given.unwrap_err();
    assert!(given.ends_within <= LONG && given.source.kind().is_transient(), "{fault:?}: {given}");

    assert_eq!(timeout(SAFETY_NET, lost).await.unwrap(), LostReason::Expired, "{fault:?}");
    assert_eq!(held.remaining(), Duration::ZERO);
    let gone = held.check().unwrap_err();
    assert!(gone.to_string().contains("stop what relies on it"), "{gone}");

    fault.heal(&mut server, &proxy).await;

    let client = connect(server.url()).await;
    for left in [&given_back, &tried, &waited, &queued] {
        until("what was in doubt is undone", async || lock_value(&client, left).await.is_none()).await;
    }
    assert!(held.check().is_err(), "lost for good");
    let lease = mutex(&tried).acquire_timeout(SAFETY_NET).await.unwrap();
    lease.check().unwrap();
    assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    drop(held);
    timeout(SAFETY_NET, locks.manager().shutdown()).await.expect("shut down");
}

#[tokio::test]
async fn a_server_that_dies() {
    strikes(Fault::Killed).await;
}

#[tokio::test]
async fn a_server_that_hangs() {
    strikes(Fault::Stopped).await;
}

#[tokio::test]
async fn a_network_that_is_half_open() {
    strikes(Fault::HalfOpen).await;
}

#[tokio::test]
async fn a_network_that_is_cut() {
    strikes(Fault::CutOff).await;
}

#[tokio::test]
async fn a_hang_that_is_shorter_than_the_time_to_live_loses_nothing() {
    let server = Redis::start().await.unwrap();
    let locks = process(server.url()).await;
    let (mutex, read) = (locks.lock(name("hang")).unwrap(), locks.read(name("hang")).unwrap());
    let [one, two] = [mutex, read].map(|lock| lock.with_options(ttl(6_000)));
    let leases = [one.acquire().await.unwrap(), two.acquire().await.unwrap()];
    server.stop().await.unwrap();
    until("a renewal fails", async || leases.iter().all(|lease| lease.remaining() < Duration::from_millis(3_700)))
        .await;
    server.cont().await.unwrap();
    for lease in leases {
        until("it is renewed after all", async || lease.remaining() > Duration::from_millis(4_000)).await;
        assert_eq!(lease.release().await.unwrap(), ReleaseOutcome::Released);
    }
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_and_comes_up_later() {
    let mut server = Redis::start().await.unwrap();
    server.kill().await.unwrap();
    let error = Client::connect(server.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("see that the server runs there"), "{error}");

    let locks = redis_lock::RedisLocks::new(Client::new(server.url()).unwrap());
    let lock = locks.lock(name("later")).unwrap();
    for error in [
        refusal(lock.try_acquire().await),
        refusal(lock.acquire_timeout(LIMIT).await),
        refusal(lock.clone().with_options(long().max_outage(Duration::ZERO)).acquire().await),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("see that the server runs there"), "{error}");
    }
    let waiting = tokio::spawn(async move { lock.with_options(long().max_outage(SAFETY_NET)).acquire().await });
    server.restart().await.unwrap();
    timeout(SAFETY_NET, waiting).await.unwrap().unwrap().unwrap().release().await.unwrap();
}
