//! What a recorder is told of leases.
#![cfg(not(feature = "_shuttle"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::sleep;
use turnstile_core::memory::MemoryServer;
use turnstile_core::{Clock, LeaseManager, LeaseOptions, Lock, LostReason, TokioClock};

/// By how much each metric changed since it was read last; a histogram, how many values it got.
fn read(snapshotter: &Snapshotter) -> impl Fn(&str) -> f64 {
    let all = snapshotter.snapshot().into_vec();
    move |wanted| {
        let values = all.iter().filter_map(|(key, .., value)| {
            let labels: Vec<&str> = key.key().labels().map(metrics::Label::value).collect();
            (format!("{} {}", key.key().name(), labels.join(" ")) == wanted).then_some(value)
        });
        values
            .map(|value| match value {
                DebugValue::Counter(count) => *count as f64,
                DebugValue::Gauge(value) => value.0,
                DebugValue::Histogram(values) => values.len() as f64,
            })
            .sum()
    }
}

/// Tokio's, and ahead of it by so many seconds.
#[derive(Debug)]
struct Ahead(TokioClock, Arc<AtomicU64>);

impl Clock for Ahead {
    fn now(&self) -> Duration {
        self.0.now() + Duration::from_secs(self.1.load(Ordering::Relaxed))
    }
}

#[test]
fn grants_waits_and_each_loss_are_counted_once_and_what_is_given_back_is_held_no_more() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let (server, ahead) = (MemoryServer::new(), Arc::new(AtomicU64::new(0)));
            let manager = LeaseManager::with_clock(server.clone(), Ahead(TokioClock::new(), ahead.clone()));
            let lock = |name: &str| manager.lock(name.into(), LeaseOptions::default());
            let (kept, revoked, expired, overlooked) = (
                lock("kept").acquire().await.unwrap(),
                lock("revoked").acquire().await.unwrap(),
                lock("expired").try_acquire().await.unwrap().unwrap(),
                lock("overlooked").acquire().await.unwrap(),
            );
            let value = read(&snapshotter);
            assert_eq!(value("turnstile_lease_granted_total memory"), 4.0);
            assert_eq!(value("turnstile_lease_held memory"), 4.0);
            assert_eq!(value("turnstile_lease_wait_seconds memory"), 3.0, "who does not wait has no wait");

            server.revoke("revoked");
            assert_eq!(revoked.lost().await, LostReason::Revoked);
            kept.release().await.unwrap();
            server.set_reachable(false);
            sleep(Duration::from_secs(20)).await;
            // The process stood still: the holder finds out before anybody else, and by giving back.
            ahead.store(60, Ordering::Relaxed);
            assert!(expired.check().is_err() && expired.check().is_err());
            let _ = overlooked.release().await;
            sleep(Duration::from_secs(60)).await;
            let value = read(&snapshotter);
            assert_eq!(value("turnstile_lease_lost_total memory revoked"), 1.0);
            assert_eq!(value("turnstile_lease_lost_total memory expired"), 2.0);
            assert!(value("turnstile_lease_renewals_failed_total memory") >= 2.0);
            assert_eq!(
                value("turnstile_lease_held memory"),
                -2.0,
                "a lease that was lost is its holder's to give back"
            );

            drop((revoked, expired));
            manager.shutdown().await;
            let value = read(&snapshotter);
            assert_eq!(value("turnstile_lease_held memory"), -2.0);
            assert!(value("turnstile_lease_releases_unconfirmed_total memory") >= 1.0);
        });
    });
}
