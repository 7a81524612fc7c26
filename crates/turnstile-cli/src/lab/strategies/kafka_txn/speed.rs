//! How many records a second are copied, and how long one takes until its copy is read as committed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::time::sleep;

use super::{Order, PARTITIONS, PROCESSES, Standing, come, scene};
use crate::lab::clock;
use crate::lab::kafka::{PATIENCE, Pace, Trial, client};
use crate::lab::latency::Latency;
use crate::lab::metrics::Copies;

/// How many records are produced between two looks at the clock, and how many there are at the most.
const BATCH: u64 = 20_000;
const MOST: u64 = 1_000_000;
const PACED: u64 = 1000;

/// A topic that is full.
pub async fn throughput(trial: &Trial<'_>, copies: &mut Copies) -> Result<()> {
    let (scene, job) = scene(trial, "full").await?;
    trial.phase("speed: filling a topic");
    let begun = Instant::now();
    let mut produced = 0;
    while produced < MOST && (produced == 0 || begun.elapsed() < trial.lab.time / 4) {
        let batch = (produced..produced + BATCH).map(|number| (number.to_string(), format!("{:<100}", 0)));
        produced += trial.server.produce(&scene.topic, None, batch).await?.len() as u64;
    }
    trial.phase(&format!("speed: {PROCESSES} processes copy {produced} records of 100 bytes"));
    let mut workers = scene.workers(PROCESSES).await?;
    for worker in &mut workers {
        worker.ask::<()>(&Order::Copy(job.clone())).await?;
    }
    come(&mut workers, "the last record", |all| all.iter().map(|one| one.handled).sum::<u64>() >= produced).await?;
    let mut left = Vec::new();
    for worker in &mut workers {
        left.push(worker.ask::<Standing>(&Order::Leave).await?);
    }
    let first = left.iter().map(|left| left.first).filter(|first| *first > 0).min().unwrap_or(0);
    let last = left.iter().map(|left| left.last).max().unwrap_or(0);
    ensure!(last > first, "nothing was copied");
    copies.records = produced;
    copies.per_second = produced as f64 / ((last - first) as f64 / 1e9);
    Ok(())
}

/// A steady pace, far below what it could be.
pub async fn latency(trial: &Trial<'_>, copies: &mut Copies) -> Result<Latency> {
    trial.phase(&format!("latency: {PACED} records a second, {:?}", trial.lab.time));
    let (scene, job) = scene(trial, "paced").await?;
    let mut workers = scene.workers(PROCESSES).await?;
    for worker in &mut workers {
        worker.ask::<()>(&Order::Copy(job.clone())).await?;
    }
    let all = |all: &[Standing]| all.iter().map(|one| one.partitions).sum::<usize>() == PARTITIONS as usize;
    come(&mut workers, "the assignment", all).await?;
    let producer = scene.producer(Pace { per_second: PACED, poison: None, recorded: false })?;
    let (brokers, to) = (scene.brokers.clone(), job.to.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let reader = tokio::task::spawn_blocking(move || read(&brokers, &to, &told));
    sleep(trial.lab.time).await;
    tell.send(producer.end()?.records).context("the reader has ended")?;
    let times = reader.await??;
    for worker in &mut workers {
        worker.ask::<Standing>(&Order::Leave).await?;
    }
    copies.paced_per_second = PACED;
    copies.p50_us = times.micros(0.5);
    copies.p99_us = times.micros(0.99);
    Ok(times)
}

/// Reads copies until there are as many as it is told.
fn read(brokers: &str, topic: &str, told: &std::sync::mpsc::Receiver<u64>) -> Result<Latency> {
    let mut config = client(brokers);
    let reader: BaseConsumer = config.set("group.id", "reader").set("isolation.level", "read_committed").create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    reader.assign(&list)?;
    let (mut times, mut seen, mut total) = (Latency::default(), 0, None);
    let until = Instant::now() + PATIENCE * 10;
    while total.is_none_or(|total| seen < total) {
        ensure!(Instant::now() < until, "the copies do not come");
        total = total.or_else(|| told.try_recv().ok());
        let Some(record) = reader.poll(Duration::from_millis(10)) else { continue };
        let record = record?;
        seen += 1;
        let text = std::str::from_utf8(record.payload().unwrap_or_default())?;
        let at: u64 = text.rsplit(' ').next().unwrap_or_default().parse()?;
        // The first ones, which tell no time, have none.
        if at > 0 {
            times.record(clock::now().saturating_sub(at));
        }
    }
    Ok(times)
}
