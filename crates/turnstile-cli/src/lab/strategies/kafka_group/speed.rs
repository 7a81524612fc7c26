//! How many records a second, and how long one takes from being produced to being handled.

use std::time::Instant;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::orders::{Join, Lanes, Left, Order};
use super::{PARTITIONS, SESSION, come, gather, join};
use crate::lab::crew::Worker;
use crate::lab::figures::Figure;
use crate::lab::kafka::{PATIENCE, Pace, Scene, Trial};
use crate::lab::latency::Latency;
use crate::lab::metrics::Records;
use crate::lab::tally::Tally;

const PROCESSES: u32 = 2;
/// How many records are produced between two looks at the clock, and how many there are at the most.
const BATCH: u64 = 20_000;
const MOST: u64 = 4_000_000;
/// What a partition has in hand before anything is handled: it is not measured.
const IN_HAND: u64 = 10_000;
const PACED: u64 = 1000;

/// Both and their charts, by kafka-group's workers in order or in lanes.
pub async fn measure(trial: &Trial<'_>, lanes: Option<&Lanes>) -> Result<(Records, Vec<Figure>)> {
    let mut records = Records {
        processes: PROCESSES,
        partitions: PARTITIONS,
        session_ms: u64::try_from(SESSION.as_millis())?,
        ..Records::default()
    };
    let full = throughput(trial, &mut records, lanes).await?;
    let figures = vec![latency(trial, &mut records, lanes).await?, full];
    Ok((records, figures))
}

/// Records without an end, and handlers with nothing to do.
async fn throughput(trial: &Trial<'_>, records: &mut Records, lanes: Option<&Lanes>) -> Result<Figure> {
    let scene = trial.scene("full", PARTITIONS).await?;
    trial.phase("speed: filling a topic");
    let begun = Instant::now();
    let mut produced = 0;
    while produced < MOST && (produced == 0 || begun.elapsed() < trial.lab.time) {
        let batch = (produced..produced + BATCH).map(|number| (number.to_string(), format!("{:<100}", 0)));
        produced += trial.server.produce(&scene.topic, None, batch).await?.len() as u64;
    }
    trial.phase(&format!("speed: {PROCESSES} processes, {PARTITIONS} partitions, {produced} records of 100 bytes"));
    let skip = (IN_HAND * PARTITIONS as u64).min(produced / 4) / u64::from(PROCESSES);
    let mut workers = members(&scene, true, lanes).await?;
    for worker in &mut workers {
        worker.ask::<()>(&Order::Go { skip }).await?;
    }
    let left = finish(workers, produced).await?;
    let measured: u64 = left.iter().map(|left| left.measured).sum();
    let first = left.iter().filter(|left| left.measured > 0).map(|left| left.first).min().unwrap_or(0);
    let last = left.iter().map(|left| left.last).max().unwrap_or(0);
    ensure!(last > first, "too few records were handled to measure anything");
    records.records = produced;
    records.per_second = measured as f64 / ((last - first) as f64 / 1e9);
    let mut tally = Tally::default();
    left.iter().for_each(|left| tally.add(&left.tally));
    Ok(Figure::rate("A full topic, worked off", "records a second", tally, Vec::new()))
}

/// A steady pace, far below what it could be.
async fn latency(trial: &Trial<'_>, records: &mut Records, lanes: Option<&Lanes>) -> Result<Figure> {
    trial.phase(&format!("latency: {PACED} records a second, {:?}", trial.lab.time));
    let scene = trial.scene("paced", PARTITIONS).await?;
    let workers = members(&scene, false, lanes).await?;
    let producer = scene.producer(Pace { per_second: PACED, poison: None, recorded: false })?;
    sleep(trial.lab.time).await;
    let produced = producer.end()?.records;
    let left = finish(workers, produced).await?;
    let mut times = Latency::default();
    left.iter().for_each(|left| times.add(&left.times));
    records.paced_per_second = PACED;
    records.p50_us = times.micros(0.5);
    records.p99_us = times.micros(0.99);
    Ok(Figure::latency("a record, from produced to handled", times))
}

async fn members(scene: &Scene, gated: bool, lanes: Option<&Lanes>) -> Result<Vec<Worker>> {
    let mut workers = scene.workers(PROCESSES).await?;
    let plain =
        |number| Join { work_ms: 0, recorded: false, gated, lanes: lanes.cloned(), ..join(scene, number, None) };
    let joins: Vec<_> = (0..PROCESSES).map(plain).collect();
    gather(scene, &mut workers, &joins).await?;
    Ok(workers)
}

/// Waits until they have handled so many, and lets them leave.
async fn finish(mut workers: Vec<Worker>, records: u64) -> Result<Vec<Left>> {
    let all = come(&mut workers, PATIENCE, |all| all.iter().map(|one| one.handled).sum::<u64>() >= records).await?;
    ensure!(all.is_some(), "{records} records were not handled within {PATIENCE:?}");
    let mut left = Vec::with_capacity(workers.len());
    for worker in &mut workers {
        left.push(worker.ask(&Order::Leave).await?);
    }
    Ok(left)
}
